//! The container engine as we mean it; the only module that names bollard.

mod answers;
mod client;
mod connect;
mod events;
mod failure;
mod fingerprint;
mod images;
mod inspect;
mod model;
mod patience;
mod record;
pub mod seccomp;
mod spec;
mod ssh;
mod streams;

pub use client::{ByteStream, Engine, ExecSession, Removal, UploadStream};
pub use events::{EngineEvent, EventFeed, News};
pub use fingerprint::spec_sha256;
pub use images::BuildRequest;
pub use inspect::Tolerance;
pub use model::*;
pub use patience::{engine_is_away, outcome_unknown};
pub use record::{CellRecord, MountRecord};

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
