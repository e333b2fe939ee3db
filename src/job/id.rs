//! Job ids: 128 random bits, so that knowing one is the only way to name a job.

use std::fmt;
use std::str::FromStr;

use crate::error::{Code, Error};

/// A job's id: 32 lower-case hex digits. Parsing is the only way in from outside.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(String);

impl JobId {
    /// A new random id.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string())
    }

    /// The 32 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for JobId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text.to_owned()))
        } else {
            // The same words as for an id that is well-formed and unknown; the rejected text is not repeated.
            Err(not_found())
        }
    }
}

/// The one error for malformed, unknown, foreign and consumed ids.
pub fn not_found() -> Error {
    Error::new(Code::JobNotFound, "no such job: the id is unknown, or the job was consumed or has expired")
        .with_hint("list the jobs (`anchorhold jobs`, tool codex_job_list) and use an id from there")
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for JobId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}
