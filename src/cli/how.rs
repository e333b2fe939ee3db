//! How a job runs: the options of every verb that starts one.

use std::path::PathBuf;

use super::delegate::{seconds, trace};
use crate::job::{Isolation, StartRequest, Work};

#[derive(Debug, clap::Args)]
pub(super) struct How {
    /// Model [default: model.default_model, else Codex's own; of `continue`, the job's]
    #[arg(long, short, value_name = "MODEL")]
    pub(super) model: Option<String>,
    /// Reasoning effort, such as low, medium or high
    #[arg(long, value_name = "EFFORT")]
    effort: Option<String>,
    /// Time from the job's turn to its end, such as 90s, 30m or 2h [default: limits.deadline_seconds]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    deadline: Option<u64>,
    /// Time that the job may wait for its turn [default: limits.queue_seconds]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    queue_timeout: Option<u64>,
    /// Time without any sign of life after which the job ends; 0: never [default: limits.idle_seconds]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    idle: Option<u64>,
    /// Tokens, input and output together, after which the job ends; 0: no cap [default: limits.tokens]
    #[arg(long, value_name = "TOKENS")]
    max_tokens: Option<u64>,
    /// Which of your own Codex settings the job gets
    #[arg(long, value_name = "KIND", value_parser = Isolation::VALUES, default_value = "inherit")]
    isolation: String,
    /// The same key with the same arguments names the same job instead of starting another; a review's job is kept then
    #[arg(long, value_name = "KEY")]
    pub(super) idempotency_key: Option<String>,
}

impl How {
    /// Asks for this work in a directory.
    pub(super) fn request(self, work: Work, workspace_root: PathBuf) -> StartRequest {
        StartRequest {
            work,
            workspace_root,
            model: self.model,
            reasoning_effort: self.effort,
            isolation: Isolation::parse(&self.isolation).unwrap_or_default(),
            deadline_seconds: self.deadline,
            queue_seconds: self.queue_timeout,
            idle_seconds: self.idle,
            token_budget: self.max_tokens,
            on_behalf: false,
            include_ignored: false,
            idempotency_key: self.idempotency_key,
            trace: trace(),
        }
    }
}

/// Whether the verb stays with a delegation, and what it shows at its end.
#[derive(Debug, clap::Args)]
pub(super) struct Stay {
    /// Stay until the job ends and show its result (the default)
    #[arg(long, conflicts_with = "detach")]
    wait: bool,
    /// Print the job's id and end once the job has all that it needs
    #[arg(long, short)]
    pub(super) detach: bool,
    /// Print the patch too
    #[arg(long, conflicts_with = "detach")]
    pub(super) diff: bool,
}
