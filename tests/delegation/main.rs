//! Delegations end to end: the built binary, a real engine, the real Codex CLI, a scripted model.

#[path = "../support/mod.rs"]
mod support;

mod endings;
mod patch;
mod refusals;
mod repository;
mod upstream;
