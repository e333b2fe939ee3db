//! What went wrong with a job, as an error. The job branch's file of this name replaces this one.

use super::JobResult;
use crate::error::{Code, Error};
use crate::protocol::result::Reason;

impl JobResult {
    /// The error that a bad end is; `None` for a completed job.
    pub fn failure(&self) -> Option<Error> {
        let code = match self.status.reason? {
            Reason::Completed => return None,
            Reason::Failed | Reason::Interrupted => Code::JobFailed,
            Reason::Cancelled => Code::JobCancelled,
            Reason::Deadline => Code::Timeout,
            Reason::TokenBudget => Code::TokenBudget,
            Reason::Memory => Code::OutOfMemory,
            Reason::Disk => Code::OutOfDisk,
            Reason::ProviderUnreachable => Code::ProviderUnreachable,
            Reason::Lost => Code::JobLost,
        };
        Some(Error::new(code, self.status.detail.clone()))
    }
}
