//! A job that has ended, and the checkout that its work goes into.

use std::path::PathBuf;

use super::args::JobArg;
use super::{delegate, follow, job_ref, render};
use crate::error::Result;
use crate::job::{JobResult, Jobs};

#[derive(Debug, clap::Args)]
pub(super) struct Ended {
    #[command(flatten)]
    job: JobArg,
    /// Another checkout of the same repository [default: the one that the job was started for]
    #[arg(long, short = 'C', value_name = "DIR")]
    workspace: Option<PathBuf>,
}

impl Ended {
    /// What the job left; an error where nothing is known of that.
    pub(super) async fn result(&self, jobs: &Jobs) -> Result<JobResult> {
        let id = job_ref::resolve(jobs, &self.job.job).await?;
        let result = follow::result(jobs, &id).await?;
        render::nothing_known(&result).map_or(Ok(result), Err)
    }

    /// Where it goes.
    pub(super) fn directory(&self, result: &JobResult) -> Result<PathBuf> {
        match &self.workspace {
            Some(named) => delegate::workspace(Some(named)),
            None => Ok(result.status.workspace.clone()),
        }
    }
}
