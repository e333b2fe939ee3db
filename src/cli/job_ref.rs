//! From what a person types to one job: a whole id, or the first digits of one.

use crate::error::{Code, Error, Result};
use crate::job::id::not_found;
use crate::job::{JobId, Jobs, ListFilter};

/// Fewest digits that name a job.
const SHORTEST: usize = 4;

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum JobRef {
    /// All 32 digits: no list is needed.
    Whole(JobId),
    /// The first digits.
    Prefix(String),
}

impl JobRef {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let text = text.trim().to_ascii_lowercase();
        let text = text.strip_prefix("anchorhold-").unwrap_or(&text);
        if let Ok(id) = text.parse() {
            return Ok(Self::Whole(id));
        }
        let hex = !text.is_empty() && text.len() < 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !hex {
            return Err(not_found());
        }
        if text.len() < SHORTEST {
            return Err(Error::new(Code::InvalidArguments, format!("a job id is abbreviated to at least {SHORTEST} digits"))
                .with_hint("list the jobs with `anchorhold jobs --all`"));
        }
        Ok(Self::Prefix(text.to_owned()))
    }
}

/// The one id that begins with the prefix.
pub(super) fn pick<'a>(prefix: &str, ids: impl Iterator<Item = &'a JobId>) -> Result<JobId> {
    let mut found: Vec<&JobId> = ids.filter(|id| id.as_str().starts_with(prefix)).collect();
    match found.len() {
        0 => Err(not_found()),
        1 => Ok(found.remove(0).clone()),
        more => {
            let candidates: Vec<&str> = found.iter().take(20).map(|id| id.as_str()).collect();
            Err(Error::new(Code::InvalidArguments, format!("{more} jobs begin with these digits"))
                .with_hint(format!("type more digits: {}", candidates.join(", ")))
                .with_detail("candidates", candidates))
        }
    }
}

/// Resolves what was typed; asks the engine only for an abbreviation.
pub(super) async fn resolve(jobs: &Jobs, text: &str) -> Result<JobId> {
    match JobRef::parse(text)? {
        JobRef::Whole(id) => Ok(id),
        JobRef::Prefix(prefix) => {
            let listed = jobs.list(&ListFilter::default()).await?;
            pick(&prefix, listed.iter().map(|job| &job.job_id))
        }
    }
}
