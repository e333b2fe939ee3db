//! `diff`: the exact patch bytes where a program reads them; coloured and escaped where a person does.

use serde_json::json;

use super::args::JobArg;
use super::output::Output;
use super::{follow, job_ref, render};
use crate::error::{Code, Error, Result};
use crate::job::Jobs;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    job: JobArg,
    /// One line a file instead of the patch
    #[arg(long)]
    stat: bool,
    /// Of a job that goes on with another: what has changed since that one's end, instead of since the original
    #[arg(long)]
    since_previous: bool,
}

pub(super) async fn run(out: &Output, jobs: &Jobs, args: &Args) -> Result<u8> {
    let id = job_ref::resolve(jobs, &args.job.job).await?;
    let result = follow::result(jobs, &id).await?;
    // Partial work of a job that ended badly is a diff like any other; only where nothing can be said this is an error.
    if let Some(e) = render::nothing_known(&result) {
        return Err(e);
    }
    let since = if args.since_previous { Some(jobs.since_previous(&result).await?) } else { None };
    // An end that is not known whole would make its difference untrue.
    if since.is_some() && !result.sealed.as_ref().is_some_and(|sealed| sealed.seal.complete) {
        return Err(Error::new(Code::Unsupported, "the job's working tree could not be sealed whole, so it cannot be compared with the job before")
            .with_hint("leave --since-previous out"));
    }
    let (patch, files) = match &since {
        Some(since) => (since.patch.as_deref(), &since.files),
        None => (result.patch.as_deref(), &result.files),
    };
    let (patch, no_changes) = (patch.unwrap_or_default(), if since.is_some() { files.is_empty() } else { result.no_changes });
    if out.json() {
        let mut fields = json!({ "job_id": id, "no_changes": no_changes, "files": files });
        if let (Some(_), Some(fields)) = (&since, fields.as_object_mut()) {
            fields.insert("since".to_owned(), json!(result.status.continues));
        }
        if !args.stat {
            render::add_patch(&mut fields, patch);
        }
        out.document(fields);
    } else if args.stat {
        out.text(&render::files(files, out.paint()));
    } else {
        render::show_patch(out, patch);
    }
    if no_changes {
        out.note("no changes");
    }
    Ok(0)
}
