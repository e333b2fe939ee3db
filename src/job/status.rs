//! A job as one looks at it: found by its name, read, derived, rendered.

use std::time::Duration;

use super::deliverer::Life;
use super::labels::JobLabels;
use super::service::Core;
use super::state::{Derived, derive};
use super::time::rfc3339;
use super::{JobId, JobStatus, bury, labels, log, restore, spec};
use crate::engine::{ContainerFacts, ContainerRef, ContainerState};
use crate::error::{Code, Error, Result};
use crate::protocol::progress::{Phase, Progress};
use crate::protocol::result::Reason;
use crate::weaken;

/// What the engine is given to carry out the last request of a process that died, which may have been the start.
const LAST_REQUEST: Duration = Duration::from_millis(100);
/// Longest activity text in characters.
const MAX_ACTIVITY: usize = 200;

/// A job's container with its labels.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub facts: ContainerFacts,
    pub labels: JobLabels,
}

impl Found {
    /// A container as a job of this instance; `None`: it is none, or it is already consumed.
    pub(super) fn from_facts(facts: ContainerFacts, instance: &str) -> Option<Self> {
        let labels = JobLabels::parse(&facts.labels)?;
        // It is found by its label, so that it may be renamed; three names of ours say that it is no job any more, or none yet.
        let named =
            !spec::is_consumed(&facts.name, &labels.id) && !spec::is_lying(&facts.name, &labels.id) && !facts.name.starts_with("anchorhold-key-");
        (named && (labels.instance == instance || weaken::off("callers.instance"))).then_some(Self { facts, labels })
    }

    pub(super) fn container(&self) -> ContainerRef {
        ContainerRef::Id(self.facts.id.clone())
    }
}

/// A job and where it stands now.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    pub found: Found,
    pub last: Option<Progress>,
    pub derived: Derived,
    /// When that was, in unix milliseconds by the engine's clock.
    pub now_ms: u64,
}

impl Observed {
    pub(super) fn status(&self) -> JobStatus {
        render(&self.found.labels, &self.derived, self.last.as_ref(), self.now_ms)
    }
}

/// What the engine shows of a job's container.
pub(super) enum Sight {
    /// It is there.
    Job(Box<Observed>),
    /// It is being removed by our rules.
    Going,
    /// There is none.
    Nothing,
}

/// How long a container that is being removed or replaced is waited for, and how often it is looked at.
const REMOVED_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Looks at a job; where somebody removed its container, at what is left of it ([`restore`]).
pub(super) async fn observe(core: &Core, id: &JobId) -> Result<Option<Observed>> {
    // Both are large, and this is awaited in many places: on the heap, so that no caller's stack has to hold them.
    match Box::pin(look(core, id)).await? {
        Sight::Job(seen) => Ok(Some(*seen)),
        Sight::Going => Ok(None),
        Sight::Nothing => Box::pin(restore::find(core, id)).await,
    }
}

/// Looks at a job's container: one inspect by its name, and beside it the tail of its log; only where there is none of that name, a list by its label.
pub(super) async fn look(core: &Core, id: &JobId) -> Result<Sight> {
    let engine = core.engine().await?;
    let mut name = ContainerRef::Name(spec::job_name(id)?);
    let until = tokio::time::Instant::now() + REMOVED_WITHIN;
    loop {
        let (facts, last, _) = tokio::join!(engine.inspect_container(&name), log::last(core, &name), core.tell_time(&engine));
        let (facts, finished) = match facts? {
            Some(facts) => (Some(facts), false),
            // Perhaps a process died while it put a tombstone in the job's place.
            None => (bury::finish(core, id).await?, true),
        };
        let mut removing = false;
        match facts {
            Some(facts) if facts.state == ContainerState::Removing => removing = true,
            Some(facts) => {
                // Only of one that runs does the log decide the state. A tombstone has none.
                let last = match facts.state {
                    ContainerState::Running | ContainerState::Paused | ContainerState::Restarting if !finished => last?,
                    _ => last.ok().flatten(),
                };
                if let Some(seen) = judged_now(core, facts, last).await?.filter(|seen| seen.found.labels.id == *id) {
                    return Ok(Sight::Job(Box::new(seen)));
                }
                // Something else has the name, or it went away just now.
            }
            None => {}
        }
        let rows = engine.list_containers(&[(labels::INSTANCE, core.settings.engine.instance.as_str()), (labels::JOB, id.as_str())]).await?;
        let renamed = rows.iter().find(|row| {
            ContainerRef::Id(row.id.clone()) != name
                && row.state != ContainerState::Removing
                && Found::from_facts((*row).clone(), &core.settings.engine.instance).is_some_and(|found| found.labels.id == *id)
        });
        let time_left = tokio::time::Instant::now() < until;
        match renamed {
            Some(row) if time_left => name = ContainerRef::Id(row.id.clone()),
            // Removed under its own name, so from outside: what is left of it shows when that is through. Or its tombstone is about to get its name.
            _ if time_left && (removing || rows.iter().any(|row| !ours_to_remove(row))) => {
                tokio::time::sleep(LOOK_AGAIN).await;
                name = ContainerRef::Name(spec::job_name(id)?);
            }
            _ if rows.is_empty() => return Ok(Sight::Nothing),
            // Not by our rules, or not yet: an engine under load takes its time, and that is no answer.
            _ if rows.iter().any(|row| !ours_to_remove(row)) => {
                return Err(Error::new(Code::EngineError, "look at the job: its container is being removed or replaced, which takes long")
                    .with_hint("try again in a moment")
                    .with_retry_after_ms(1_000));
            }
            _ => return Ok(Sight::Going),
        }
    }
}

/// Whether a container carries a name that we give to what is to be removed, or is not a job yet.
fn ours_to_remove(row: &ContainerFacts) -> bool {
    row.name.ends_with("-consumed") || row.name.starts_with("anchorhold-key-")
}

/// Where a job stands, that may not have started: then it counts whether the process lives that delivers it.
pub(super) async fn judged_now(core: &Core, facts: ContainerFacts, last: Option<Progress>) -> Result<Option<Observed>> {
    if facts.state != ContainerState::Created {
        return Ok(judged(core, facts, last));
    }
    let Some(found) = Found::from_facts(facts, &core.settings.engine.instance) else { return Ok(None) };
    let life = match &found.labels.deliverer {
        _ if found.labels.ended.is_some() || found.labels.restored.is_some() => Life::Unknown,
        _ if core.deliveries.is_over(&found.labels.id) => Life::Gone,
        Some(deliverer) => deliverer.life(),
        None => Life::Unknown,
    };
    if life != Life::Gone {
        return Ok(derived(core, found.facts, last, life));
    }
    // To start the job may have been its last deed.
    tokio::time::sleep(LAST_REQUEST).await;
    let now = core.engine().await?.inspect_container(&found.container()).await?;
    Ok(now.and_then(|facts| derived(core, facts, last, life)))
}

/// The same from facts that are already there.
pub(super) fn judged(core: &Core, facts: ContainerFacts, last: Option<Progress>) -> Option<Observed> {
    derived(core, facts, last, Life::Unknown)
}

fn derived(core: &Core, facts: ContainerFacts, last: Option<Progress>, deliverer: Life) -> Option<Observed> {
    at(core, Found::from_facts(facts, &core.settings.engine.instance)?, last, deliverer)
}

/// The same of a job whose labels have been read.
pub(super) fn judged_found(core: &Core, found: Found) -> Option<Observed> {
    at(core, found, None, Life::Unknown)
}

fn at(core: &Core, found: Found, last: Option<Progress>, deliverer: Life) -> Option<Observed> {
    let now_ms = core.now_ms();
    let derived = derive(&found.facts, &found.labels, last.as_ref(), now_ms, core.seal_attempts(&found.labels.id), deliverer);
    (!derived.gone).then_some(Observed { found, last, derived, now_ms })
}

/// The facts of a container that was made this instant; saves an inspect.
pub(super) fn just_created(id: crate::engine::ContainerId, labels: &JobLabels, image_id: &str) -> ContainerFacts {
    ContainerFacts {
        id,
        name: format!("anchorhold-{}", labels.id),
        labels: labels.write(),
        state: ContainerState::Created,
        exit_code: None,
        oom_killed: false,
        created_unix_ms: labels.created_ms,
        started_unix_ms: None,
        finished_unix_ms: None,
        image_id: image_id.to_owned(),
    }
}

/// Renders a status; pure.
pub(super) fn render(labels: &JobLabels, derived: &Derived, last: Option<&Progress>, now_ms: u64) -> JobStatus {
    let is_final = derived.state.is_final();
    let sealed_ms = last.filter(|record| record.phase == Phase::Sealed).map(|record| record.ms);
    let ended_ms = is_final.then(|| derived.ended_ms.or(sealed_ms)).flatten();
    let until_ms = if is_final { ended_ms } else { Some(now_ms) };
    let elapsed_ms = until_ms.map(|ms| ms.saturating_sub(labels.created_ms));
    let last_event_ms = last.map(|record| record.ms);
    JobStatus {
        job_id: labels.id.clone(),
        kind: labels.kind,
        state: derived.state,
        reason: derived.reason,
        detail: derived.detail.clone().into_owned(),
        started_at: rfc3339(labels.created_ms),
        started_unix_ms: labels.created_ms,
        ended_at: ended_ms.map(rfc3339),
        elapsed_ms,
        deadline_seconds: labels.deadline_seconds,
        ttl_seconds: labels.ttl_seconds,
        expires_at: ended_ms.map(|ms| rfc3339(ms.saturating_add(labels.ttl_seconds.saturating_mul(1000)))),
        poll_after_ms: elapsed_ms.filter(|_| !is_final).unwrap_or(0).clamp(1_000, 10_000),
        result_available: is_final,
        result_ok: derived.reason.map(|reason| reason == Reason::Completed),
        untrusted_activity: if is_final {
            None
        } else {
            last.and_then(|record| record.message.as_deref()).map(|text| crate::display::clip(text.as_bytes(), MAX_ACTIVITY))
        },
        queue_position: if is_final { None } else { last.and_then(|record| record.position) },
        events_seen: last.map_or(0, |record| record.events),
        last_event_at: last_event_ms.map(rfc3339),
        event_age_ms: last_event_ms.map(|ms| now_ms.saturating_sub(ms)),
        answers: last.map_or(0, |record| record.answers),
        workspace: labels.workspace.clone(),
        head: labels.head.clone(),
        dirty: labels.dirty,
        model: labels.model.clone(),
        version: labels.version.clone(),
        continues: labels.continues.clone(),
        isolation: labels.isolation.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::JobState;
    use super::super::labels::tests::sample;
    use super::*;
    use crate::engine::ContainerId;

    fn facts() -> ContainerFacts {
        just_created(ContainerId::parse(&"a".repeat(64)).unwrap(), &sample(), "sha256:1")
    }

    fn record(phase: Phase) -> Progress {
        Progress { ms: 1_004_000, phase, message: Some("a\u{1b}[31m\n".repeat(100)), events: 3, answers: 2, position: Some(4), reason: None }
    }

    #[test]
    fn only_this_instances_own_names_are_jobs() {
        assert!(Found::from_facts(facts(), "default").is_some());
        assert!(Found::from_facts(facts(), "other").is_none());
        let consumed = ContainerFacts { name: format!("{}-consumed", facts().name), ..facts() };
        assert!(Found::from_facts(consumed, "default").is_none());
    }

    #[test]
    fn a_running_job_is_to_be_asked_again_and_its_words_are_escaped() {
        let running = ContainerFacts { state: ContainerState::Running, ..facts() };
        let last = record(Phase::Queued);
        for (now, poll) in [(1_000_200, 1_000), (1_005_000, 5_000), (1_900_000, 10_000)] {
            let derived = derive(&running, &sample(), Some(&last), now, 0, Life::Unknown);
            let status = render(&sample(), &derived, Some(&last), now);
            assert_eq!((status.state, status.poll_after_ms, status.queue_position), (JobState::Queued, poll, Some(4)));
            assert_eq!((status.ended_at, status.expires_at, status.result_ok), (None, None, None));
            let shown = status.untrusted_activity.unwrap();
            assert!(shown.starts_with("a\\u{1b}[31m\\n") && shown.ends_with(" …[cut]") && shown.chars().count() <= MAX_ACTIVITY + 7);
        }
    }

    #[test]
    fn an_ended_job_has_its_times_and_no_activity() {
        let exited = ContainerFacts { state: ContainerState::Exited, exit_code: Some(0), finished_unix_ms: Some(1_010_000), ..facts() };
        let last = record(Phase::Sealed);
        let derived = derive(&exited, &sample(), Some(&last), 9_000_000, 0, Life::Unknown);
        let status = render(&sample(), &derived, Some(&last), 9_000_000);
        assert_eq!((status.elapsed_ms, status.poll_after_ms, status.result_ok), (Some(10_000), 1_000, Some(true)));
        assert_eq!(status.expires_at.as_deref(), Some("1970-01-02T00:16:50Z"));
        assert_eq!((status.untrusted_activity, status.queue_position), (None, None));
        // A list does not tell the end: the sealing record does.
        let listed = ContainerFacts { finished_unix_ms: None, ..exited };
        let derived = derive(&listed, &sample(), Some(&last), 9_000_000, 0, Life::Unknown);
        assert_eq!(render(&sample(), &derived, Some(&last), 9_000_000).elapsed_ms, Some(4_000));
        // Nobody knows: then no time is made up.
        let open = render(&sample(), &derived, None, 9_000_000);
        assert_eq!((open.elapsed_ms, open.ended_at, open.expires_at, open.poll_after_ms, open.result_ok), (None, None, None, 1_000, Some(true)));
    }
}
