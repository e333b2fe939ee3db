//! Git directories of every hostile form, and whose they are.

use super::host::{self, Attempt};
use crate::arena::Arena;
use crate::case::{Case, Group, Promise, Verdict, Verdicts, Weakening};
use crate::support::Repo;

pub const GROUP: Group = Group {
    name: "export-repository",
    cases: &[
        Case { id: "E15-another-user", promise: Promise::Escape, tries: "a repository that belongs to another user" },
        Case { id: "E15-objects-of-another-user", promise: Promise::Escape, tries: "alternate objects that belong to another user" },
        Case { id: "E15-top-above-roots", promise: Promise::HostLeak, tries: "a directory in the allowed roots whose repository reaches above them" },
        Case { id: "E15-git-dir-outside-roots", promise: Promise::HostLeak, tries: "a .git file that points out of the allowed roots" },
        Case {
            id: "E15-alternates-outside-roots",
            promise: Promise::HostLeak,
            tries: "alternates, and alternates of alternates, out of the allowed roots",
        },
        Case { id: "E15-links-among-objects", promise: Promise::HostLeak, tries: "a link to packs out of the allowed roots" },
        Case { id: "E15-foreign-git-dir", promise: Promise::HostLeak, tries: "a .git file that points at a private repository: its commit's words" },
        Case { id: "E15-broken-git-dir", promise: Promise::HostLeak, tries: "a .git that is none, in a directory of another repository" },
        Case { id: "E04-special-git-files", promise: Promise::DenialOfService, tries: "FIFOs and devices in place of HEAD, index, config, refs" },
        Case { id: "E04-fifo-among-objects", promise: Promise::DenialOfService, tries: "a FIFO in place of HEAD's commit" },
    ],
    run,
    controls: &[
        Weakening::point(&["export.owner"], &["E15-another-user", "E15-objects-of-another-user"]),
        Weakening::point(
            &["export.roots"],
            &["E15-top-above-roots", "E15-git-dir-outside-roots", "E15-alternates-outside-roots", "E15-links-among-objects"],
        ),
        Weakening::point(&["export.foreign_git_dir"], &["E15-foreign-git-dir"]),
        Weakening::point(&["export.discovery"], &["E15-broken-git-dir"]),
        Weakening::point(&["export.git_dir_files"], &["E04-special-git-files"]),
        Weakening::point(&["export.object_kinds"], &["E04-fifo-among-objects"]),
    ],
    mutations: &[],
    no_control: &[],
};

fn run(arena: &Arena, wanted: &[&str]) -> Verdicts {
    let tried = |id: &&str| {
        let verdict = match *id {
            "E15-another-user" => {
                let repo = committed(arena);
                repo.bash("chown -R 12345 .");
                refused(&host::attempt(arena, repo.path(), &[]), "unsafe_repository")
            }
            "E15-objects-of-another-user" => {
                let repo = committed(arena);
                repo.bash("mkdir -p ../theirs/pack ../theirs/info; chown -R 12345 ../theirs; echo $PWD/../theirs > .git/objects/info/alternates");
                refused(&host::attempt(arena, repo.path(), &[]), "unsafe_repository")
            }
            "E15-top-above-roots" => {
                let repo = committed(arena);
                repo.bash("mkdir allowed; touch allowed/f; git add .; git commit -qm more");
                within(arena, &repo.at("allowed"), &repo)
            }
            "E15-git-dir-outside-roots" => {
                let repo = committed(arena);
                repo.bash("mv .git ../elsewhere; echo 'gitdir: ../elsewhere' > .git");
                within(arena, &repo, &repo)
            }
            "E15-alternates-outside-roots" => {
                let repo = committed(arena);
                repo.bash("git init -q ../a; git init -q ../repo/b; echo $PWD/b/.git/objects > .git/objects/info/alternates; echo $PWD/../a/.git/objects > b/.git/objects/info/alternates");
                within(arena, &repo, &repo)
            }
            "E15-links-among-objects" => {
                let repo = committed(arena);
                repo.bash("git repack -qad; mv .git/objects/pack ../pack; ln -s ../../../pack .git/objects/pack");
                within(arena, &repo, &repo)
            }
            "E15-foreign-git-dir" => {
                let private = committed(arena);
                private.bash("git commit -q --allow-empty -m 'Private words CANARY-E15P'");
                let repo = arena.env.repo();
                repo.bash(&format!("rm -r .git; echo 'gitdir: {}/.git' > .git; echo mine > f", private.path().display()));
                Verdict::of(host::tell(arena, &repo).has("CANARY-E15P"), "the agent reads the commit's message".to_owned())
            }
            "E15-broken-git-dir" => {
                let outer = committed(arena);
                outer.bash("mkdir -p hostile/.git");
                refused(&host::attempt(arena, outer.at("hostile").path(), &[]), "worktree_error")
            }
            "E04-special-git-files" => special(arena),
            "E04-fifo-among-objects" => {
                let repo = committed(arena);
                repo.bash("c=$(git rev-parse HEAD); f=.git/objects/${c:0:2}/${c:2}; rm -f $f; mkfifo $f");
                let attempt = host::attempt(arena, repo.path(), &[]);
                Verdict::of(attempt.code == "hangs" || attempt.made > 0, attempt.detail())
            }
            _ => return None,
        };
        Some(((*id).to_owned(), verdict))
    };
    wanted.iter().filter_map(tried).collect()
}

fn committed(arena: &Arena) -> Repo {
    let repo = arena.env.repo();
    repo.bash("echo x > f; git add .; git commit -qm base");
    repo
}

/// Breached unless it was refused so, with nothing made.
fn refused(attempt: &Attempt, code: &str) -> Verdict {
    Verdict::of(!attempt.refused_as(&[code]), attempt.detail())
}

/// Delegates with the repository's top, or a part of it, as the only allowed root.
fn within(arena: &Arena, allowed: &Repo, at: &Repo) -> Verdict {
    let root = allowed.path().to_str().expect("path");
    let start = if allowed.path().starts_with(at.path()) { allowed } else { at };
    let attempt = host::attempt(arena, start.path(), &[("ANCHORHOLD_ROOTS_ALLOW", root)]);
    Verdict::of(!attempt.refused_as(&["workspace_outside_roots", "unsafe_repository"]), attempt.detail())
}

/// Each part of a git directory as something whose reading never ends.
fn special(arena: &Arena) -> Verdict {
    let mut seen = Vec::new();
    for (file, form) in [
        ("HEAD", "mkfifo $F"),
        ("index", "mkfifo $F"),
        ("config", "mkfifo $F"),
        ("refs/heads/main", "mkfifo $F"),
        ("packed-refs", "rm -f .git/refs/heads/main; mkfifo $F"),
        ("commondir", "mkfifo $F"),
        ("objects/info/alternates", "mkfifo $F"),
        ("config", "ln -s /dev/zero $F"),
    ] {
        let repo = committed(arena);
        repo.bash(&format!("F=.git/{file}; rm -f $F; {form}"));
        let attempt = host::attempt(arena, repo.path(), &[]);
        seen.push(format!("{file}: {}", attempt.code));
        if attempt.code == "hangs" || attempt.made > 0 {
            return Verdict::Breached(seen.join(", "));
        }
    }
    Verdict::Blocked(seen.join(", "))
}
