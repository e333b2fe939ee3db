//! The records that `init` prints on its standard output, one JSON object a line: all that reaches the container log.

use serde::{Deserialize, Serialize};

use super::result::Reason;

/// Where a job stands inside its cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Unpacking the workspace.
    Unpacking,
    /// Waiting for a slot.
    Queued,
    /// Codex runs.
    Running,
    /// Killing what is left, comparing, writing the result.
    Sealing,
    /// The result lies in `/job/out`.
    Sealed,
}

/// One progress record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Unix milliseconds.
    pub ms: u64,
    /// Where the job stands.
    pub phase: Phase,
    /// What Codex is doing, at most 200 characters; a job's words, so escape before display.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Events seen so far.
    #[serde(default)]
    pub events: u64,
    /// Successful model answers so far.
    #[serde(default)]
    pub answers: u64,
    /// Place in the queue, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// With [`Phase::Sealed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

impl Progress {
    /// Longest line that a reader accepts.
    pub const MAX_LINE: usize = 4096;

    /// Parses one line of the container log; `None` for anything else (a crash message, a cut line).
    pub fn parse(line: &[u8]) -> Option<Self> {
        if line.len() > Self::MAX_LINE {
            return None;
        }
        serde_json::from_slice(line).ok()
    }
}
