//! From a request to a handle: check everything, then create the container; the delivery goes on behind the handle.
//!
//! Reading the repository's index, asking the engine, the image and the gateway, and opening the control session run beside each
//! other, because what a caller waits for is the slowest of them and then one create call.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use super::attempts::Packed;
use super::continuing::{self, Kept};
use super::deliver::{Asked, Parcel, Source, deliver, new_pass, sha256_hex};
use super::deliverer::{Deliverer, Life};
use super::inherit::{Inherited, inherited};
use super::isolation::{self, Walls};
use super::labels::{self, JobLabels};
use super::reviewing::{self, UnderReview};
use super::service::Core;
use super::status::{self, Found};
use super::time::own_ms;
use super::{Additions, Begun, Isolation, JobId, StartRequest, StartedJob, Work, authorities, bury, check, create, gateway, restore, spec, trace};
use crate::codex::prompt;
use crate::config::Settings;
use crate::engine::{ContainerFacts, ContainerId, ContainerRef, ContainerSpec, Engine, EngineFacts, ImageFacts, ObjectName, spec_sha256};
use crate::error::{Code, Error, Result};
use crate::fault;
use crate::protocol::PROTOCOL_VERSION;
use crate::protocol::admin::{AdminRequest, AdminResponse, Admission, JobBounds, Stay, Upstream};
use crate::protocol::repo_path::RepoPath;
use crate::protocol::request::{CodexSettings, JobKind, JobRequest};
use crate::telemetry::{TraceContext, step};
use crate::workspace::{Plan, PlanOptions, ReviewRequest};

/// Seconds that a delivery may take.
const PREPARE_SECONDS: u64 = 30 * 60;
/// Seconds that a pass outlives the latest possible end of its job.
const PASS_SLACK_SECONDS: u64 = 300;
/// How long a start with an idempotency key waits for another one that is under way.
const KEY_WITHIN: Duration = Duration::from_secs(5);
const KEY_RETRY: Duration = Duration::from_millis(50);
/// Milliseconds after which a container under a key's name belongs to nobody, where it is not known whether its maker lives.
const KEY_STALE_MS: u64 = 60_000;
/// Longest subject line for the synthetic commit, in characters.
const MAX_SUBJECT: usize = 200;

/// What is found on this machine, before the repository's index is read.
pub(super) struct Local {
    pub(super) workspace: PathBuf,
    pub(super) inherited: Inherited,
    upstream: Upstream,
    credential: Option<zeroize::Zeroizing<String>>,
}

/// What is found on the engine.
struct Remote {
    engine: Engine,
    image: ImageFacts,
    walls: Walls,
}

/// The digests behind an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Keyed {
    key: String,
    args: String,
}

impl Keyed {
    /// The key counts per kind of work and workspace; the arguments are everything else that shapes the job.
    fn new(request: &StartRequest, workspace: &Path) -> Option<Self> {
        use std::os::unix::ffi::OsStrExt as _;
        let key = request.idempotency_key.as_deref()?;
        let workspace = crate::protocol::manifest::hex(workspace.as_os_str().as_bytes());
        let key = serde_json::json!(["key", key, request.work.kind().as_str(), workspace]);
        let mut args = vec![serde_json::json!([
            "arguments",
            work_arguments(&request.work),
            request.model,
            request.reasoning_effort,
            request.isolation.as_str(),
            request.deadline_seconds,
            request.queue_seconds,
            request.idle_seconds,
            request.token_budget,
        ])];
        // Only where it is asked for: an earlier version knew no such argument, and its keys still count.
        args.extend(request.include_ignored.then(|| serde_json::json!("include_ignored")));
        let args: String = args.iter().map(ToString::to_string).collect();
        Some(Self { key: sha256_hex(key.to_string().as_bytes()), args: sha256_hex(args.as_bytes()) })
    }
}

/// What of the work tells one job from another. A task stands for itself, as it did before there were other kinds.
fn work_arguments(work: &Work) -> serde_json::Value {
    let added = |more: &Additions| serde_json::json!([more.extra_context, more.developer_instructions]);
    match work {
        Work::Delegate { task } => serde_json::json!(task),
        Work::Continue { job, task } => serde_json::json!(["continue", job, task]),
        Work::Consult { question, more } => serde_json::json!(["consult", question, added(more)]),
        Work::Review { change, more } => {
            let policy = (change.untracked.as_str(), change.include_ignored, change.max_diff);
            serde_json::json!(["review", change.scope, change.paths, policy, added(more)])
        }
    }
}

/// Starts a job, on a snapshot that was taken before where there is one. Runs in a task of its own, so that a caller who goes away leaves no half-made job.
pub(super) async fn begin(core: Arc<Core>, request: StartRequest, snapshot: Option<Arc<Packed>>) -> Result<Begun> {
    let (id, caller, since_ms) = (JobId::random(), request.trace.clone(), own_ms());
    let context = TraceContext::of_job(id.as_str(), caller.as_ref());
    let span = step!("start", id, context);
    let outcome = start_job(core.clone(), request, snapshot, id.clone()).instrument(span.clone()).await;
    match &outcome {
        Ok(Begun::NothingToReview(_)) => {}
        Ok(Begun::Job(started)) => {
            if !started.replayed {
                core.started.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            // Under a key it may be another job than the one that was begun.
            span.record("job_id", tracing::field::display(&started.status.job_id));
            trace::accepted(started.replayed);
        }
        Err(error) => {
            span.record("error", error.code.as_str());
            trace::refused(context, caller.as_ref(), &id, since_ms, "refused", error);
        }
    }
    outcome
}

async fn start_job(core: Arc<Core>, request: StartRequest, snapshot: Option<Arc<Packed>>, id: JobId) -> Result<Begun> {
    let began = std::time::Instant::now();
    let named = check::arguments(&core.settings, &request)?;
    let mut local = {
        let (settings, asked) = (core.settings.clone(), request.workspace_root.clone());
        let (isolation, kind) = (request.isolation, request.work.kind());
        blocking(&core, move || find_local(&settings, &asked, named, isolation, kind)).await?
    };
    let keyed = Keyed::new(&request, &local.workspace);
    let model = choose_model(&core.settings, &request, &mut local.inherited);

    let planning = async {
        if let Some(packed) = snapshot {
            return Ok(Planned { source: Source::Packed(packed), under_review: None });
        }
        let (settings, workspace) = (core.settings.clone(), local.workspace.clone());
        let change = match &request.work {
            Work::Continue { job, .. } => {
                let kept = continuing::find(&core, job, &workspace).await?;
                return Ok(Planned { source: Source::Kept(Box::new(kept)), under_review: None });
            }
            Work::Delegate { .. } | Work::Consult { .. } => None,
            Work::Review { change, .. } => Some(change.clone()),
        };
        let options = PlanOptions { include_ignored: request.include_ignored };
        let (plan, under_review) = blocking(&core, move || plan(&settings, &workspace, change.as_ref(), options)).await?;
        Ok(Planned { source: Source::Tree(Box::new(plan)), under_review })
    }
    .instrument(tracing::error_span!("snapshot"));
    let keyed_job = find_keyed(&core, keyed.as_ref());
    let (planned, remote, replay) = match request.work {
        // A change that cannot be read or turns out empty asks no more of the engine than whether the key has a job.
        Work::Review { .. } => {
            let (planned, replay) = tokio::join!(planning, keyed_job);
            if let Some(replay) = replay? {
                return Ok(Begun::Job(replay));
            }
            let planned = planned?;
            if let Some(facts) = planned.under_review.as_ref().and_then(UnderReview::nothing) {
                return Ok(Begun::NothingToReview(Box::new(facts)));
            }
            (Ok(planned), find_remote(&core).await, Ok(None))
        }
        Work::Delegate { .. } | Work::Continue { .. } | Work::Consult { .. } => tokio::join!(planning, find_remote(&core), keyed_job),
    };
    tracing::debug!(ms = began.elapsed().as_millis(), "checked");
    fault::point("start.checked");
    if let Some(replay) = replay? {
        return Ok(Begun::Job(replay));
    }
    let (Planned { source, under_review }, remote) = (planned?, remote?);
    let model = match &source {
        // The conversation's own, unless the caller names another.
        Source::Kept(kept) if request.model.is_none() && kept.labels.model.is_some() => kept.labels.model.clone(),
        _ => model,
    };
    check::some_model(&core.settings.model, model.as_deref())?;
    if let Some(keyed) = &keyed {
        refuse_used_up(&core, &remote.engine, keyed).await?;
    }

    let draft = Draft { core: &core, id, request, local, source, under_review, remote, model, keyed };
    let (parcel, facts, replay) = draft.create().instrument(tracing::error_span!("create")).await?;
    tracing::debug!(ms = began.elapsed().as_millis(), "created");
    fault::point("start.created");
    let Some(parcel) = parcel else {
        return replay.map(Begun::Job).ok_or_else(|| Error::internal("start the job: no container and no replay"));
    };

    let seen = status::judged(&core, facts, None).ok_or_else(|| Error::internal("start the job: its own labels are unreadable"))?;
    let pending = core.deliveries.begin(&parcel.labels.id);
    let delivering = core.clone();
    core.tasks.spawn(async move {
        let step = step!("deliver", parcel.labels.id, parcel.labels.trace());
        let outcome = deliver(&delivering, parcel, &pending.stop).instrument(step).await;
        pending.finish(&outcome);
    });
    core.sweep_soon(super::service::Sweep::Later);
    Ok(Begun::Job(StartedJob { status: seen.status(), replayed: false }))
}

/// What will be sent.
struct Planned {
    source: Source,
    under_review: Option<UnderReview>,
}

/// What the new job takes over from where its files come from.
#[derive(Clone)]
pub(super) struct Origin {
    root: PathBuf,
    head: Option<String>,
    dirty: bool,
    subdirectory: Option<RepoPath>,
    subject: String,
}

impl Origin {
    pub(super) fn of_plan(plan: &Plan) -> Self {
        Self {
            root: plan.root().to_owned(),
            head: plan.summary().head.clone(),
            dirty: plan.summary().dirty,
            subdirectory: plan.subdirectory().cloned(),
            subject: subject(plan.head_subject()),
        }
    }

    fn of(source: &Source) -> Result<Self> {
        Ok(match source {
            Source::Tree(plan) => Self::of_plan(plan),
            Source::Packed(packed) => packed.origin.clone(),
            Source::Kept(kept) => Self {
                root: kept.labels.root.clone(),
                head: kept.labels.head.clone(),
                dirty: kept.labels.dirty,
                subdirectory: below(kept)?,
                subject: subject(None),
            },
        })
    }
}

/// Where the job before began below the top.
fn below(kept: &Kept) -> Result<Option<RepoPath>> {
    use std::os::unix::ffi::OsStrExt as _;
    let below = kept.labels.workspace.strip_prefix(&kept.labels.root).map(|path| path.as_os_str().as_bytes().to_vec());
    match below {
        Ok(path) if path.is_empty() => Ok(None),
        Ok(path) => RepoPath::parse(&path).map(Some).map_err(|e| Error::internal("go on with the job: its directory has an odd name").with_source(e)),
        Err(_) => Err(Error::internal("go on with the job: its directory lies outside of its repository")),
    }
}

/// Reads the repository's names, and for a review the change. Blocking.
pub(super) fn plan(
    settings: &Settings,
    workspace: &Path,
    change: Option<&ReviewRequest>,
    options: PlanOptions,
) -> Result<(Plan, Option<UnderReview>)> {
    match change {
        None => Ok((crate::workspace::plan_with(workspace, &settings.roots.allow, &settings.workspace, options)?, None)),
        Some(change) => {
            let change = ReviewRequest { include_ignored: change.include_ignored || options.include_ignored, ..change.clone() };
            let (plan, under_review) = reviewing::plan(settings, workspace, &change)?;
            Ok((plan, Some(under_review)))
        }
    }
}

/// The whole prompt.
pub(super) fn prompt(work: &Work, subdirectory: Option<&RepoPath>, under_review: Option<&UnderReview>) -> Result<String> {
    let below = subdirectory.map(RepoPath::as_bytes);
    Ok(match work {
        Work::Delegate { task } => prompt::delegate(task, below),
        Work::Continue { task, .. } => prompt::go_on(task, below),
        Work::Consult { question, more } => prompt::consult(question, added(more), below),
        Work::Review { more, .. } => {
            let under_review = under_review.ok_or_else(|| Error::internal("start the job: a review without a change"))?;
            under_review.prompt(added(more), subdirectory)
        }
    })
}

fn added(more: &Additions) -> prompt::Extras<'_> {
    prompt::Extras { developer_instructions: more.developer_instructions.as_deref(), extra_context: more.extra_context.as_deref() }
}

pub(super) async fn blocking<T: Send + 'static>(core: &Core, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    core.tasks.spawn_blocking(work).await.map_err(|e| Error::internal("run a blocking step").with_source(e))?
}

pub(super) fn find_local(settings: &Settings, asked: &Path, upstream: Upstream, isolation: Isolation, kind: JobKind) -> Result<Local> {
    let workspace = check::workspace(&settings.roots, asked)?;
    let upstream = authorities::with_authorities(&settings.model, upstream)?;
    let credential = check::credential(&settings.model, &upstream)?;
    let inherited = inherited(&settings.model, isolation, kind);
    Ok(Local { workspace, upstream, inherited, credential })
}

/// The caller's model, else the settings', else the user's Codex configuration's, else Codex's own.
pub(super) fn choose_model(settings: &Settings, request: &StartRequest, inherited: &mut Inherited) -> Option<String> {
    let default = Some(&settings.model.default_model).filter(|name| !name.is_empty());
    match request.model.as_ref().or(default) {
        Some(named) => {
            inherited.overridden("model");
            Some(named.clone())
        }
        None => inherited.model.clone(),
    }
}

async fn find_remote(core: &Arc<Core>) -> Result<Remote> {
    let engine = core.engine().await?;
    let (image, found, facts, _) = tokio::join!(
        crate::image::check(&engine, &core.settings),
        gateway::look(&engine, &core.settings),
        core.engine_facts(&engine),
        core.tell_time(&engine)
    );
    let image = image?;
    let facts: EngineFacts = facts?;
    // Before the gateway: an engine that is refused gets nothing at all. What the gateway knows of quotas is put in afterwards.
    let mut walls = isolation::judge(&core.settings, &facts, true)?;
    let disk_quota = core.gateway.ensure(&engine, &core.settings, &image, found?, walls.tolerance).await?;
    if !disk_quota {
        walls = isolation::judge(&core.settings, &facts, false)?;
    }
    // Opening the control session takes as long as an exec: begin now, the delivery needs it first.
    let warming = core.clone();
    let at = engine.clone();
    core.tasks.spawn(async move {
        if let Err(e) = warming.gateway.request(&at, &warming.settings, &AdminRequest::Status, gateway::START_WITHIN).await {
            tracing::debug!(error = e.chain(), "the gateway's control is not there yet");
        }
    });
    Ok(Remote { engine, image, walls })
}

/// The job that a key names already, if there is one.
async fn find_keyed(core: &Core, keyed: Option<&Keyed>) -> Result<Option<StartedJob>> {
    let Some(keyed) = keyed else { return Ok(None) };
    match job_of_key(core, keyed).await? {
        Some(found) => replay(core, found, keyed).await.map(Some),
        None => Ok(None),
    }
}

/// The job of a key; also one whose container somebody removed.
async fn job_of_key(core: &Core, keyed: &Keyed) -> Result<Option<Found>> {
    let rows = list_keyed(core, keyed).await?;
    match rows.into_iter().find_map(|facts| Found::from_facts(facts, &core.settings.engine.instance)) {
        Some(found) => Ok(Some(found)),
        None => Ok(restore::of_key(core, &keyed.key).await?.map(|seen| seen.found)),
    }
}

/// The work behind a key was done and its result taken: it is not done a second time. A gateway that cannot say so has forgotten it.
async fn refuse_used_up(core: &Core, engine: &Engine, keyed: &Keyed) -> Result<()> {
    let request = AdminRequest::Key { instance: core.settings.engine.instance.clone(), key: keyed.key.clone() };
    match core.gateway.request(engine, &core.settings, &request, gateway::START_WITHIN).await? {
        AdminResponse::Key { used_up: true } => {
            Err(Error::new(Code::IdempotencyResultUnavailable, "start the job: the idempotency key named a job that was consumed or has expired")
                .with_hint("use a new key to have the work done once more")
                .with_detail("field", "idempotency_key"))
        }
        _ => Ok(()),
    }
}

async fn list_keyed(core: &Core, keyed: &Keyed) -> Result<Vec<ContainerFacts>> {
    let filter = [(labels::INSTANCE, core.settings.engine.instance.as_str()), (labels::IDEMPOTENCY, keyed.key.as_str())];
    core.engine().await?.list_containers(&filter).await
}

async fn replay(core: &Core, found: Found, keyed: &Keyed) -> Result<StartedJob> {
    if found.labels.idempotency_args.as_ref() != Some(&keyed.args) {
        return Err(Error::new(Code::IdempotencyConflict, "start the job: the idempotency key was used with other arguments")
            .with_hint("use a new key for new arguments")
            .with_detail("field", "idempotency_key"));
    }
    let seen = status::observe(core, &found.labels.id).await?.ok_or_else(super::id::not_found)?;
    Ok(StartedJob { status: seen.status(), replayed: true })
}

/// Everything that is known before the container is made.
struct Draft<'a> {
    core: &'a Arc<Core>,
    id: JobId,
    request: StartRequest,
    local: Local,
    source: Source,
    under_review: Option<UnderReview>,
    remote: Remote,
    model: Option<String>,
    keyed: Option<Keyed>,
}

impl Draft<'_> {
    /// Makes the container. Either a parcel to deliver and the container's facts, or the job that the key named meanwhile.
    async fn create(self) -> Result<(Option<Parcel>, ContainerFacts, Option<StartedJob>)> {
        let Self { core, id, request, mut local, source, under_review, remote, model, keyed } = self;
        let origin = Origin::of(&source)?;
        let kept = match &source {
            Source::Tree(_) | Source::Packed(_) => None,
            Source::Kept(kept) => Some(kept.as_ref()),
        };
        let settings = &core.settings;
        let created_ms = core.now_ms();
        let prepare_by = created_ms / 1000 + PREPARE_SECONDS;
        let deadline_seconds = check::deadline(&settings.limits, request.deadline_seconds)?;
        let queue_seconds = check::queue(&settings.limits, request.queue_seconds)?;
        let idle_seconds = check::idle(&settings.limits, request.idle_seconds)?;
        let uid = remote.walls.draw_uid();
        let effort = request.reasoning_effort.filter(|effort| !effort.trim().is_empty());
        if effort.is_some() {
            local.inherited.overridden("model_reasoning_effort");
        }
        let mut labels = JobLabels {
            id: id.clone(),
            instance: settings.engine.instance.clone(),
            kind: request.work.kind(),
            workspace: local.workspace,
            root: origin.root,
            head: origin.head,
            dirty: origin.dirty,
            created_ms,
            deadline_seconds,
            queue_seconds,
            ttl_seconds: settings.retention.ttl_seconds,
            model: model.clone(),
            uid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            prepare_by,
            idempotency: keyed.as_ref().map(|keyed| keyed.key.clone()),
            idempotency_args: keyed.as_ref().map(|keyed| keyed.args.clone()),
            isolation: remote.walls.describe(settings, request.isolation, &local.inherited.report, uid, &remote.image.id),
            review_sha256: under_review.as_ref().map(|under_review| under_review.facts_sha256.clone()),
            continues: kept.map(|kept| kept.labels.id.clone()),
            previous_sha256: kept.map(|kept| kept.previous_sha256.clone()),
            deliverer: Deliverer::this(),
            trace: request.trace,
            ended: None,
            restored: None,
        };
        let pass = new_pass();
        let job_request = JobRequest {
            version: PROTOCOL_VERSION,
            job_id: id.to_string(),
            kind: request.work.kind(),
            prompt: prompt(&request.work, origin.subdirectory.as_ref(), under_review.as_ref())?,
            codex: CodexSettings {
                model,
                reasoning_effort: effort.or(local.inherited.reasoning_effort),
                config: local.inherited.config,
                instructions: local.inherited.instructions,
                rules: local.inherited.rules,
                ignore_rules: matches!(request.isolation, Isolation::IgnoreRules | Isolation::Nothing),
                output_schema: under_review.is_some(),
                conversation: kept.map(|kept| kept.conversation.clone()),
            },
            subdirectory: origin.subdirectory,
            agent_uid: uid,
            deadline_seconds,
            queue_seconds,
            idle_seconds,
            unreachable_seconds: settings.model.unreachable_seconds,
            gateway_seconds: settings.gateway.gone_seconds,
            disk_bytes: settings.limits.disk.0,
            inodes: settings.limits.inodes,
            pass: pass.to_string(),
            manifest_sha256: String::new(),
            commit_subject: origin.subject,
            previous: kept.is_some(),
        };
        let limits = gateway::limits(settings);
        let pass_seconds = PREPARE_SECONDS.saturating_add(queue_seconds).saturating_add(deadline_seconds).saturating_add(PASS_SLACK_SECONDS);
        let mut admission = Admission {
            job_id: id.to_string(),
            pass_sha256: sha256_hex(pass.as_bytes()),
            allowed_models: settings.model.allowed_models.clone(),
            upstream: local.upstream,
            credential: local.credential.as_deref().cloned(),
            token_budget: request.token_budget.unwrap_or(settings.limits.tokens),
            expires_unix: (created_ms / 1000).saturating_add(pass_seconds),
            max_running_jobs: limits.slots,
            instance: settings.engine.instance.clone(),
            bounds: JobBounds {
                requests: settings.limits.requests,
                denials: settings.limits.denials,
                output_tokens: settings.limits.output_tokens,
                answer_seconds: settings.model.answer_seconds,
                idle_seconds: settings.model.idle_seconds,
            },
            stay: Stay {
                pass_seconds,
                record_seconds: settings.retention.ttl_seconds,
                labels: Default::default(),
                key: keyed.as_ref().map(|keyed| keyed.key.clone()),
            },
            ceilings: limits.ceilings,
            settings_read_ms: core.gateway.read_ms,
            telemetry: trace::for_gateway(settings, labels.trace.as_ref(), &labels.trace()),
            continues: labels.continues.as_ref().map(JobId::to_string),
        };
        let mut container_spec = spec::job(settings, &remote.image.id, &labels, &remote.walls)?;
        labels.isolation["spec_sha256"] = spec_sha256(&container_spec)?.into();
        restore::keep_with_volumes(&mut container_spec, &labels)?;
        admission.stay.labels = labels.write();
        let made = match &keyed {
            None => Ok(create::container(&remote.engine, &container_spec).await?),
            Some(keyed) => create_keyed(core, &remote.engine, container_spec.clone(), &id, keyed).await?,
        };
        match made {
            Ok((container, warnings)) => {
                for warning in &warnings {
                    tracing::debug!(job_id = %id, warning, "the engine about a job");
                }
                let facts = status::just_created(container.clone(), &labels, &remote.image.id);
                let container = ContainerRef::Id(container);
                let asked = Asked { spec: container_spec, warnings, tolerance: remote.walls.tolerance };
                let parcel = Parcel { labels, container, image_id: remote.image.id, asked, source, under_review, request: job_request, admission };
                Ok((Some(parcel), facts, None))
            }
            Err(seen) => {
                let facts = seen.facts.clone();
                let keyed = keyed.ok_or_else(|| Error::internal("replay without a key"))?;
                Ok((None, facts, Some(replay(core, seen, &keyed).await?)))
            }
        }
    }
}

type Made = std::result::Result<(ContainerId, Vec<String>), Found>;

/// Creates a container for a key so that of several processes one makes the job and the others find it.
///
/// The container is first made under a name that only the key decides: the engine gives a name once, so whoever holds it is
/// alone. The holder looks for a finished job of that key, and then either gives way to it or takes its own job's name.
async fn create_keyed(core: &Core, engine: &Engine, mut spec: ContainerSpec, id: &JobId, keyed: &Keyed) -> Result<Made> {
    let own_name = std::mem::replace(&mut spec.name, ObjectName::parse(&format!("anchorhold-key-{}", keyed.key))?);
    let until = tokio::time::Instant::now() + KEY_WITHIN;
    let instance = core.settings.engine.instance.as_str();
    loop {
        match create::container(engine, &spec).await {
            Ok((container, warnings)) => {
                fault::point("start.key_held");
                let holder = ContainerRef::Id(container.clone());
                if let Some(other) = job_of_key(core, keyed).await? {
                    bury::remove(core, id, &holder).await;
                    return Ok(Err(other));
                }
                if engine.rename_container(&holder, &own_name).await? {
                    fault::point("start.key_renamed");
                    return Ok(Ok((container, warnings)));
                }
                bury::remove(core, id, &holder).await;
                return Err(Error::new(Code::EngineError, "start the job: its container vanished while it was made"));
            }
            Err(e) if e.details.get("conflict") == Some(&true.into()) => {
                let rows = list_keyed(core, keyed).await?;
                if let Some(stale) = rows.iter().find(|row| is_stale(row, &spec.name, core.now_ms())) {
                    let container = ContainerRef::Id(stale.id.clone());
                    match JobLabels::parse(&stale.labels) {
                        // Its volumes too, as a sweep would: left alone they look like those of a job that was removed from outside, and it would be made again.
                        Some(labels) => drop(bury::remove(core, &labels.id, &container).await),
                        None => drop(engine.remove_container(&container).await?),
                    }
                } else if let Some(found) = rows.into_iter().find_map(|facts| Found::from_facts(facts, instance)) {
                    return Ok(Err(found));
                } else if tokio::time::Instant::now() >= until {
                    return Err(Error::new(Code::IdempotencyInProgress, "start the job: another start with the same idempotency key is under way")
                        .with_hint("try again in a moment")
                        .with_retry_after_ms(1_000));
                }
                tokio::time::sleep(KEY_RETRY).await;
            }
            Err(e) => return Err(e),
        }
    }
}

/// A container that a dead process left under a key's name.
fn is_stale(row: &ContainerFacts, key_name: &ObjectName, now_ms: u64) -> bool {
    let created = row.labels.get(labels::CREATED).and_then(|ms| ms.parse::<u64>().ok()).unwrap_or(row.created_unix_ms);
    let life = JobLabels::parse(&row.labels).and_then(|labels| labels.deliverer).map_or(Life::Unknown, |deliverer| deliverer.life());
    row.name == key_name.as_str() && (life == Life::Gone || now_ms > created.saturating_add(KEY_STALE_MS))
}

fn subject(head: Option<&str>) -> String {
    let line = head.unwrap_or("Workspace as delivered");
    line.chars().filter(|c| !c.is_control()).take(MAX_SUBJECT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> StartRequest {
        StartRequest {
            work: Work::Delegate { task: "task".into() },
            workspace_root: "/repo".into(),
            model: None,
            reasoning_effort: None,
            isolation: Isolation::Inherit,
            deadline_seconds: None,
            queue_seconds: None,
            idle_seconds: None,
            token_budget: None,
            on_behalf: false,
            include_ignored: false,
            idempotency_key: Some("key".into()),
            trace: None,
        }
    }

    #[test]
    fn keys_count_per_workspace_and_arguments_are_told_apart() {
        let keyed = |request: &StartRequest, workspace: &str| Keyed::new(request, Path::new(workspace)).unwrap();
        let first = keyed(&request(), "/repo");
        assert_eq!(first, keyed(&request(), "/repo"));
        assert_eq!(first.key.len(), 64);
        assert_ne!(first.key, keyed(&request(), "/repo/sub").key);
        assert_ne!(first.key, keyed(&StartRequest { idempotency_key: Some("key2".into()), ..request() }, "/repo").key);
        // The workspace is part of the key's scope, and how the caller spelled it is not part of the arguments.
        assert_eq!(first.args, keyed(&StartRequest { workspace_root: "/repo/".into(), ..request() }, "/repo").args);
        let others = [
            StartRequest { work: Work::Delegate { task: "task ".into() }, ..request() },
            StartRequest { work: Work::Continue { job: "0".repeat(32).parse().unwrap(), task: "task".into() }, ..request() },
            StartRequest { work: Work::Continue { job: "1".repeat(32).parse().unwrap(), task: "task".into() }, ..request() },
            StartRequest { model: Some("m".into()), ..request() },
            StartRequest { reasoning_effort: Some("m".into()), ..request() },
            StartRequest { isolation: Isolation::IgnoreRules, ..request() },
            StartRequest { deadline_seconds: Some(60), ..request() },
            StartRequest { queue_seconds: Some(60), ..request() },
            StartRequest { idle_seconds: Some(60), ..request() },
            StartRequest { token_budget: Some(60), ..request() },
            StartRequest { include_ignored: true, ..request() },
        ];
        let mut seen: Vec<String> = others.iter().map(|other| keyed(other, "/repo").args).collect();
        seen.push(first.args);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), others.len() + 1);
        assert_eq!(Keyed::new(&StartRequest { idempotency_key: None, ..request() }, Path::new("/")), None);
    }

    #[test]
    fn kinds_have_keys_of_their_own_and_additions_count() {
        let keyed = |work: Work| Keyed::new(&StartRequest { work, ..request() }, Path::new("/repo")).unwrap();
        let ask = |context: Option<&str>, instructions: Option<&str>| {
            let more = Additions { extra_context: context.map(str::to_owned), developer_instructions: instructions.map(str::to_owned) };
            keyed(Work::Consult { question: "task".into(), more })
        };
        let delegated = keyed(request().work);
        let all = [ask(None, None), ask(Some("x"), None), ask(None, Some("x"))];
        assert!(all.iter().all(|asked| asked.key == all[0].key && asked.key != delegated.key));
        assert!(all[0].args != all[1].args && all[1].args != all[2].args && all[0].args != delegated.args);
    }

    #[test]
    fn the_callers_model_goes_first() {
        let mut settings = Settings::default();
        let mut inherited = Inherited { model: Some("inherited".into()), ..Inherited::default() };
        inherited.report.taken = vec!["model".into()];
        assert_eq!(choose_model(&settings, &request(), &mut Inherited::default()), None);
        assert_eq!(choose_model(&settings, &request(), &mut inherited).as_deref(), Some("inherited"));
        assert_eq!(inherited.report.taken, ["model"]);
        settings.model.default_model = "default".into();
        assert_eq!(choose_model(&settings, &request(), &mut inherited).as_deref(), Some("default"));
        let asked = StartRequest { model: Some("asked".into()), ..request() };
        assert_eq!(choose_model(&settings, &asked, &mut inherited).as_deref(), Some("asked"));
        let report = inherited.report;
        assert!(report.taken.is_empty() && report.left_out_count == 1 && report.left_out[0].why == "overridden", "{report:?}");
    }

    #[test]
    fn a_subject_is_one_bounded_line() {
        assert_eq!(subject(Some("fix\nit\u{7}")), "fixit");
        assert_eq!(subject(Some(&"x".repeat(500))).len(), MAX_SUBJECT);
        assert_eq!(subject(None), "Workspace as delivered");
    }
}
