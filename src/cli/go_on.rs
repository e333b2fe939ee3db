//! `continue`: goes on with an ended job: its working tree, its conversation, its base.

use super::args::JobArg;
use super::output::Output;
use super::{delegate, job_ref};
use crate::error::Result;
use crate::job::{Isolation, Jobs, StartRequest, Work};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    job: JobArg,
    /// What to do next: a text, `-` to read it from standard input, or `@FILE`
    #[arg(value_name = "TASK")]
    task: String,
    /// Stay until the new job ends and show its result (the default)
    #[arg(long, conflicts_with = "detach")]
    wait: bool,
    /// Print the new job's id and end once it has all that it needs
    #[arg(long, short)]
    detach: bool,
    /// Print the patch too
    #[arg(long, conflicts_with = "detach")]
    diff: bool,
    /// Model [default: the job's, else model.default_model, else Codex's own]
    #[arg(long, short, value_name = "MODEL")]
    model: Option<String>,
    /// Reasoning effort, such as low, medium or high
    #[arg(long, value_name = "EFFORT")]
    effort: Option<String>,
    /// Time from the job's turn to its end, such as 90s, 30m or 2h [default: limits.deadline_seconds]
    #[arg(long, value_name = "TIME", value_parser = delegate::seconds)]
    deadline: Option<u64>,
    /// Time that the job may wait for its turn [default: limits.queue_seconds]
    #[arg(long, value_name = "TIME", value_parser = delegate::seconds)]
    queue_timeout: Option<u64>,
    /// Time without any sign of life after which the job ends; 0: never [default: limits.idle_seconds]
    #[arg(long, value_name = "TIME", value_parser = delegate::seconds)]
    idle: Option<u64>,
    /// Tokens, input and output together, after which the job ends; 0: no cap [default: limits.tokens]
    #[arg(long, value_name = "TOKENS")]
    max_tokens: Option<u64>,
    /// Which of your own Codex settings the job gets
    #[arg(long, value_name = "KIND", value_parser = Isolation::VALUES, default_value = "inherit")]
    isolation: String,
    /// The same key with the same arguments names the same job instead of starting another
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

pub(super) async fn run(out: &Output, jobs: &Jobs, args: Args) -> Result<u8> {
    let task = delegate::task(&args.task, std::io::stdin())?;
    let job = job_ref::resolve(jobs, &args.job.job).await?;
    let status = jobs.status(&job).await?;
    let request = StartRequest {
        work: Work::Continue { job, task },
        workspace_root: status.workspace,
        model: args.model,
        reasoning_effort: args.effort,
        isolation: Isolation::parse(&args.isolation).unwrap_or_default(),
        deadline_seconds: args.deadline,
        queue_seconds: args.queue_timeout,
        idle_seconds: args.idle,
        token_budget: args.max_tokens,
        on_behalf: false,
        include_ignored: false,
        idempotency_key: args.idempotency_key,
        trace: delegate::trace(),
    };
    if args.detach { delegate::detach(out, jobs, request).await } else { delegate::wait(out, jobs, request, args.diff).await }
}
