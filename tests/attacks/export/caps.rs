//! Too much of everything: refused before a container is made, at the price of a look.

use super::host::{self, Attempt};
use crate::arena::Arena;
use crate::case::{Case, Group, Promise, Verdict, Verdicts, Weakening};
use crate::support::Repo;

pub const GROUP: Group = Group {
    name: "export-caps",
    cases: &[
        Case { id: "E13-sparse-file", promise: Promise::DenialOfService, tries: "a tracked file of 10 GiB that takes no room" },
        Case { id: "E13-many-bytes", promise: Promise::DenialOfService, tries: "tracked files that are over the cap only together" },
        Case { id: "E13-many-files", promise: Promise::DenialOfService, tries: "more tracked files than the cap allows" },
        Case { id: "E13-long-path", promise: Promise::DenialOfService, tries: "directories as deep as a path can name" },
        Case { id: "E13-index-count", promise: Promise::DenialOfService, tries: "an index that says it has four thousand million entries" },
        Case {
            id: "E13-index-bomb",
            promise: Promise::DenialOfService,
            tries: "an index of a megabyte that makes git answer with a thousand times that",
        },
    ],
    run,
    controls: &[
        Weakening::point(&["export.caps"], &["E13-sparse-file", "E13-many-bytes", "E13-many-files", "E13-long-path", "E13-index-count"]),
        Weakening::point(&["export.git_output"], &["E13-index-bomb"]),
    ],
    mutations: &[],
    no_control: &[],
};

/// Far above what refusing takes, far below what the bomb asks for.
const MEMORY_MIB: u64 = 240;

fn run(arena: &Arena, wanted: &[&str]) -> Verdicts {
    let repo = |script: &str| {
        let repo = arena.env.repo();
        repo.bash(&format!("{script}; git add -A; git commit -qm base"));
        repo
    };
    let judged = |attempt: &Attempt| Verdict::of(!attempt.refused_as(&["workspace_too_large"]), attempt.detail());
    let mut all = Vec::new();
    for id in wanted {
        let verdict = match *id {
            "E13-sparse-file" => {
                let repo = repo("echo small > f");
                repo.bash("truncate -s 10G f");
                judged(&host::attempt(arena, repo.path(), &[]))
            }
            "E13-many-bytes" => {
                let repo = repo("for n in 1 2 3; do head -c 2000 /dev/zero > f$n; done");
                judged(&host::attempt(arena, repo.path(), &[("ANCHORHOLD_WORKSPACE_MAX_BYTES", "5000")]))
            }
            "E13-many-files" => {
                let repo = repo("seq 101 | xargs touch");
                judged(&host::attempt(arena, repo.path(), &[("ANCHORHOLD_WORKSPACE_MAX_FILES", "100")]))
            }
            "E13-long-path" => {
                let repo = repo("d=$(printf 'd/%.0s' $(seq 500)); mkdir -p $d; touch ${d}f");
                judged(&host::attempt(arena, repo.path(), &[("ANCHORHOLD_WORKSPACE_MAX_PATH", "1000")]))
            }
            "E13-index-count" => {
                let repo = repo("echo x > f");
                std::fs::write(repo.path().join(".git/index"), b"DIRC\0\0\0\x02\xff\xff\xff\xff".repeat(10)).expect("index");
                judged(&host::attempt(arena, repo.path(), &[]))
            }
            "E13-index-bomb" => {
                let repo = repo("echo x > f");
                bomb(&repo, 6_000, 60_000);
                let attempt =
                    host::attempt(arena, repo.path(), &[("ANCHORHOLD_WORKSPACE_MAX_FILES", "5000"), ("ANCHORHOLD_WORKSPACE_MAX_PATH", "4095")]);
                Verdict::of(attempt.made > 0 || attempt.memory > MEMORY_MIB, attempt.detail())
            }
            _ => continue,
        };
        all.push(((*id).to_owned(), verdict));
    }
    all
}

/// An index of version 4: each path repeats all but the end of the one before, in a few bytes.
fn bomb(repo: &Repo, entries: u32, path: usize) {
    use sha1::Digest as _;
    let mut index = [b"DIRC".as_slice(), &4u32.to_be_bytes(), &entries.to_be_bytes()].concat();
    for number in 0..entries {
        let mut entry = vec![0u8; 62];
        entry[24..28].copy_from_slice(&0o100_644u32.to_be_bytes());
        // Length of the name, or "longer than this says".
        entry[60..62].copy_from_slice(&0x0fffu16.to_be_bytes());
        index.extend(entry);
        let end = format!("{number:08}");
        if number == 0 {
            index.push(0);
            index.extend(b"d/".repeat(path / 2));
        } else {
            index.push(8);
        }
        index.extend(end.as_bytes());
        index.push(0);
    }
    let digest = sha1::Sha1::digest(&index);
    index.extend(digest);
    std::fs::write(repo.path().join(".git/index"), index).expect("index");
}
