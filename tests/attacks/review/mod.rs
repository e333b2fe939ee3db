//! The way back: what a job's bytes can do to those who read its result.

mod forged;
mod hostile;
pub mod show;

use crate::case::Group;

pub const GROUPS: &[Group] = &[forged::GROUP, hostile::GROUP];
