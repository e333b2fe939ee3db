//! Delegations end to end: the built binary, a real engine, the real Codex CLI, a scripted model.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

#[path = "../support/mod.rs"]
mod support;

mod attempts;
mod attest;
mod continuing;
mod endings;
mod fetch;
mod identity;
mod limits;
mod mismatch;
mod patch;
mod refusals;
mod repository;
mod upstream;
