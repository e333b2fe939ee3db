//! The domain's entry: [`Jobs`].

use std::sync::Arc;

use super::{DelegateRequest, GcReport, JobId, JobResult, JobStatus, ListFilter, StartedJob};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::protocol::progress::Progress;

/// Starts, watches, collects and removes jobs. Cheap to make: the engine is first asked when a call needs it.
#[derive(Clone)]
pub struct Jobs {
    settings: Arc<Settings>,
}

impl Jobs {
    /// No connection is made here.
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings) }
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Checks, snapshots, creates the container and returns; delivery and start go on in this process.
    pub async fn start(&self, _request: DelegateRequest) -> Result<StartedJob> {
        Err(Error::internal("not built"))
    }

    /// Waits until this process has delivered and started the job (at once, if another process started it).
    pub async fn delivered(&self, _id: &JobId) -> Result<()> {
        Err(Error::internal("not built"))
    }

    /// Where a job stands.
    pub async fn status(&self, _id: &JobId) -> Result<JobStatus> {
        Err(Error::internal("not built"))
    }

    /// Follows a job to its end: calls `on_progress` for each record of its log, returns the final status.
    pub async fn watch(&self, _id: &JobId, _on_progress: &mut (dyn FnMut(&Progress) + Send)) -> Result<JobStatus> {
        Err(Error::internal("not built"))
    }

    /// The result of an ended job; [`crate::error::Code::JobRunning`] while it runs.
    pub async fn result(&self, _id: &JobId) -> Result<JobResult> {
        Err(Error::internal("not built"))
    }

    /// The result, and nothing of the job is left. Of several callers exactly one wins.
    pub async fn consume(&self, _id: &JobId) -> Result<JobResult> {
        Err(Error::internal("not built"))
    }

    /// Ends a job; its partial work is sealed. Idempotent.
    pub async fn cancel(&self, _id: &JobId) -> Result<JobStatus> {
        Err(Error::internal("not built"))
    }

    /// Jobs of this instance, newest first.
    pub async fn list(&self, _filter: &ListFilter) -> Result<Vec<JobStatus>> {
        Err(Error::internal("not built"))
    }

    /// The progress records in a job's container log so far.
    pub async fn log(&self, _id: &JobId) -> Result<Vec<Progress>> {
        Err(Error::internal("not built"))
    }

    /// Removes what has expired or belongs to nobody.
    pub async fn gc(&self) -> Result<GcReport> {
        Err(Error::internal("not built"))
    }

    /// Waits until every delivery of this process is done.
    pub async fn shutdown(&self) {}
}
