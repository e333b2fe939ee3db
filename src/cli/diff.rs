//! `diff`: the exact patch bytes where a program reads them; coloured and escaped where a person does.

use serde_json::json;

use super::args::JobArg;
use super::output::Output;
use super::{follow, job_ref, render};
use crate::error::Result;
use crate::job::Jobs;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    job: JobArg,
    /// One line a file instead of the patch
    #[arg(long)]
    stat: bool,
}

pub(super) async fn run(out: &Output, jobs: &Jobs, args: &Args) -> Result<u8> {
    let id = job_ref::resolve(jobs, &args.job.job).await?;
    let result = follow::result(jobs, &id).await?;
    // Partial work of a job that ended badly is a diff like any other; only where nothing can be said this is an error.
    if let Some(e) = render::nothing_known(&result) {
        return Err(e);
    }
    let patch = result.patch.as_deref().unwrap_or_default();
    if out.json() {
        let mut fields = json!({ "job_id": id, "no_changes": result.no_changes, "files": result.files });
        if !args.stat {
            render::add_patch(&mut fields, patch);
        }
        out.document(fields);
    } else if args.stat {
        out.text(&render::files(&result.files, out.paint()));
    } else {
        render::show_patch(out, patch);
    }
    if result.no_changes {
        out.note("no changes");
    }
    Ok(0)
}
