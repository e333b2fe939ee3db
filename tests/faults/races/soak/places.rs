//! Repositories to delegate on, and what a job's patch may be: some of a few pieces, byte for byte, as plain git makes them.

use sha1::{Digest as _, Sha1};

use crate::support::Repo;
use crate::world::World;

/// What the agent does first, and what last; `KEY` is the job's own word.
const FIRST: &str = "echo ran >>once.txt; echo KEY >mine.txt";
const LAST: &str = "echo done >done.txt";

/// A repository with uncommitted changes, and its pieces of a patch.
pub struct Place {
    pub repo: Repo,
    once: String,
    done: String,
}

/// What a patch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Whole,
    /// What was done until something ended it.
    Partial,
    Empty,
    /// Not this job's work on this repository.
    Wrong,
    /// Its work twice.
    Twice,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Partial => "partial",
            Self::Empty => "empty",
            Self::Wrong => "MISMATCHED",
            Self::Twice => "RAN TWICE",
        }
    }
}

/// The task of the job with this key; `trouble` stands in the middle.
pub fn task(key: &str, trouble: &str) -> String {
    format!("```rehearsal\nshell {}\n{trouble}shell sleep 0.3; {LAST}\nmessage done\n```", FIRST.replace("KEY", key))
}

impl Place {
    /// The `n`-th repository: files of its own, one of them changed and not committed, so that no patch of another fits.
    pub fn new(world: &World, n: usize) -> Self {
        let repo = world.env.repo();
        repo.bash(&format!(
            "for n in $(seq {}); do echo \"{n} $n\" >file-$n.txt; done; echo 'repository {n}' >once.txt; git add .; git commit -qm base; echo 'not committed' >>once.txt",
            10 + 20 * n
        ));
        let copy = repo.tracked_copy();
        copy.bash("git init -q -b main .; git add .; git commit -qm delivered");
        copy.bash(&format!(
            "{}; {LAST}; git add -A; git diff --cached --full-index --binary --no-ext-diff --no-color >../patch-{n}",
            FIRST.replace("KEY", "key")
        ));
        let patch = std::fs::read_to_string(copy.path().parent().expect("a parent").join(format!("patch-{n}"))).expect("git's patch");
        let pieces: Vec<&str> = pieces(&patch);
        let [done, mine, once] = pieces.as_slice() else { panic!("three files: {patch}") };
        assert_eq!(*mine, new_file("mine.txt", "key\n"), "as git writes it");
        assert!(once.contains("\n repository") && once.contains("\n+ran\n"), "{once}");
        Self { repo, once: (*once).to_owned(), done: (*done).to_owned() }
    }

    /// What a job's patch is. A file that was made and not yet written is part of the truth, too.
    pub fn judge(&self, key: &str, patch: &str) -> Kind {
        if patch.is_empty() {
            return Kind::Empty;
        }
        if patch.lines().filter(|line| *line == "+ran").count() > 1 {
            return Kind::Twice;
        }
        let (mine, done) = (new_file("mine.txt", &format!("{key}\n")), self.done.as_str());
        let (no_words, nothing_done) = (new_file("mine.txt", ""), new_file("done.txt", ""));
        match pieces(patch).as_slice() {
            [a, b, c] if (*a, *b, *c) == (done, mine.as_str(), self.once.as_str()) => Kind::Whole,
            [a, b, c] if (*a, *b, *c) == (nothing_done.as_str(), mine.as_str(), self.once.as_str()) => Kind::Partial,
            [b, c] if (*b == mine || *b == no_words) && *c == self.once => Kind::Partial,
            [c] if *c == self.once => Kind::Partial,
            _ => Kind::Wrong,
        }
    }
}

/// A patch, cut before each file.
fn pieces(patch: &str) -> Vec<&str> {
    let starts: Vec<usize> = std::iter::once(0).chain(patch.match_indices("\ndiff --git ").map(|(at, _)| at + 1)).collect();
    starts.iter().enumerate().map(|(n, start)| &patch[*start..starts.get(n + 1).copied().unwrap_or(patch.len())]).collect()
}

/// A new file of one line, or of none, in a patch.
fn new_file(name: &str, line: &str) -> String {
    let digest = Sha1::digest(format!("blob {}\0{line}", line.len()));
    let id: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut piece = format!("diff --git a/{name} b/{name}\nnew file mode 100644\nindex {}..{id}\n", "0".repeat(40));
    if !line.is_empty() {
        piece.push_str(&format!("--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+{line}"));
    }
    piece
}
