//! Which jobs a client reaches: over HTTP only those of workspaces beneath `[roots] allow`, where there are any.
//!
//! A client on the same machine has its user's rights and reaches all. One from elsewhere was given some directories, and what the user does in others
//! on the command line is not its business: such a job is as unknown as one that never was.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::workspace::canonical;
use crate::error::Result;
use crate::job::{JobId, Jobs, id::not_found};
use crate::weaken;

/// Arguments that name a job.
const NAMES: [&str; 2] = ["job_id", "continue_job_id"];

/// The directories; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Reach(Option<Arc<[PathBuf]>>);

impl Reach {
    /// Beneath these; all where there are none.
    pub fn beneath(roots: &[PathBuf]) -> Self {
        Self((!roots.is_empty() && !weaken::off("http.reach")).then(|| roots.iter().map(|root| canonical(root)).collect()))
    }

    /// Whether a job of this workspace is reached.
    pub fn sees(&self, workspace: &Path) -> bool {
        let Self(Some(roots)) = self else { return true };
        let workspace = canonical(workspace);
        roots.iter().any(|root| workspace.starts_with(root))
    }

    /// Whether this job is.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::JobNotFound`] where it is not, and what asking for it gives.
    pub async fn check(&self, jobs: &Jobs, id: &JobId) -> Result<()> {
        if self.0.is_none() || self.sees(&jobs.status(id).await?.workspace) { Ok(()) } else { Err(not_found()) }
    }

    /// The same for every job that a call's arguments name. What is no id is left to the tool.
    ///
    /// # Errors
    ///
    /// As [`Self::check`].
    pub async fn check_arguments(&self, jobs: &Jobs, arguments: Option<&Map<String, Value>>) -> Result<()> {
        if self.0.is_none() {
            return Ok(());
        }
        for name in NAMES {
            if let Some(id) = arguments.and_then(|all| all.get(name)).and_then(Value::as_str).and_then(|text| text.parse().ok()) {
                self.check(jobs, &id).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beneath_a_root_is_seen_also_through_links() {
        let top = tempfile::tempdir().unwrap();
        let (inside, outside) = (top.path().join("in/deep"), top.path().join("out"));
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, top.path().join("in/link")).unwrap();
        let reach = Reach::beneath(&[top.path().join("in")]);
        assert!(reach.sees(&inside) && reach.sees(&top.path().join("in")) && reach.sees(&top.path().join("in/gone")) == top.path().is_absolute());
        for path in [outside.clone(), top.path().join("in/link"), top.path().join("inside"), top.path().to_owned()] {
            assert!(!reach.sees(&path), "{}", path.display());
        }
        assert!(Reach::beneath(&[]).sees(&outside) && Reach::default().sees(&outside));
    }
}
