//! The jobs whose passes were revoked last.
//!
//! Volumes without a container are left by a removal of ours, which revokes the pass first, or by somebody's own hands. That a gateway does not know a job
//! says which only where it was there before the job; for jobs as old as its state it must remember what it was told, and no clock need be trusted. And a
//! caller's key of a job that was consumed must not start the work once more.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Revocations that are remembered; what is left of older jobs is told by their age.
const MAX: usize = 1_000;

/// One revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    job_id: String,
    instance: String,
    /// The digest of the caller's idempotency key, where it was started with one.
    key: Option<String>,
    /// Unix seconds until which the key names this job.
    key_until: u64,
}

/// Oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revoked(VecDeque<Entry>);

impl Revoked {
    /// Takes in a revocation, with the job's instance and the digest of its key where they are known; false: it is known.
    pub fn add(&mut self, job_id: &str, instance: &str, key: Option<&str>, key_until: u64) -> bool {
        if self.0.iter().any(|known| known.job_id == job_id) {
            return false;
        }
        if self.0.len() >= MAX {
            self.0.pop_front();
        }
        self.0.push_back(Entry { job_id: job_id.to_owned(), instance: instance.to_owned(), key: key.map(ToOwned::to_owned), key_until });
        true
    }

    /// A job got a pass again; false: there was nothing to forget.
    pub fn forget(&mut self, job_id: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|known| known.job_id != job_id);
        self.0.len() < before
    }

    /// All jobs.
    pub fn ids(&self) -> Vec<String> {
        self.0.iter().map(|entry| entry.job_id.clone()).collect()
    }

    /// Whether a key of this instance named a job that is gone.
    pub fn had(&self, instance: &str, key: &str, now_unix: u64) -> bool {
        self.0.iter().any(|entry| entry.instance == instance && entry.key.as_deref() == Some(key) && now_unix <= entry.key_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered() {
        let mut revoked = Revoked::default();
        assert!(revoked.add("a", "i", None, 0) && !revoked.add("a", "i", None, 0));
        assert!(revoked.add("b", "i", None, 0) && revoked.forget("a") && !revoked.forget("a"));
        assert_eq!(revoked.ids(), ["b"]);
        (0..MAX).for_each(|n| assert!(revoked.add(&n.to_string(), "i", None, 0)));
        assert_eq!(revoked.ids().len(), MAX);
        assert!(!revoked.ids().contains(&"b".to_owned()));
    }

    #[test]
    fn a_key_is_used_up_for_its_instance_and_for_its_time() {
        let mut revoked = Revoked::default();
        revoked.add("a", "i", Some("k"), 100);
        assert!(revoked.had("i", "k", 100));
        assert!(!revoked.had("i", "k", 101) && !revoked.had("j", "k", 1) && !revoked.had("i", "l", 1));
        // Said twice by two who remove the same job: the first knew more.
        revoked.add("a", "", None, 0);
        assert!(revoked.had("i", "k", 1));
    }
}
