//! A hostile repository against the host that delegates it.

mod caps;
mod config;
pub mod host;
mod repository;
mod swaps;
mod tree;

use crate::case::Group;

pub const GROUPS: &[Group] = &[tree::GROUP, config::GROUP, swaps::GROUP, caps::GROUP, repository::GROUP];
