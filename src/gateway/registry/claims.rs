//! Who may show a job's result and remove it: one process at a time.
//!
//! Every process that consumes asks here, and this is one process with one lock, so of several one is told yes. What it was told outlives it and this
//! gateway: the claim stands in the job's record before it is answered. Whether a claimant still lives is for those who ask to judge, who see its
//! process; they name whom they take to be gone, and where somebody else was quicker they hear so.

use std::time::{Duration, Instant};

use super::{Registry, lock};
use crate::error::Result;
use crate::weaken;

impl Registry {
    /// Gives the claim to `by` where nobody has it or `instead_of` does; who has it now, and for how long; `None`: the job is not known.
    pub fn claim(&self, job_id: &str, by: &str, instead_of: Option<&str>) -> Result<Option<(String, Duration)>> {
        self.change_claim(job_id, |held| match held {
            Some(holder) if holder != by && Some(holder) != instead_of && !weaken::off("fault.claim_is_one") => None,
            _ => Some(Some(by.to_owned())),
        })
    }

    /// Ends the claim of `by`, where it is theirs.
    pub fn unclaim(&self, job_id: &str, by: &str) -> Result<()> {
        self.change_claim(job_id, |held| (held == Some(by)).then_some(None)).map(drop)
    }

    /// Changes a claim and its record, one change after another; one that did not reach the disk has not happened. Who has it then, and for how long.
    fn change_claim(&self, job_id: &str, change: impl FnOnce(Option<&str>) -> Option<Option<String>>) -> Result<Option<(String, Duration)>> {
        let _order = lock(&self.writing);
        let record = lock(&self.state).jobs.get(job_id).map(|job| job.record.clone());
        let Some(mut record) = record else { return Ok(None) };
        // Asked for once more where the answer was lost: then nothing changes.
        if let Some(now) = change(record.claimed_by.as_deref()).filter(|now| *now != record.claimed_by) {
            record.claimed_by = now;
            self.store.put_job(&record, true)?;
            crate::fault::point("gateway.claimed");
            if let Some(job) = lock(&self.state).jobs.get_mut(job_id) {
                job.record.claimed_by = record.claimed_by;
                job.claimed = Instant::now();
            }
        }
        let state = lock(&self.state);
        Ok(state.jobs.get(job_id).and_then(|job| Some((job.record.claimed_by.clone()?, job.claimed.elapsed()))))
    }
}
