//! Many jobs at once.

use std::collections::HashSet;
use std::path::Path;

use futures_util::StreamExt as _;

use super::labels;
use super::service::Core;
use super::status::{self, Found, Observed};
use super::{JobStatus, ListFilter, bury, log, restore};
use crate::engine::{ContainerFacts, ContainerState};
use crate::error::Result;

/// Engine calls in flight for one list.
const AT_ONCE: usize = 8;
/// Ended jobs of one list that are inspected for the time of their end. A list of hundreds must not cost hundreds of calls.
const EXACT: usize = 50;

/// Every container that carries a job label of this instance, whatever it is by now.
pub(super) async fn rows(core: &Core) -> Result<Vec<ContainerFacts>> {
    let rows = core.engine().await?.list_containers(&[(labels::INSTANCE, core.settings.engine.instance.as_str())]).await?;
    Ok(rows.into_iter().filter(|row| row.labels.contains_key(labels::JOB)).collect())
}

/// The jobs that pass the filter, newest first. One list of containers, and beside it one of volumes without a container, for jobs whose container somebody
/// removed; then a log's tail for each that runs, and an inspect for the newest of those that have ended: the engine's list tells how a container ended,
/// but not when. For the others that is left open.
pub(super) async fn list(core: &Core, filter: &ListFilter) -> Result<Vec<JobStatus>> {
    let workspace = filter.workspace.as_ref().map(|path| std::fs::canonicalize(path).unwrap_or_else(|_| path.clone()));
    let instance = core.settings.engine.instance.as_str();
    let engine = core.engine().await?;
    let (rows, volumes, _) = tokio::join!(rows(core), restore::without_container(core), core.tell_time(&engine));
    let mut rows = rows?;
    bury::finish_all(core, &mut rows).await?;
    let has_container: HashSet<String> = rows.iter().filter_map(|row| row.labels.get(labels::JOB).cloned()).collect();
    let mut without = restore::all(core, volumes?.difference(&has_container)).await;
    without.retain(|seen| workspace.as_deref().is_none_or(|wanted| is_of(&seen.found, wanted)));
    let mut found: Vec<Found> = rows.into_iter().filter_map(|facts| Found::from_facts(facts, instance)).collect();
    found.retain(|job| workspace.as_deref().is_none_or(|wanted| is_of(job, wanted)));
    found.sort_by_key(|job| std::cmp::Reverse(job.labels.created_ms));
    let mut exact = EXACT;
    let looks = found.into_iter().map(|job| {
        let ended = matches!(job.facts.state, ContainerState::Exited | ContainerState::Dead);
        let closely = !ended || exact > 0;
        exact -= usize::from(ended && closely);
        async move { if closely { look(core, job).await } else { status::judged_found(core, job) } }
    });
    let mut jobs: Vec<JobStatus> =
        futures_util::stream::iter(looks).buffer_unordered(AT_ONCE).filter_map(|seen| async move { Some(seen?.status()) }).collect().await;
    jobs.extend(without.iter().map(Observed::status));
    jobs.retain(|job| filter.status_word.as_deref().is_none_or(|word| word == job.state.status_word()));
    jobs.sort_by(|a, b| b.started_unix_ms.cmp(&a.started_unix_ms).then_with(|| b.job_id.cmp(&a.job_id)));
    Ok(jobs)
}

fn is_of(job: &Found, wanted: &Path) -> bool {
    job.labels.workspace == wanted || job.labels.root == wanted
}

/// A row as a job; `None` for one that vanished meanwhile.
pub(super) async fn look(core: &Core, job: Found) -> Option<Observed> {
    match job.facts.state {
        ContainerState::Running | ContainerState::Paused => {
            let last = log::last(core, &job.container()).await.inspect_err(|e| tracing::debug!(error = e.chain(), "a job's log could not be read"));
            let last = last.ok().flatten();
            status::judged(core, job.facts, last)
        }
        ContainerState::Exited | ContainerState::Dead | ContainerState::Restarting => {
            // Without the details the row still says what is true; a job that was handed out is not left out of a list.
            let asked = async { core.engine().await?.inspect_container(&job.container()).await };
            match asked.await {
                Ok(facts) => status::judged(core, facts?, None),
                Err(_) => status::judged(core, job.facts, None),
            }
        }
        ContainerState::Created | ContainerState::Removing => status::judged_now(core, job.facts, None).await.ok()?,
    }
}

#[cfg(test)]
mod tests {
    use super::super::labels::tests::sample;
    use super::*;
    use crate::engine::ContainerId;

    #[test]
    fn a_workspace_is_its_directory_or_its_top() {
        let facts = status::just_created(ContainerId::parse(&"a".repeat(64)).unwrap(), &sample(), "i");
        let job = Found::from_facts(facts, "default").unwrap();
        assert!(is_of(&job, Path::new("/repo/sub")) && is_of(&job, Path::new("/repo")));
        assert!(!is_of(&job, Path::new("/repo/su")) && !is_of(&job, Path::new("/")));
    }
}
