//! What crosses the cell's walls: every document and wire format that the host, `init` and the gateway share.
//!
//! Nothing here talks to an engine, a file system or a network. Everything that is read from a job is hostile: readers
//! check sizes before they allocate, and refuse what they do not know.

pub mod admin;
pub mod changes;
pub mod connection;
pub mod ledger;
pub mod manifest;
pub mod paths;
pub mod progress;
pub mod repo_path;
pub mod request;
pub mod result;

/// Version of the documents in this module; a job delivered by another version is refused by name.
pub const PROTOCOL_VERSION: u32 = 2;
