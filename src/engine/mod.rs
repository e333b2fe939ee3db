//! The container engine as we mean it; the only module that names bollard.

mod client;
mod model;
pub mod seccomp;

pub use client::{ByteStream, Engine, ExecSession, UploadStream};
pub use model::*;
