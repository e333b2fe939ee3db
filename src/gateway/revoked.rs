//! The jobs whose passes were revoked last.
//!
//! Volumes without a container are left by a removal of ours, which revokes the pass first, or by somebody's own hands. That a gateway does not know a job
//! says which only where it was there before the job; for jobs as old as its state it must remember what it was told, and no clock need be trusted.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Revocations that are remembered; what is left of older jobs is told by their age.
const MAX: usize = 1_000;

/// Ids of jobs, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revoked(VecDeque<String>);

impl Revoked {
    /// Takes in a revocation; false: it is known.
    pub fn add(&mut self, job_id: &str) -> bool {
        if self.0.iter().any(|known| known == job_id) {
            return false;
        }
        if self.0.len() >= MAX {
            self.0.pop_front();
        }
        self.0.push_back(job_id.to_owned());
        true
    }

    /// A job got a pass again; false: there was nothing to forget.
    pub fn forget(&mut self, job_id: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|known| known != job_id);
        self.0.len() < before
    }

    /// All.
    pub fn ids(&self) -> Vec<String> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered() {
        let mut revoked = Revoked::default();
        assert!(revoked.add("a") && !revoked.add("a"));
        assert!(revoked.add("b") && revoked.forget("a") && !revoked.forget("a"));
        assert_eq!(revoked.ids(), ["b"]);
        (0..MAX).for_each(|n| assert!(revoked.add(&n.to_string())));
        assert_eq!(revoked.ids().len(), MAX);
        assert!(!revoked.ids().contains(&"b".to_owned()));
    }
}
