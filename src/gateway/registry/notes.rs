//! What of the state reaches the volume: records, and lines of the ledger.

use std::sync::atomic::Ordering;

use serde_json::{Map, Value};

use super::{Registry, lock};
use crate::error::Result;
use crate::protocol::ledger::{Head, LedgerFile};

impl Registry {
    pub(super) fn persist(&self, job_id: &str, durable: bool) -> Result<()> {
        let _order = lock(&self.writing);
        let record = lock(&self.state).jobs.get(job_id).map(|job| job.record.clone());
        match record {
            Some(record) => self.store.put_job(&record, durable),
            None => self.store.remove_job(job_id),
        }
    }

    pub(super) fn persist_all(&self, job_ids: &[String]) {
        for job_id in job_ids {
            if let Err(e) = self.persist(job_id, false) {
                tracing::error!(error = %e.chain(), "a job's record could not be written");
            }
        }
    }

    pub(super) fn note(&self, kind: &str, line: Map<String, Value>) {
        if let Err(e) = lock(&self.ledger).append(kind, line) {
            self.ledger_broken.store(true, Ordering::Relaxed);
            tracing::error!(error = %e.chain(), "the ledger cannot be written; requests are refused until it can");
        }
    }

    pub(super) fn note_durably(&self, kind: &str, line: Map<String, Value>) -> Result<()> {
        let mut ledger = lock(&self.ledger);
        ledger.append(kind, line)?;
        ledger.sync()
    }

    pub(super) fn mend_ledger(&self) -> bool {
        let mended = lock(&self.ledger).append("gap", Map::new()).is_ok();
        self.ledger_broken.store(!mended, Ordering::Relaxed);
        mended
    }

    /// The ledger's last line.
    pub fn ledger_head(&self) -> Head {
        lock(&self.ledger).head()
    }

    /// The ledger's files and its last line, at one moment.
    pub fn ledger_files(&self) -> (Vec<LedgerFile>, Head) {
        let ledger = lock(&self.ledger);
        (ledger.files(), ledger.head())
    }

    /// A piece of a file of the ledger.
    pub fn ledger_piece(&self, first_seq: u64, offset: u64, most: u64) -> std::io::Result<Option<Vec<u8>>> {
        lock(&self.ledger).read(first_seq, offset, most)
    }

    /// Writes the day's tokens; only where they are bounded does anybody read them back.
    pub(super) fn persist_day(&self) -> Result<()> {
        let _order = lock(&self.writing);
        let day = {
            let state = lock(&self.state);
            (state.ceilings.tokens_per_day > 0).then_some(state.day)
        };
        day.map_or(Ok(()), |day| self.store.put_day(&day))
    }
}
