//! `[limits]`, `[retention]`, `[roots]` and `[workspace]`: what a job may use, how long it is kept, and what of the host it may be about.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ByteSize;
use super::check::fail;
use crate::error::Result;

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Seconds from the slot to the deadline.
    pub deadline_seconds: u64,
    /// Seconds that a job may wait for its slot.
    pub queue_seconds: u64,
    /// Seconds without a sign of life after which a job ends; 0: never.
    pub idle_seconds: u64,
    /// Memory of the cell, such as `4GiB`.
    pub memory: ByteSize,
    /// Processors.
    pub cpus: f64,
    /// Processes and threads.
    pub pids: i64,
    /// Disk of the cell's volumes.
    pub disk: ByteSize,
    /// Files, directories and links that a job may add to its volumes.
    pub inodes: u64,
    /// Tokens, input and output together; 0: no cap.
    pub tokens: u64,
    /// Tokens of one model answer, where there is a cap on tokens; 0: what is left of it.
    pub output_tokens: u64,
    /// Model requests; 0: no cap.
    pub requests: u64,
    /// Model requests that the gateway's policy refused, after which the job is ended; 0: no cap.
    pub denials: u64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            deadline_seconds: 1800,
            queue_seconds: 6 * 3600,
            idle_seconds: 600,
            memory: ByteSize(4 << 30),
            cpus: 2.0,
            pids: 512,
            disk: ByteSize(8 << 30),
            inodes: 1_000_000,
            tokens: 0,
            output_tokens: 32_768,
            requests: 10_000,
            denials: 20,
        }
    }
}

/// `[retention]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionSettings {
    /// Seconds that an ended job is kept.
    pub ttl_seconds: u64,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self { ttl_seconds: 86_400 }
    }
}

/// `[roots]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RootSettings {
    /// Empty: any; else a workspace must lie beneath one of these.
    pub allow: Vec<PathBuf>,
}

/// `[workspace]`: caps over which a delegation is refused before anything is created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkspaceSettings {
    /// Tracked files.
    pub max_files: u64,
    /// Bytes of all tracked files.
    pub max_bytes: ByteSize,
    /// Bytes of one file.
    pub max_file: ByteSize,
    /// Bytes of a path.
    pub max_path: u64,
}

impl Default for WorkspaceSettings {
    fn default() -> Self {
        Self { max_files: 500_000, max_bytes: ByteSize(4 << 30), max_file: ByteSize(256 << 20), max_path: 4095 }
    }
}

impl LimitSettings {
    pub(super) fn check(&self) -> Result<()> {
        if !(10..=7 * 86_400).contains(&self.deadline_seconds) {
            return fail("limits.deadline_seconds", "must be between 10 and 604800");
        }
        if !(1..=30 * 86_400).contains(&self.queue_seconds) {
            return fail("limits.queue_seconds", "must be between 1 and 2592000");
        }
        if self.idle_seconds != 0 && !(5..=7 * 86_400).contains(&self.idle_seconds) {
            return fail("limits.idle_seconds", "must be 0 (never), or between 5 and 604800");
        }
        if self.memory.0 < 256 << 20 {
            return fail("limits.memory", "must be at least 256MiB: Codex alone needs about 140 MB");
        }
        if !(self.cpus > 0.0 && self.cpus <= 1024.0) {
            return fail("limits.cpus", "must be above 0");
        }
        if self.pids < 32 {
            return fail("limits.pids", "must be at least 32");
        }
        if self.disk.0 < 16 << 20 {
            return fail("limits.disk", "must be at least 16MiB");
        }
        if self.inodes < 1_000 {
            return fail("limits.inodes", "must be at least 1000: Codex and its repository take some");
        }
        Ok(())
    }
}
