//! The user's repository: snapshot out, patch back. The only module that runs git or reads the user's tree.
//!
//! [`snapshot`] reads names from the index and bytes from the working tree through a shadow git directory, so that nothing in the
//! repository's configuration runs. [`collect`] makes a patch from sealed base and new bytes in a throw-away object store and proves it
//! by applying it. Neither writes into the user's tree; [`apply`] does, and only a person calls it.

pub mod collect;
pub mod model;
pub mod snapshot;

pub use collect::{Collected, applies, apply, collect};
pub use model::*;
pub use snapshot::{Packed, Plan, pack, plan};
