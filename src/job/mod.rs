//! The domain: a job is its container. Everything here works over the engine alone and keeps no state of its own.

mod failure;
pub mod id;
pub mod model;
pub mod readiness;
pub mod service;

pub use id::JobId;
pub use model::*;
pub use service::Jobs;
