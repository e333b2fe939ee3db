//! From inside the cell: the real Codex, told so by a rehearsal program, runs the probe as the agent. And from beside it: what the engine says
//! that the cell is.

mod engine;
mod inside;
mod key;
mod mutations;
pub mod probe;
mod profile;
mod record;

use crate::case::Group;

pub const GROUPS: &[Group] = &[inside::CELL, profile::PROFILE, engine::ENGINE, key::KEYS];
