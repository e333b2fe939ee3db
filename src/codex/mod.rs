//! What we know of the pinned Codex CLI: its command line, its configuration, its events.

pub mod command;
pub mod events;
pub mod models;
pub mod prompt;
pub mod reported;
pub mod settings;
