//! The user's repository: snapshot out, patch back. The only module that runs git or reads the user's tree.
//!
//! [`plan`] reads names from the index and [`pack`] bytes from the working tree through a shadow git directory, so that nothing in the
//! repository's configuration runs. [`fn@collect`] makes a patch from sealed base and new bytes in a throw-away object store and proves it
//! by applying it. None of them writes into the user's tree; [`fn@apply`] does, and only a person calls it.

mod beneath;
pub mod collect;
mod diff;
mod listing;
pub mod model;
mod names;
mod objects;
mod pack;
mod repo;
pub mod review;
mod risk;
mod run;
mod scan;
mod scratch;
mod secrets;
mod shadow;
pub mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod working_tree;

/// The readers of hostile bytes, for the fuzz targets (`docs/FUZZING.md`); nothing else uses them from outside.
pub mod readers {
    pub use super::diff::{Part, Record, parts, records};
    pub use super::listing::{Listed, parse as parse_listing};
}

pub use collect::{Collected, applies, apply, collect};
pub use model::*;
pub use review::{ReviewPlan, ReviewRequest, Untracked, plan_review, plan_review_within};
pub use scratch::sweep as sweep_scratch;
pub use snapshot::{Packed, Plan, pack, plan, plan_within};
