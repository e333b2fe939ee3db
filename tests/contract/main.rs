//! The tool contract that assistants know (codex-in-claude 0.24.0), driven against the built server as a client or a skill written for that one drives it: raw
//! messages on standard input and output, its calls with all of their documented parameters, and looks at the fields, hints and codes that it rests on.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

#[path = "../support/mod.rs"]
mod support;

mod free;
mod models;
mod refusals;
mod table;
mod wire;
mod work;

use support::{Environment, Repository};

/// A user without an engine: what costs nothing needs none.
fn without_engine() -> Environment {
    let mut environment = Environment::new();
    environment.set("ANCHORHOLD_ENGINE_HOST", "unix:///nonexistent/engine.sock");
    environment
}

/// A repository with a commit, an edit that is not committed, an untracked file, an ignored one, and a base to review against.
fn repository(environment: &Environment) -> Repository {
    let files: [(&str, &[u8]); 5] = [
        ("hello.txt", b"hello\n"),
        ("src/a.rs", b"fn a() {}\n"),
        ("AGENTS.md", b"Be kind.\n"),
        (".gitignore", b".env\nbuild/\n"),
        (".worktreeinclude", b".env\nbuild/cache.txt\n"),
    ];
    let repository = environment.repository("repository", &files);
    repository.git(&["branch", "base"]);
    repository.write("src/a.rs", b"fn a() {}\nfn b() {}\n");
    repository.git(&["commit", "-q", "-am", "second"]);
    repository.write("hello.txt", b"hello, edited\n");
    repository.write("notes.txt", b"untracked\n");
    repository.write(".env", b"TOKEN=1\n");
    repository.write("build/cache.txt", b"cached\n");
    repository.write("build/other.txt", b"stays here\n");
    repository
}
