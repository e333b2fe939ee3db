//! The user's repository: snapshot out, patch back. The only module that runs git or reads the user's tree.
//!
//! [`plan`] reads names from the index and [`pack`] bytes from the working tree through a shadow git directory, so that nothing in the
//! repository's configuration runs. [`fn@collect`] makes a patch from sealed base and new bytes in a throw-away object store and proves it
//! by applying it. None of them writes into the user's tree; [`fn@apply`] does, and [`fetch`] writes into the git directory: only a person calls them.

mod beneath;
mod between;
mod blobs;
pub mod collect;
mod deposit;
mod diff;
pub mod fetch;
pub mod instructions;
mod listing;
pub mod model;
mod names;
mod narrow;
mod objects;
mod pack;
mod refs;
mod repo;
pub mod review;
mod revision;
mod risk;
mod run;
mod scan;
mod scope;
mod scratch;
pub mod secrets;
pub mod send;
mod shadow;
mod show;
pub mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod trees;
mod untracked;
mod working_tree;

/// The readers of hostile bytes, for the fuzz targets (`docs/FUZZING.md`); nothing else uses them from outside.
pub mod readers {
    pub use super::diff::{Part, Record, parts, records};
    pub use super::listing::{Listed, parse as parse_listing};
    pub use super::trees::{Tree, TreeEntry, parse as parse_tree};
}

pub use between::between;
pub use collect::{Collected, applies, apply, collect};
pub use model::*;
pub use review::{Omitted, ReviewPlan, ReviewRequest, Untracked, plan_review, plan_review_within};
pub use revision::DEFAULT_BASE;
pub use scratch::sweep as sweep_scratch;
pub use send::{InstructionFile, Origin, SecretLooking, SendEntry, SendManifest, manifest_of};
pub use snapshot::{Packed, Plan, PlanOptions, Uncommitted, pack, plan, plan_with, plan_within};
