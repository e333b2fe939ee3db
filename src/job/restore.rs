//! Jobs whose containers somebody removed (`docker rm -f`, a prune): found again by what is left of them.
//!
//! A container's removal leaves its two volumes, and on these lie the work and, where the job had ended, the sealed result. Every label of the job is on the
//! volumes too, and the container's whole specification on one of them. So whoever looks for the job makes the container again, marked as restored, and lets
//! `init` seal, which sees that it already ran. Of several processes that do so one gets the name.
//!
//! A job that was consumed leaves the same trace for a moment, or for longer where its remover died. The gateway tells the two apart: whoever removes a job
//! by our rules revokes its pass *first*, and the gateway remembers the last thousand that were revoked. Volumes of those are leftovers. All others belong to
//! a job that was removed from outside, also where no gateway ever heard of it: its deliverer may have died after it was handed out and before it was
//! admitted. While the gateway cannot be asked, nothing is taken for a leftover. A job of which the engine holds nothing at all, but which the gateway still
//! knows, is `lost`, and said to be.
//!
//! A job that never ran has a tombstone, and beside it a volume with the same labels: where that is all there is, it is the answer.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use futures_util::StreamExt as _;

use super::deliverer::{Deliverer, Life};
use super::labels::{self, Ended, JobLabels, Restored};
use super::service::Core;
use super::state::{Derived, derive};
use super::status::{self, Found, Observed, Sight};
use super::{JobId, bury, isolation, spec};
use crate::engine::{ContainerFacts, ContainerId, ContainerRef, ContainerSpec, ContainerState, Engine, ObjectName};
use crate::error::{Code, Error, Result};
use crate::protocol::admin::{AdminRequest, AdminResponse};
use crate::protocol::paths::{self, out};
use crate::protocol::result::Reason;
use crate::{fault, weaken};

/// What a removal that is under way is given to end, where the gateway cannot say whether there is one.
const SETTLE: Duration = Duration::from_secs(1);
/// How long a gateway that is being started is waited for.
const GATEWAY_WITHIN: Duration = Duration::from_secs(2);
/// How long another process that restores the same job is waited for.
const OTHER_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// By how much two clocks of one host may differ as we read them, in milliseconds.
const CLOCK_SLACK_MS: u64 = 2_000;
/// Jobs looked for at once.
const AT_ONCE: usize = 4;
/// What `init` writes before it does anything else: it ran.
const RAN: &str = "facts.json";
/// Said of volumes whose container never started and whose deliverer is gone: it may have died before the engine had made one.
const NOT_DELIVERED: &str = "Its container was removed from outside or never made, and whoever delivered it is gone; nothing has run.";
/// Milliseconds in which volumes without a container may be those of a start that is under way: the engine makes both in one call, volumes first.
const BEGINNING_MS: u64 = 30_000;

/// What the gateway says about jobs of this instance.
#[derive(Debug, Clone)]
pub(super) enum Word {
    /// It knows these, and every one that was not revoked since this time (unix milliseconds); of those before it remembers who was revoked.
    Knows { jobs: Vec<String>, revoked: Vec<String>, since_ms: u64 },
    /// It cannot be asked.
    Silent,
}

impl Word {
    pub(super) async fn ask(core: &Core, engine: &Engine) -> Self {
        Self::ask_within(core, engine, Duration::ZERO).await
    }

    /// The same of a gateway that may just be starting.
    async fn ask_within(core: &Core, engine: &Engine, patience: Duration) -> Self {
        let request = AdminRequest::Jobs { instance: core.settings.engine.instance.clone() };
        match core.gateway.request(engine, &core.settings, &request, patience).await {
            Ok(AdminResponse::Jobs { job_ids, since_unix_ms, revoked }) => Self::Knows { jobs: job_ids, revoked, since_ms: since_unix_ms },
            _ => Self::Silent,
        }
    }

    /// Whether somebody removed this job by our rules, so that what is left of it belongs to nobody.
    pub(super) fn was_removed(&self, job_id: &str, created_ms: u64) -> bool {
        let revoked = matches!(self, Self::Knows { revoked, .. } if revoked.iter().any(|id| id == job_id));
        revoked || weaken::off("fault.leftover") || (self.never_heard(job_id, created_ms) && weaken::off("fault.unheard"))
    }

    /// Whether it was there all the time and nobody admitted this job: a job that was not delivered, or a start that never made its container.
    pub(super) fn never_heard(&self, job_id: &str, created_ms: u64) -> bool {
        match self {
            // Where the clocks leave a doubt, it may be younger than the job.
            Self::Knows { jobs, since_ms, .. } => !jobs.iter().any(|id| id == job_id) && created_ms > since_ms.saturating_add(CLOCK_SLACK_MS),
            Self::Silent => false,
        }
    }

    /// The jobs that it knows.
    pub(super) fn jobs(&self) -> &[String] {
        match self {
            Self::Knows { jobs, .. } => jobs,
            Self::Silent => &[],
        }
    }
}

/// What is left of a job on the engine.
#[derive(Default)]
struct Left {
    workspace: bool,
    own: bool,
    created_ms: u64,
    labels: Option<JobLabels>,
    spec: Option<ContainerSpec>,
    /// The labels of a tombstone that is gone.
    word: Option<JobLabels>,
}

impl Left {
    async fn look(core: &Core, engine: &Engine, id: &JobId) -> Result<Self> {
        let volumes = engine.list_volumes(&[(labels::INSTANCE, core.settings.engine.instance.as_str()), (labels::JOB, id.as_str())]).await?;
        let ([workspace, own], word) = (spec::volume_names(id)?, spec::word_name(id)?);
        let mut left = Self::default();
        for (name, labels) in volumes {
            left.created_ms = created_ms(&labels);
            if name == word {
                left.word = JobLabels::parse(&labels);
                continue;
            }
            left.workspace |= name == workspace;
            left.own |= name == own;
            left.labels = left.labels.or_else(|| JobLabels::parse(&labels));
            left.spec = left.spec.or_else(|| serde_json::from_str(labels.get(labels::SPEC)?).ok());
        }
        Ok(left)
    }

    fn nothing(&self) -> bool {
        !self.workspace && !self.own && self.word.is_none()
    }

    /// Whether whoever delivers it lives, and until when that one may still say what became of it (unix milliseconds). `unheard`: the gateway says that it was
    /// never admitted, so its deliverer is still at it.
    fn delivered_until_ms(&self, unheard: bool) -> (Life, u64) {
        let labels = self.labels.as_ref();
        let life = labels.and_then(|labels| labels.deliverer.as_ref()).map_or(Life::Unknown, Deliverer::life);
        let until_ms = match (life, labels) {
            (Life::Gone, _) => 0,
            (Life::Alive, Some(labels)) if unheard => labels.prepare_by.saturating_mul(1000),
            (Life::Alive | Life::Unknown, _) => self.created_ms.saturating_add(BEGINNING_MS),
        };
        (life, until_ms)
    }
}

/// When a volume's job was made; 0: it does not say.
pub(super) fn created_ms(labels: &BTreeMap<String, String>) -> u64 {
    labels.get(labels::CREATED).and_then(|ms| ms.parse().ok()).unwrap_or(0)
}

/// Writes on a job's volumes what is needed to make its container again, and its labels on all.
pub(super) fn keep_with_volumes(spec: &mut ContainerSpec, labels: &JobLabels) -> Result<()> {
    let mut bare = spec.clone();
    bare.labels.clear();
    bare.volumes.iter_mut().filter(|volume| volume.labels.contains_key(labels::JOB)).for_each(|volume| volume.labels.clear());
    let bare = serde_json::to_string(&bare).map_err(|e| Error::internal("write the cell's specification").with_source(e))?;
    spec.labels = labels.write();
    for volume in spec.volumes.iter_mut().filter(|volume| volume.labels.contains_key(labels::JOB)) {
        volume.labels = labels.write();
        if volume.target == paths::JOB {
            volume.labels.insert(labels::SPEC.to_owned(), bare.clone());
        }
    }
    Ok(())
}

/// Looks for a job that had no container when its caller looked; `None`: there is no such job.
pub(super) async fn find(core: &Core, id: &JobId) -> Result<Option<Observed>> {
    fault::point("restore.looking");
    let engine = core.engine().await?;
    let (left, word) = tokio::join!(Left::look(core, &engine, id), Word::ask_within(core, &engine, GATEWAY_WITHIN));
    let mut left = left?;
    let known = word.jobs().iter().any(|job| job == id.as_str());
    if left.nothing() {
        if !known {
            return Ok(None);
        }
    } else if word.was_removed(id.as_str(), left.created_ms) {
        return Ok(None);
    } else if let (false, Some(labels)) = (left.own, left.word.take()) {
        // It never ran; beside a job that may run, a word would not count. Its tombstone may have been put up since the caller looked.
        return Ok(match status::look(core, id).await? {
            Sight::Job(seen) if !weaken::off("fault.look_again") => Some(*seen),
            _ => Some(entombed(core, labels)),
        });
    } else if !known {
        // Nobody has said that this job had a container: one that is just being started must not be got in the way of. And whoever delivers one that was
        // removed meets that, and leaves word.
        let unheard = word.never_heard(id.as_str(), left.created_ms);
        let (life, until_ms) = left.delivered_until_ms(unheard);
        if core.now_ms() < until_ms {
            if unheard && weaken::off("fault.deliverers_word") {
                return Ok(None);
            }
            if let Some(seen) = wait_for_word(core, id).await? {
                return Ok(Some(seen));
            }
            return Err(unsaid(match life {
                Life::Alive => "whoever delivers it has not yet said how it ended",
                Life::Gone | Life::Unknown => "no gateway says whether it ever had one",
            }));
        }
        tokio::time::sleep(SETTLE).await;
        if let Sight::Job(seen) = status::look(core, id).await? {
            return Ok(Some(*seen));
        }
        left = Left::look(core, &engine, id).await?;
        if left.nothing() {
            return Ok(None);
        }
    }
    if left.own {
        return make_again(core, &engine, id, left).await;
    }
    let told = match left.labels {
        Some(labels) => Some(labels),
        None => core.gateway.account(&engine, &core.settings, id.as_str()).await.and_then(|account| JobLabels::parse(&account.labels)),
    };
    let detail = "Its container and the volume with its result were removed from outside: nothing can be said about changes.";
    Ok(told.map(|labels| absent(core, labels, detail.to_owned())))
}

/// Nobody can say yet what became of it.
fn unsaid(why: &str) -> Error {
    Error::new(Code::GatewayUnavailable, format!("look at the job: it has no container, and {why}"))
        .with_hint("try again in half a minute, and run `anchorhold doctor`")
        .with_retry_after_ms(BEGINNING_MS)
}

/// Looks for a moment whether the job, or the word that another process leaves of it, appears.
async fn wait_for_word(core: &Core, id: &JobId) -> Result<Option<Observed>> {
    let until = tokio::time::Instant::now() + OTHER_WITHIN;
    while tokio::time::Instant::now() < until {
        if let Sight::Job(seen) = status::look(core, id).await? {
            return Ok(Some(*seen));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(None)
}

/// A job that the engine no longer holds and that cannot be made again.
fn absent(core: &Core, labels: JobLabels, detail: String) -> Observed {
    let facts = facts_of_none(&labels, ContainerState::Dead);
    Observed { found: Found { facts, labels }, last: None, derived: Derived::absent(detail), now_ms: core.now_ms() }
}

/// A job that never ran and whose tombstone is gone.
fn entombed(core: &Core, labels: JobLabels) -> Observed {
    let (facts, now_ms) = (facts_of_none(&labels, ContainerState::Created), core.now_ms());
    let derived = Derived { absent: true, ..derive(&facts, &labels, None, now_ms, 0, Life::Unknown) };
    Observed { found: Found { facts, labels }, last: None, derived, now_ms }
}

fn facts_of_none(labels: &JobLabels, state: ContainerState) -> ContainerFacts {
    ContainerFacts {
        id: ContainerId::none(),
        name: String::new(),
        labels: labels.write(),
        state,
        exit_code: None,
        oom_killed: false,
        created_unix_ms: labels.created_ms,
        started_unix_ms: None,
        finished_unix_ms: None,
        image_id: String::new(),
    }
}

/// Makes the container upon the volumes that are left. It is not started here: [`may_start`] looks first at what lies in them.
async fn make_again(core: &Core, engine: &Engine, id: &JobId, left: Left) -> Result<Option<Observed>> {
    let Some(labels) = left.labels else { return Ok(None) };
    let Some(mut spec) = left.spec.filter(|spec| is_of(spec, id)) else {
        let detail = "Its container was removed from outside, and how to make it again is not known: nothing can be said about changes.";
        return Ok(Some(absent(core, labels, detail.to_owned())));
    };
    let restored = if left.workspace { Restored::Whole } else { Restored::WithoutWorkspace };
    let labels = JobLabels { restored: Some(restored), ..labels };
    spec.labels = labels.write();
    for volume in spec.volumes.iter_mut().filter(|volume| volume.labels.is_empty()) {
        volume.labels = labels.write();
    }
    let mut made = engine.create_container(&spec).await;
    if let Err(e) = &made
        && e.code == Code::ImageMissing
        && let Ok(image) = crate::image::check(engine, &core.settings).await
    {
        // Only a seal is to be made, and any image of this build holds the `init` that makes it.
        tracing::info!(job_id = %id, image = image.id, "the image of its container was removed: taking that of the settings");
        spec.image = image.id;
        made = engine.create_container(&spec).await;
    }
    match made {
        Ok((container, warnings)) => {
            let container = ContainerRef::Id(container);
            let tolerance = isolation::judge(&core.settings, &core.engine_facts(engine).await?, true)?.tolerance;
            if let Err(e) = engine.verify_container(&container, &spec, &warnings, tolerance).await {
                engine.remove_container(&container).await?;
                return Err(e);
            }
            tracing::info!(job_id = %id, "its container was removed from outside: made again");
            fault::point("restore.created");
        }
        Err(e) if e.details.get("conflict") == Some(&true.into()) => {
            // Another process was first; or somebody gave the name to something else, and then that is the answer.
            return match wait_for_word(core, id).await? {
                Some(seen) => Ok(Some(seen)),
                None => Err(e),
            };
        }
        Err(e) if e.code == Code::ImageMissing => {
            let detail = format!(
                "Its container was removed from outside, and so was the image {} that it was made from, so that its work cannot be sealed: nothing can be said \
                 about changes. Its volumes are there: run `anchorhold image build`, and look again before you consume it.",
                spec.image
            );
            return Ok(Some(absent(core, labels, detail)));
        }
        Err(e) => return Err(e),
    }
    match status::look(core, id).await? {
        Sight::Job(seen) => Ok(Some(*seen)),
        Sight::Going | Sight::Nothing => Ok(None),
    }
}

/// Whether a specification that was read back can be that of this job.
fn is_of(spec: &ContainerSpec, id: &JobId) -> bool {
    let names = |volumes: [ObjectName; 2]| volumes.iter().all(|name| spec.volumes.iter().any(|volume| volume.volume == *name));
    spec::job_name(id).is_ok_and(|name| name == spec.name) && spec::volume_names(id).is_ok_and(names) && spec.network == "none"
}

/// Whether a restored container may be started, which then only seals: it ran, so `init` sees that. Where it may not, a tombstone says how the job ended.
pub(super) async fn may_start(core: &Core, seen: &Observed) -> Result<bool> {
    let engine = core.engine().await?;
    let container = seen.found.container();
    let there = async |path: String| Ok::<_, Error>(engine.download(&container, &path).await?.is_some());
    if there(format!("{}/{}", paths::JOB_OUT, out::RESULT)).await? {
        return Ok(true);
    }
    let (reason, detail) = if seen.found.labels.restored == Some(Restored::WithoutWorkspace) {
        (Reason::Lost, "Its container and its workspace's volume were removed from outside before it was sealed: nothing can be said about changes.")
    } else if there(format!("{}/{RAN}", paths::JOB_STATE)).await? {
        return Ok(true);
    } else {
        let delivered_by = seen.found.labels.deliverer.as_ref().map_or(Life::Unknown, Deliverer::life);
        (Reason::Interrupted, if delivered_by == Life::Gone { NOT_DELIVERED } else { bury::REMOVED_FIRST })
    };
    let ended = Ended { reason, code: Code::JobLost, detail: detail.to_owned(), at_ms: core.now_ms() };
    bury::entomb(core, &seen.found.labels, &container, &seen.found.facts.image_id, ended).await?;
    Ok(false)
}

/// Jobs of this key whose containers somebody removed.
pub(super) async fn of_key(core: &Core, key: &str) -> Result<Option<Observed>> {
    if weaken::off("fault.key_kept") {
        return Ok(None);
    }
    let filter = [(labels::INSTANCE, core.settings.engine.instance.as_str()), (labels::IDEMPOTENCY, key)];
    let volumes = core.engine().await?.list_unused_volumes(&filter).await?;
    let ids: BTreeSet<JobId> = volumes.iter().filter_map(|(_, labels)| labels.get(labels::JOB)?.parse().ok()).collect();
    for id in ids {
        if let Some(seen) = status::observe(core, &id).await? {
            return Ok(Some(seen));
        }
    }
    Ok(None)
}

/// The jobs that this instance has volumes of, and the engine no container that uses them: their own is gone, or about to be made. One call.
pub(super) async fn without_container(core: &Core) -> Result<HashSet<String>> {
    let volumes = core.engine().await?.list_unused_volumes(&[(labels::INSTANCE, core.settings.engine.instance.as_str())]).await?;
    Ok(volumes.into_iter().filter_map(|(_, mut labels)| labels.remove(labels::JOB)).collect())
}

/// Those of these jobs that somebody removed; they have volumes and had no container.
pub(super) async fn all(core: &Core, ids: impl Iterator<Item = &String>) -> Vec<Observed> {
    let ids: Vec<JobId> = ids.filter_map(|id| id.parse().ok()).collect();
    // From the start: it may have got its container since the list was made.
    let looks = ids.into_iter().map(|id| async move { status::observe(core, &id).await });
    let looks: Vec<_> = futures_util::stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
    let mut found = Vec::new();
    for look in looks {
        match look {
            Ok(seen) => found.extend(seen),
            // One that cannot be looked at must not hide the others.
            Err(e) => tracing::warn!(error = e.chain(), "a job whose container is gone could not be looked at"),
        }
    }
    found
}

/// Removes what is left of a job that has no container.
pub(super) async fn forget(core: &Core, id: &JobId) -> Result<()> {
    core.gateway.revoke(&core.engine().await?, &core.settings, id.as_str()).await;
    remove_volumes(core, id).await.map(drop)
}

/// Removes its volumes; whether there were any. Of several callers the engine tells one so.
pub(super) async fn remove_volumes(core: &Core, id: &JobId) -> Result<bool> {
    let engine = core.engine().await?;
    let mut removed = false;
    let [workspace, own] = spec::volume_names(id)?;
    for name in [workspace, own, spec::word_name(id)?] {
        removed |= engine.remove_volume(&name).await?;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_gateway_that_was_there_can_say_that_it_never_heard_of_a_job() {
        let words = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<Vec<String>>();
        let knows = |jobs: &[&str], revoked: &[&str], since_ms| Word::Knows { jobs: words(jobs), revoked: words(revoked), since_ms };
        assert!(knows(&["b"], &[], 0).never_heard("a", 100_000));
        assert!(!knows(&["a"], &[], 0).never_heard("a", 100_000));
        assert!(!knows(&["b"], &[], 200_000).never_heard("a", 100_000), "the gateway is younger");
        assert!(!knows(&["b"], &[], 99_000).never_heard("a", 100_000), "by these clocks it may be younger");
        assert!(!Word::Silent.never_heard("a", 100_000));
    }

    #[test]
    fn what_was_removed_by_our_rules_is_remembered_and_nothing_else_is_taken_for_it() {
        let knows = |revoked: &[&str], since_ms| Word::Knows { jobs: vec![], revoked: revoked.iter().map(|&id| id.to_owned()).collect(), since_ms };
        assert!(knows(&["a"], 200_000).was_removed("a", 100_000), "it was told");
        assert!(!knows(&["b"], 0).was_removed("a", 100_000), "never admitted: handed out, perhaps");
        assert!(!Word::Silent.was_removed("a", 100_000));
    }

    #[test]
    fn a_deliverer_that_lives_is_waited_for_and_one_that_is_gone_is_not() {
        let labels = |deliverer| JobLabels { prepare_by: 2_000, deliverer, ..super::labels::tests::sample() };
        let until = |deliverer, unheard| Left { created_ms: 1_000, labels: Some(labels(deliverer)), ..Left::default() }.delivered_until_ms(unheard);
        assert_eq!(until(Deliverer::this(), true), (Life::Alive, 2_000_000));
        assert_eq!(until(Deliverer::this(), false), (Life::Alive, 1_000 + BEGINNING_MS), "it may have been delivered long ago");
        assert_eq!(until(None, true), (Life::Unknown, 1_000 + BEGINNING_MS));
        let gone = Deliverer::parse(&Deliverer::this().unwrap().write().rsplit_once(' ').map(|(before, _)| format!("{before} 1")).unwrap());
        assert_eq!(until(gone, true), (Life::Gone, 0));
    }
}
