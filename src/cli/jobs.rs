//! `jobs`: a list, newest first.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::output::Output;
use super::{delegate, render};
use crate::error::Result;
use crate::job::{JobStatus, Jobs, ListFilter};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Jobs of every workspace, not only of this one
    #[arg(long, short)]
    all: bool,
    /// Only jobs with this status
    #[arg(long, value_name = "WORD", value_parser = ["running", "done", "failed", "cancelled", "timeout"])]
    status: Option<String>,
    /// The workspace whose jobs to list [default: the current directory]
    #[arg(long, value_name = "DIR", conflicts_with = "all")]
    workspace: Option<PathBuf>,
}

pub(super) async fn run(out: &Output, jobs: &Jobs, args: &Args) -> Result<u8> {
    let filter = ListFilter { workspace: None, status_word: args.status.clone() };
    let mut listed = jobs.list(&filter).await?;
    let before = listed.len();
    if !args.all {
        let here = delegate::workspace(args.workspace.as_deref())?;
        listed.retain(|job| belongs(job, &here));
    }
    if out.json() {
        out.document(json!({ "jobs": listed, "of_other_workspaces": before - listed.len() }));
        return Ok(0);
    }
    if !listed.is_empty() {
        out.text(&render::jobs_table(&listed, out.paint()));
    }
    match before - listed.len() {
        0 if listed.is_empty() => out.note("no jobs"),
        0 => {}
        others => out.note(&format!("{others} of other workspaces; `anchorhold jobs --all` lists them")),
    }
    Ok(0)
}

/// A job belongs to a directory when it was started there, above it or below it: one repository is one place to its user.
pub(super) fn belongs(job: &JobStatus, here: &Path) -> bool {
    job.workspace.starts_with(here) || here.starts_with(&job.workspace)
}
