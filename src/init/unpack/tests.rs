use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::*;
use crate::init::testing::{self, Items, file};
use crate::protocol::manifest::ObjectFormat;

fn options(git: bool) -> Options {
    Options {
        agent_uid: rustix::process::geteuid().as_raw(),
        subdirectory: None,
        commit_subject: git.then(|| "Fix the\nthing".to_owned()),
        unix_seconds: 1_700_000_000,
        workers: 3,
    }
}

fn unpack_into(dir: &Path, items: Items, format: ObjectFormat, options: &Options) -> (std::path::PathBuf, Manifest, io::Result<Unpacked>) {
    let workspace = dir.join("workspace");
    std::fs::create_dir(&workspace).unwrap();
    let manifest = testing::deliver(dir, items, format, 40_000);
    let root = OwnedFd::from(File::open(&workspace).unwrap());
    let done = unpack(&root, &manifest, &testing::frames(dir, &manifest), options);
    (workspace, manifest, done)
}

fn awkward() -> Items {
    let mut items: Items = (0..400).map(|i| file(&format!("src/m{}/f{i}.rs", i % 17), format!("line {i}\n").repeat(i))).collect();
    items.extend([
        file("a-b", "1"),
        file("a.c", "2"),
        file("a/x", "3"),
        file("a/x.d/deep/er", "same"),
        file("a0", "same"),
        file("empty", ""),
        file("other-empty", ""),
        file("big", (0..300_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()),
        (b"run.sh".to_vec(), Mode::Executable, b"#!/bin/sh\n".to_vec()),
        (b"link".to_vec(), Mode::Symlink, b"../../etc/passwd".to_vec()),
        (b"src/m1/link".to_vec(), Mode::Symlink, b"f1.rs".to_vec()),
        (b"vendor/lib".to_vec(), Mode::Submodule, Vec::new()),
        (b"new\nline\t\"\xff".to_vec(), Mode::File, b"odd".to_vec()),
        (b"-rf".to_vec(), Mode::File, b"dash".to_vec()),
        ("n".repeat(255).into_bytes(), Mode::File, b"long".to_vec()),
    ]);
    items
}

fn git(workspace: &Path, args: &[&str]) -> String {
    let mut command = crate::process::command("git", workspace);
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").args(args);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned();
    assert!(output.status.success(), "git {args:?}: {text}");
    text
}

#[test]
fn the_tree_is_what_was_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let (workspace, manifest, stamps) = unpack_into(dir.path(), awkward(), ObjectFormat::Sha1, &options(false));
    let stamps = stamps.unwrap().stamps;
    assert_eq!(stamps.len(), manifest.entries.len());
    for (entry, stamp) in manifest.entries.iter().zip(&stamps) {
        let path = workspace.join(entry.path.to_path());
        let found = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(found.ino(), stamp.ino, "{path:?}");
        assert_eq!(found.ctime() * 1_000_000_000 + found.ctime_nsec(), stamp.ctime_ns);
        match entry.mode {
            Mode::File => assert_eq!(found.permissions().mode() & 0o7777, 0o644),
            Mode::Executable => assert_eq!(found.permissions().mode() & 0o7777, 0o755),
            Mode::Symlink => assert!(found.is_symlink()),
            Mode::Submodule => assert!(found.is_dir()),
        }
        if found.is_file() {
            assert_eq!(ObjectFormat::Sha1.hash("blob", &std::fs::read(&path).unwrap()), entry.id);
        }
    }
    assert_eq!(std::fs::read_link(workspace.join("link")).unwrap(), Path::new("../../etc/passwd"));
    assert!(!workspace.join(".git").exists());
}

#[test]
fn git_finds_nothing_wrong_with_the_repository() {
    for format in [ObjectFormat::Sha1, ObjectFormat::Sha256] {
        let dir = tempfile::tempdir().unwrap();
        let (workspace, manifest, stamps) = unpack_into(dir.path(), awkward(), format, &options(true));
        stamps.unwrap();
        let fsck = git(&workspace, &["fsck", "--full", "--strict", "--no-dangling"]);
        assert!(!fsck.contains("missing") && !fsck.contains("error"), "{fsck}");
        assert_eq!(git(&workspace, &["status", "--porcelain"]), "");
        assert_eq!(git(&workspace, &["diff", "--stat", "HEAD"]), "");
        assert_eq!(git(&workspace, &["log", "--format=%s|%an"]), "Fix thething|Anchorhold\n");
        assert_eq!(git(&workspace, &["ls-files", "-z"]).matches('\0').count(), manifest.entries.len());
        assert_eq!(git(&workspace, &["write-tree"]), git(&workspace, &["rev-parse", "HEAD^{tree}"]));
        // Rebuilt without the cached tree ids it is the same tree.
        std::fs::remove_file(workspace.join(".git/index")).unwrap();
        git(&workspace, &["read-tree", "HEAD"]);
        assert_eq!(git(&workspace, &["write-tree"]), git(&workspace, &["rev-parse", "HEAD^{tree}"]));
        git(&workspace, &["reset", "-q"]);
        // The agent's own work.
        std::fs::write(workspace.join("a/x"), "edited\n").unwrap();
        assert_eq!(git(&workspace, &["status", "--porcelain"]), " M a/x\n");
        assert!(git(&workspace, &["diff"]).contains("+edited"));
        git(&workspace, &["commit", "-qam", "work"]);
        assert_eq!(git(&workspace, &["status", "--porcelain"]), "");
    }
}

#[test]
fn git_status_reads_no_file_after_unpacking() {
    let dir = tempfile::tempdir().unwrap();
    let (workspace, _, stamps) = unpack_into(dir.path(), vec![file("a", "one\n"), file("b/c", "two\n")], ObjectFormat::Sha1, &options(true));
    stamps.unwrap();
    let index = std::fs::metadata(workspace.join(".git/index")).unwrap();
    for name in ["a", "b/c"] {
        let found = std::fs::metadata(workspace.join(name)).unwrap();
        assert!((index.mtime(), index.mtime_nsec()) > (found.mtime(), found.mtime_nsec()), "racily clean: {name}");
    }
    // With stat data that does not match, git would have to look at the content.
    assert_eq!(git(&workspace, &["diff-files"]), "");
}

#[test]
fn an_empty_tree_has_a_repository_too() {
    let dir = tempfile::tempdir().unwrap();
    let (workspace, _, stamps) = unpack_into(dir.path(), Vec::new(), ObjectFormat::Sha1, &options(true));
    assert_eq!(stamps.unwrap().stamps.len(), 0);
    git(&workspace, &["fsck", "--strict"]);
    assert_eq!(git(&workspace, &["status", "--porcelain"]), "");
}

#[test]
fn a_large_tree_gets_its_blobs_later() {
    let dir = tempfile::tempdir().unwrap();
    let items = (0..60u32).map(|i| file(&format!("d{}/f{i}", i % 5), (0..120_000u32).flat_map(|n| (n * (i + 1)).to_le_bytes()).collect::<Vec<_>>()));
    let (workspace, manifest, done) = unpack_into(dir.path(), items.collect(), ObjectFormat::Sha1, &options(true));
    let later = done.unwrap().later.unwrap();
    assert_eq!(git(&workspace, &["status", "--porcelain"]), "");
    later.pack_blobs(&manifest, &testing::frames(dir.path(), &manifest), 2).unwrap();
    let fsck = git(&workspace, &["fsck", "--full", "--strict"]);
    assert!(!fsck.contains("missing"), "{fsck}");
    std::fs::write(workspace.join("d1/f1"), "x\n").unwrap();
    assert!(git(&workspace, &["diff", "--stat"]).contains("d1/f1"));
}

#[test]
fn empty_files_need_no_frame() {
    let dir = tempfile::tempdir().unwrap();
    let (workspace, manifest, stamps) = unpack_into(dir.path(), vec![file("a", ""), file("b/c", "")], ObjectFormat::Sha1, &options(true));
    assert!(stamps.is_ok());
    assert_eq!(manifest.entries.len(), 2);
    assert!(workspace.join("a").is_file() && workspace.join("b/c").is_file());
    git(&workspace, &["fsck", "--strict"]);
    // A frame number beyond all frames is allowed for an empty file only.
    let dir = tempfile::tempdir().unwrap();
    let mut manifest = testing::deliver(dir.path(), vec![file("a", ""), file("b", "full")], ObjectFormat::Sha1, 40_000);
    manifest.entries[0].frame = 9;
    let workspace = dir.path().join("w");
    std::fs::create_dir(&workspace).unwrap();
    let root = OwnedFd::from(File::open(&workspace).unwrap());
    unpack(&root, &manifest, &testing::frames(dir.path(), &manifest), &options(true)).unwrap();
    assert!(workspace.join("a").is_file());
}

#[test]
fn the_subdirectory_is_made_but_never_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let into = |path: &str| Options { subdirectory: Some(RepoPath::parse(path.as_bytes()).unwrap()), ..options(false) };
    let (workspace, _, done) = unpack_into(dir.path(), vec![file("a/b", "x")], ObjectFormat::Sha1, &into("a/new/deep"));
    done.unwrap();
    assert!(workspace.join("a/new/deep").is_dir());
    let other = tempfile::tempdir().unwrap();
    let link = vec![(b"out".to_vec(), Mode::Symlink, b"/tmp".to_vec())];
    assert!(unpack_into(other.path(), link, ObjectFormat::Sha1, &into("out/x")).2.is_err());
}

#[test]
fn conflicts_and_lies_in_a_manifest_are_errors() {
    let check = |spoil: fn(&mut Manifest)| {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = testing::deliver(dir.path(), vec![file("a", "one"), file("b", "three")], ObjectFormat::Sha1, 40_000);
        spoil(&mut manifest);
        let workspace = dir.path().join("w");
        std::fs::create_dir(&workspace).unwrap();
        let root = OwnedFd::from(File::open(&workspace).unwrap());
        unpack(&root, &manifest, &testing::frames(dir.path(), &manifest), &options(true))
    };
    assert!(check(|_| {}).is_ok());
    // A file where a directory must be.
    assert!(check(|m| m.entries[1].path = RepoPath::parse(b"a/b").unwrap()).is_err());
    // Overlap, and more than the frame holds.
    assert!(check(|m| m.entries[1].offset = 1).is_err());
    assert!(check(|m| m.entries[1].size = 4000).is_err());
    // A link that stands where a directory must be.
    assert!(
        check(|m| {
            m.entries[0].mode = Mode::Symlink;
            m.entries[1].path = RepoPath::parse(b"a/b").unwrap();
        })
        .is_err()
    );
    assert!(check(|m| m.frames.clear()).is_err());
}

#[test]
fn a_damaged_frame_is_noticed() {
    // Bytes that do not compress: only the checksum can tell.
    let noise: Vec<u8> = (0..20_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let dir = tempfile::tempdir().unwrap();
    let manifest = testing::deliver(dir.path(), vec![file("noise", noise), file("z", "last")], ObjectFormat::Sha1, 40_000);
    let frame = dir.path().join("frames/00000.zst");
    let sound = std::fs::read(&frame).unwrap();
    for at in [1000, sound.len() / 2, sound.len() - 6, sound.len() - 1] {
        let mut damaged = sound.clone();
        damaged[at] ^= 1;
        std::fs::write(&frame, damaged).unwrap();
        let workspace = tempfile::tempdir().unwrap();
        let root = OwnedFd::from(File::open(workspace.path()).unwrap());
        assert!(unpack(&root, &manifest, &testing::frames(dir.path(), &manifest), &options(false)).is_err(), "at {at}");
    }
}
