//! Waiting without polling: the built program, a real engine, the real Codex CLI.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking, its helpers too")]

#[path = "../support/mod.rs"]
mod support;

mod keys;
mod proxy;
mod resources;
mod session;
mod shell;
mod status;
mod tasks;

use support::{Environment, Repository};

/// A repository with one file.
fn small(environment: &Environment) -> Repository {
    environment.repository("repository", &[("hello.txt", b"hello\n".as_slice())])
}
