//! The gateway's socket: what a connection says first, and what a slot connection carries.
//!
//! `init`'s forwarder opens a connection, writes one [`Preamble`] as a JSON line, and then (channel `model`) relays bytes
//! between Codex and the gateway without reading them, or (channel `slot`) reads [`SlotMessage`]s, one JSON line each,
//! for as long as it holds the slot. The pass travels in the preamble, so the agent never has it: it cannot reach the socket
//! (mode 0660, group root) and the loopback port behind the forwarder admits it only as its own job.
//!
//! After a model preamble the gateway says nothing before the first HTTP response; a refused pass is answered on every
//! HTTP request with status 403.

use serde::{Deserialize, Serialize};

use super::result::{ProviderError, Usage};

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// HTTP/1.1 from Codex.
    Model,
    /// Holds a slot; closing it releases the slot.
    Slot,
}

/// The first line of a connection.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preamble {
    /// [`super::PROTOCOL_VERSION`].
    pub version: u32,
    /// 32 hex digits.
    pub job_id: String,
    /// 64 hex digits.
    pub pass: String,
    /// What for.
    pub channel: Channel,
    /// For `slot`: the job held a slot before (the gateway was restarted); it goes before those that wait.
    #[serde(default)]
    pub resume: bool,
}

impl Preamble {
    /// Longest line that the gateway reads.
    pub const MAX_LINE: usize = 1024;
}

/// What the gateway says on a slot connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SlotMessage {
    /// The job waits; `position` counts from 1.
    Queued {
        /// Place in the queue.
        position: u64,
    },
    /// The job holds a slot.
    Granted,
    /// A model answer arrived (the provider answered with success and a first event).
    Answered {
        /// Answers so far.
        answers: u64,
        /// Tokens so far, as the gateway counts them.
        usage: Usage,
    },
    /// A model request failed at the provider.
    Failed {
        /// In our words.
        error: ProviderError,
    },
    /// Nothing new: said every few seconds, so that `init` can tell a gateway that hangs from one that has nothing to say.
    Alive,
    /// The job must end: its token budget is used up.
    TokenBudget,
    /// The job must end: it met a ceiling of the gateway.
    Stopped {
        /// Which.
        code: StopCode,
        /// One sentence.
        message: String,
    },
    /// The pass is not, or no longer, valid.
    Refused {
        /// One sentence.
        message: String,
    },
}

/// A ceiling that ends a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCode {
    /// Its own token budget.
    TokenBudget,
    /// Its own number of model requests.
    Requests,
    /// Its own number of requests refused by policy.
    Denials,
    /// The day's tokens over all jobs.
    DayTokens,
}

impl StopCode {
    /// One sentence for people.
    pub fn message(self) -> &'static str {
        match self {
            Self::TokenBudget => "The job used up its token budget.",
            Self::Requests => "The job made as many model requests as one may (`[limits] requests`).",
            Self::Denials => "The job sent too many requests that the gateway's policy refuses (`[limits] denials`).",
            Self::DayTokens => "The tokens of all jobs reached the gateway's ceiling for today (`[gateway] tokens_per_day`).",
        }
    }
}

impl SlotMessage {
    /// Longest line that `init` reads.
    pub const MAX_LINE: usize = 8192;
}
