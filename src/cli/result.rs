//! `result`: an ended job's result, a review's in any form again. Its outcome is the exit code, as with the verb that started the job.

use super::args::JobArg;
use super::output::Output;
use super::reports::{FailOn, Reports};
use super::{consult, follow, job_ref, render, review};
use crate::error::{Code, Error, Result};
use crate::job::Jobs;
use crate::protocol::request::JobKind;
use crate::review::format::Format;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    job: JobArg,
    /// Print the patch too
    #[arg(long)]
    diff: bool,
    #[command(flatten)]
    reports: Reports,
    /// Of a review: exit with 20 where a finding is so bad or worse: critical, high, medium, low, nit; none: never
    #[arg(long, value_name = "SEVERITY", value_parser = FailOn::parse, default_value = "high")]
    fail_on: FailOn,
}

pub(super) async fn run(out: &Output, jobs: &Jobs, args: &Args) -> Result<u8> {
    // What is wrong with the places is told before the engine is asked.
    let reports = args.reports.checked(out.json(), &Format::ALL)?;
    let id = job_ref::resolve(jobs, &args.job.job).await?;
    let result = follow::result(jobs, &id).await?;
    match result.status.kind {
        JobKind::Review => review::report(out, &result, &reports, args.fail_on, true).map(|(code, _)| code),
        JobKind::Consult => consult::answer(out, &result, &args.reports.checked(out.json(), &consult::FORMS)?),
        JobKind::Delegate if args.reports.asked() => {
            Err(Error::new(Code::InvalidArguments, "this job is a delegation, which has no forms of a report")
                .with_hint("leave --format and --output out; `--json` and `--diff` are for delegations"))
        }
        JobKind::Delegate => Ok(render::show_result(out, &result, args.diff, true)),
    }
}
