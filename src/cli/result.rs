//! `result`: an ended job's result. Its outcome is the exit code, as with `delegate --wait`.

use super::args::JobArg;
use super::output::Output;
use super::{follow, job_ref, render};
use crate::error::Result;
use crate::job::Jobs;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    job: JobArg,
    /// Print the patch too
    #[arg(long)]
    diff: bool,
}

pub(super) async fn run(out: &Output, jobs: &Jobs, args: &Args) -> Result<u8> {
    let id = job_ref::resolve(jobs, &args.job.job).await?;
    let result = follow::result(jobs, &id).await?;
    Ok(render::show_result(out, &result, args.diff, true))
}
