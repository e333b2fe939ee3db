//! `continue`: goes on with an ended job: its working tree, its conversation, its base.

use super::args::JobArg;
use super::how::{How, Stay};
use super::output::Output;
use super::{delegate, job_ref};
use crate::error::Result;
use crate::job::{Jobs, Work};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    job: JobArg,
    /// What to do next: a text, `-` to read it from standard input, or `@FILE`
    #[arg(value_name = "TASK")]
    task: String,
    #[command(flatten)]
    stay: Stay,
    #[command(flatten)]
    how: How,
}

pub(super) async fn run(out: &Output, jobs: &Jobs, args: Args) -> Result<u8> {
    let task = delegate::task(&args.task, std::io::stdin())?;
    let job = job_ref::resolve(jobs, &args.job.job).await?;
    let status = jobs.status(&job).await?;
    let request = args.how.request(Work::Continue { job, task }, status.workspace);
    delegate::start(out, jobs, request, &args.stay).await
}
