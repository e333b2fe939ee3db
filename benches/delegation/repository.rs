//! Repositories and tasks to measure with.

use std::path::{Path, PathBuf};

use super::figures::timed;
use super::world::World;

/// One shell step, then the last word.
pub const ONE_STEP: &str = "Bench.\n```rehearsal\nshell echo measured >> file-1.txt\nmessage done\n```\n";
/// Changes ten files of many.
pub const TEN_FILES: &str =
    "Bench.\n```rehearsal\nshell for i in 0 1 2 3 4 5 6 7 8 9; do echo changed >> dir-$i/file-$i.txt; done\nmessage done\n```\n";
/// Keeps a cell running for a while.
pub const SLEEP: &str = "Bench.\n```rehearsal\nshell sleep 120\nmessage done\n```\n";

/// Three files.
pub fn tiny(world: &World) -> PathBuf {
    let dir = world.scratch.path().join("tiny");
    if !dir.exists() {
        std::fs::create_dir(&dir).expect("dir");
        for n in 0..3 {
            std::fs::write(dir.join(format!("file-{n}.txt")), "content\n").expect("file");
        }
        commit(world, &dir);
    }
    dir
}

/// 50,000 files, 285 MB, in 500 directories; kept between runs.
pub fn large(world: &World) -> PathBuf {
    let dir = world.cache.join("repository-50000");
    if dir.join(".git/HEAD").exists() && dir.join(".complete").exists() {
        return dir;
    }
    let _ = std::fs::remove_dir_all(&dir);
    // Text that zstd packs about as well as source code.
    let words = [
        "let", "value", "=", "compute(", "index,", "&table);", "return", "if", "error", "{", "}", "// the", "state", "of", "each", "entry", "fn",
        "match", "0x",
    ];
    let mut seed = 1u64;
    for d in 0..500 {
        let sub = dir.join(format!("dir-{d}"));
        std::fs::create_dir_all(&sub).expect("dir");
        for f in 0..100 {
            let mut text = String::with_capacity(6000);
            while text.len() < 5700 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let pick = (seed >> 33) as usize;
                text.push_str(words[pick % words.len()]);
                text.push(if pick.is_multiple_of(11) { '\n' } else { ' ' });
                if pick.is_multiple_of(5) {
                    text.push_str(&(pick % 100_000).to_string());
                }
            }
            std::fs::write(sub.join(format!("file-{f}.txt")), text).expect("file");
        }
    }
    commit(world, &dir);
    std::fs::write(dir.join(".complete"), "").expect("mark");
    dir
}

fn commit(world: &World, dir: &Path) {
    world.git(dir, &["init", "-q", "-b", "main", "."]);
    world.git(dir, &["add", "."]);
    world.git(dir, &["-c", "user.name=Bench", "-c", "user.email=bench@localhost", "commit", "-qm", "base"]);
}

/// `git worktree add` into the same file system; the removal is not measured.
pub fn worktree_add(world: &World, repo: &Path) -> f64 {
    let place = world.cache.join("worktree");
    let path = place.to_str().expect("utf-8");
    let seconds = timed(|| drop(world.git(repo, &["worktree", "add", "--detach", path, "HEAD"])));
    world.git(repo, &["worktree", "remove", "--force", path]);
    seconds
}
