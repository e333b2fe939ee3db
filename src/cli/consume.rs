//! `consume`: the result once, and nothing of the job is left.

use super::args::JobArg;
use super::output::Output;
use super::{follow, job_ref, render};
use crate::error::Result;
use crate::job::Jobs;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    job: JobArg,
    /// Print the patch too; afterwards it is to be had nowhere
    #[arg(long)]
    diff: bool,
}

pub(super) async fn run(out: &Output, jobs: &Jobs, args: &Args) -> Result<u8> {
    let id = job_ref::resolve(jobs, &args.job.job).await?;
    let (claimed, result) = follow::claim(jobs, &id).await?;
    let code = match result {
        Ok(result) => render::show_result(out, &result, args.diff, false),
        Err(e) => out.error(&e),
    };
    if out.arrived() {
        // The result is out; what goes wrong now makes it no other one.
        match jobs.finish_consume(claimed).await {
            Ok(()) => out.note(&format!("the job {id} is removed")),
            Err(e) => out.note_block(&format!("the job {id} could not be removed and is kept: {}", crate::display::line(e.chain().as_bytes()))),
        }
    } else {
        // What could not be said must not be lost.
        jobs.give_back(claimed).await?;
        out.note(&format!("the result could not be written whole, so the job {id} is kept"));
    }
    Ok(code)
}
