//! Anchorhold runs the Codex CLI on a repository inside a container without a network and hands back a reviewable diff.
//!
//! `docs/ARCHITECTURE.md` is the map. The library never prints and never exits; `cli` alone does.

pub mod cli;
pub mod codex;
pub mod config;
pub mod display;
pub mod engine;
pub mod error;
pub mod fault;
pub mod gateway;
pub mod image;
pub mod init;
pub mod job;
pub mod mcp;
pub mod patient;
pub mod process;
pub mod protocol;
pub mod review;
pub mod telemetry;
pub mod weaken;
pub mod workspace;

/// Identifies the sources of this build (see `build.rs`): the runtime image must carry the same.
pub const BUILD_ID: &str = env!("ANCHORHOLD_BUILD_ID");
