//! The sweep: removes what has expired, what somebody began to remove, and what belongs to nobody.
//!
//! Everything is found by label, so it does not matter which process made it or died over it. Each step may run in several processes at once.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use tracing::Instrument as _;

use super::deliverer::{Deliverer, Life};
use super::labels::{self, JobLabels};
use super::restore::{self, Word};
use super::service::Core;
use super::status::{Found, Observed};
use super::{GcReport, JobId, bury, claim, list, seal, spec};
use crate::engine::{ContainerFacts, ContainerRef, ContainerState};
use crate::error::{Code, Error, Result};
use crate::fault;
use crate::telemetry::TraceContext;

/// Milliseconds that a volume may be without its container: the engine makes both in one call, volumes first.
const YOUNG_MS: u64 = 30 * 1000;
/// Seconds that a job whose delivery was never finished stays visible, so that whoever waits for it learns that.
const UNDELIVERED_SECONDS: u64 = 3600;
/// Removals and looks at once.
const AT_ONCE: usize = 4;

/// Sweeps once.
pub(super) async fn sweep(core: &Core) -> Result<GcReport> {
    // It is about many jobs, so it is a trace of its own.
    let span = tracing::error_span!("gc", traceparent = %TraceContext::random().header(), error = tracing::field::Empty);
    let swept = sweep_all(core).instrument(span.clone()).await;
    if let Err(error) = &swept {
        span.record("error", error.code.as_str());
    }
    swept
}

async fn sweep_all(core: &Core) -> Result<GcReport> {
    let engine = core.engine().await?;
    let instance = core.settings.engine.instance.as_str();
    // Whose clock is not known cannot say what has expired.
    if !core.tell_time(&engine).await {
        return Err(Error::new(Code::EngineError, "sweep: the engine does not tell the time").with_hint("try again, and run `anchorhold doctor`"));
    }
    // Passes before containers: a job is admitted after its container exists, so a pass that is seen now and has no
    // container in the later list is of a job that is gone.
    let word = Word::ask(core, &engine).await;
    let volumes = engine.list_volumes(&[(labels::INSTANCE, instance)]).await?;
    let mut rows = list::rows(core).await?;
    bury::finish_all(core, &mut rows).await?;
    fault::point("gc.listed");
    let alive: HashSet<String> = rows.iter().filter_map(|row| row.labels.get(labels::JOB).cloned()).collect();

    // What processes left on this machine that were killed.
    let _ = core.tasks.spawn_blocking(crate::workspace::sweep_scratch).await;
    let mut report = GcReport::default();
    let steps: Vec<Step> = futures_util::stream::iter(rows).map(|row| remove_if_due(core, row)).buffer_unordered(AT_ONCE).collect().await;
    for step in steps {
        match step {
            Step::Kept => {}
            Step::Expired(id, problems) => {
                report.expired.push(id);
                report.problems.extend(problems);
            }
            Step::Finished(id, problems) => {
                report.finished_consumes.push(id);
                report.problems.extend(problems);
            }
            Step::Problem(problem) => report.problems.push(problem),
        }
    }
    fault::point("gc.removed");
    let mut restorable: HashSet<String> = HashSet::new();
    for (name, labels) in volumes {
        let Some(job) = labels.get(labels::JOB) else { continue };
        let created_ms = restore::created_ms(&labels);
        let removed = word.was_removed(job, created_ms);
        // Of a young one it is not known whether its container is about to be made; but what was removed by our rules had one.
        let young = core.now_ms() < created_ms.saturating_add(YOUNG_MS) && !removed;
        if alive.contains(job) || young {
            continue;
        }
        // What somebody removed from outside is made again by whoever looks for it, for as long as its result would be kept.
        let labels = JobLabels::parse(&labels);
        let kept_until_ms = match &labels {
            // The word of a tombstone.
            Some(JobLabels { ended: Some(ended), ttl_seconds, .. }) => Some(ended.at_ms.saturating_add(ttl_seconds.saturating_mul(1000))),
            _ if word.never_heard(job, created_ms) => Some(created_ms.saturating_add(UNDELIVERED_SECONDS.saturating_mul(1000))),
            labels => labels.as_ref().map(end_of_retention_ms),
        };
        if !removed && kept_until_ms.is_none_or(|until_ms| core.now_ms() <= until_ms) {
            restorable.insert(job.clone());
            continue;
        }
        match bury::remove_volume(core, &name).await {
            Ok(true) => report.volumes.push(name.as_str().to_owned()),
            Ok(false) => {}
            Err(e) => report.problems.push(e.chain()),
        }
    }
    fault::point("gc.swept");
    for job_id in word.jobs().iter().filter(|job_id| !alive.contains(*job_id) && !restorable.contains(*job_id)) {
        // The last word of a job of which nothing else is left: kept as long as the job would be.
        let account = core.gateway.account(&engine, &core.settings, job_id).await;
        if account.and_then(|account| JobLabels::parse(&account.labels)).is_some_and(|labels| core.now_ms() <= end_of_retention_ms(&labels)) {
            continue;
        }
        core.gateway.revoke(&engine, &core.settings, job_id).await;
        report.passes += 1;
    }
    Ok(report)
}

/// When a job that was removed from outside would have expired at the latest; when it ended is not known.
fn end_of_retention_ms(labels: &JobLabels) -> u64 {
    labels.latest_end_ms().saturating_add(labels.ttl_seconds.saturating_mul(1000))
}

enum Step {
    Kept,
    Expired(JobId, Vec<String>),
    Finished(JobId, Vec<String>),
    Problem(String),
}

async fn remove_if_due(core: &Core, row: ContainerFacts) -> Step {
    let Some(labels) = JobLabels::parse(&row.labels) else {
        // Another version's job: not ours to judge.
        return Step::Kept;
    };
    let container = ContainerRef::Id(row.id.clone());
    if spec::is_consumed(&row.name, &labels.id) {
        // Its tombstone may live under the job's own name; that one has no volumes.
        let problems = bury::remove(core, &labels.id, &container).await;
        return Step::Finished(labels.id, problems);
    }
    if row.name.starts_with("anchorhold-key-") {
        let young = core.now_ms() < labels.created_ms.saturating_add(YOUNG_MS);
        match labels.deliverer.as_ref().map_or(Life::Unknown, Deliverer::life) {
            Life::Alive => return Step::Kept,
            Life::Unknown if young => return Step::Kept,
            Life::Gone | Life::Unknown => {}
        }
        let problems = bury::remove(core, &labels.id, &container).await;
        return Step::Finished(labels.id, problems);
    }
    let Some(job) = Found::from_facts(row, &core.settings.engine.instance) else { return Step::Kept };
    if is_kept_whatever_its_end(&job, core.now_ms()) {
        return Step::Kept;
    }
    let Some(seen) = list::look(core, job).await else { return Step::Kept };
    if seen.derived.overdue {
        return match seal::kill_overdue(core, &seen).await {
            Ok(()) => Step::Problem(format!("job {} ran past every limit and was killed; it will be sealed when it is next looked at", labels.id)),
            Err(e) => Step::Problem(e.chain()),
        };
    }
    if !is_expired(&seen, core.now_ms()) {
        return Step::Kept;
    }
    match claim_expired(core, &labels.id, &container).await {
        Ok(true) => Step::Expired(labels.id.clone(), bury::remove(core, &labels.id, &container).await),
        Ok(false) => Step::Kept,
        Err(e) => Step::Problem(e.chain()),
    }
}

/// Takes an expired job away from everybody else; `false`: somebody was first, who may still be showing its result.
async fn claim_expired(core: &Core, id: &JobId, container: &ContainerRef) -> Result<bool> {
    let engine = core.engine().await?;
    let right = match claim::ask(core, &engine, id, Duration::ZERO).await {
        claim::Word::Theirs => return Ok(false),
        claim::Word::Ours(right) => Some(right),
        claim::Word::Unknown | claim::Word::Silent(_) => None,
    };
    let taken = async {
        bury::forget_tombstone(core, id).await?;
        bury::claim(core, id, container).await
    };
    let taken = taken.await;
    if let Some(right) = right.filter(|_| !matches!(taken, Ok(true))) {
        claim::give_back(core, &engine, id, right).await;
    }
    taken
}

/// Whether the list alone says that a job stays: one that has ended did so after it was made, so its time is not over before this. Saves the
/// inspect for almost every job of a sweep.
fn is_kept_whatever_its_end(job: &Found, now_ms: u64) -> bool {
    let ended = matches!(job.facts.state, ContainerState::Exited | ContainerState::Dead);
    ended && now_ms <= job.labels.created_ms.saturating_add(job.labels.ttl_seconds.saturating_mul(1000))
}

/// Whether a job's time is over. One that died unsealed counts from its death; nobody came to seal it.
fn is_expired(seen: &Observed, now_ms: u64) -> bool {
    let labels = &seen.found.labels;
    if !(seen.derived.state.is_final() || seen.derived.needs_seal) {
        return false;
    }
    let undelivered = seen.found.facts.state == ContainerState::Created && labels.ended.is_none() && labels.restored.is_none();
    let kept_seconds = if undelivered { UNDELIVERED_SECONDS.min(labels.ttl_seconds) } else { labels.ttl_seconds };
    let unknown = if labels.restored.is_some() { labels.latest_end_ms() } else { labels.created_ms };
    let from = seen.derived.ended_ms.unwrap_or(unknown);
    now_ms > from.saturating_add(kept_seconds.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::super::labels::tests::sample;
    use super::super::state::derive;
    use super::super::status::just_created;
    use super::*;
    use crate::engine::ContainerId;

    fn seen(state: ContainerState, exit_code: Option<i64>, now: u64) -> Observed {
        let facts = ContainerFacts {
            state,
            exit_code,
            finished_unix_ms: exit_code.map(|_| 1_400_000),
            started_unix_ms: exit_code.map(|_| 1_100_000),
            ..just_created(ContainerId::parse(&"a".repeat(64)).unwrap(), &sample(), "i")
        };
        let derived = derive(&facts, &sample(), None, now, 0, Life::Unknown);
        Observed { found: Found::from_facts(facts, "default").unwrap(), last: None, derived, now_ms: now }
    }

    #[test]
    fn a_list_is_enough_to_keep_an_ended_job_and_never_to_remove_one() {
        let job = |state, code| seen(state, code, 1_400_000).found;
        let ttl = 86_400_000;
        // It was made at 1,000 s and ended at 1,400 s.
        assert!(is_kept_whatever_its_end(&job(ContainerState::Exited, Some(0)), 1_000_000 + ttl));
        assert!(!is_kept_whatever_its_end(&job(ContainerState::Exited, Some(0)), 1_000_001 + ttl), "then its end is asked for");
        assert!(!is_kept_whatever_its_end(&job(ContainerState::Running, None), 1_000_000), "it may be overdue");
        assert!(!is_kept_whatever_its_end(&job(ContainerState::Created, None), 1_000_000));
    }

    #[test]
    fn time_counts_from_the_end_and_never_for_a_living_job() {
        let ttl = 86_400_000;
        for code in [0, 42, 137] {
            assert!(!is_expired(&seen(ContainerState::Exited, Some(code), 1_400_000 + ttl), 1_400_000 + ttl), "{code}");
            assert!(is_expired(&seen(ContainerState::Exited, Some(code), 1_400_001 + ttl), 1_400_001 + ttl), "{code}");
        }
        let late = u64::MAX / 2;
        assert!(!is_expired(&seen(ContainerState::Running, None, late), late));
        assert!(!is_expired(&seen(ContainerState::Paused, None, late), late));
        // Never delivered: `prepare_by` is 2,000 s.
        assert!(!is_expired(&seen(ContainerState::Created, None, 1_999_000), 1_999_000));
        assert!(!is_expired(&seen(ContainerState::Created, None, 5_600_000), 5_600_000));
        assert!(is_expired(&seen(ContainerState::Created, None, 5_600_001), 5_600_001));
    }
}
