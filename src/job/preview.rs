//! What a start would do, without doing it: the same checks and the same reading of the repository, and then no engine, no job and no cost.
//!
//! What the engine, the image and the gateway say belongs to [`super::readiness`]; a start that is right may still fail for them.

use std::path::PathBuf;

use serde::Serialize;

use super::reviewing::UnderReview;
use super::{InheritedReport, Isolation, Jobs, StartRequest, Work, authorities, check, start};
use crate::config::Settings;
use crate::error::{Code, Error, Result};
use crate::protocol::admin::Upstream;
use crate::protocol::repo_path::RepoPath;
use crate::protocol::request::JobKind;
use crate::review::Facts;
use crate::workspace::{Omitted, PlanOptions, SendManifest, SnapshotSummary, Uncommitted, manifest_of};

/// What would be sent, and how the job would run.
#[derive(Debug)]
pub struct Preview {
    /// What kind of work.
    pub kind: JobKind,
    /// The caller's directory, without links.
    pub workspace: PathBuf,
    /// The repository's top.
    pub root: PathBuf,
    /// Where Codex would start below it, escaped.
    pub subdirectory: Option<String>,
    /// HEAD's subject line, escaped and bounded.
    pub head_subject: Option<String>,
    /// The model that would be asked for; `None`: Codex's own default.
    pub model: Option<String>,
    /// The same of the effort.
    pub reasoning_effort: Option<String>,
    /// Which of the user's Codex settings were asked for.
    pub isolation: Isolation,
    /// What of them would enter.
    pub inherited: InheritedReport,
    /// Bytes of the whole prompt.
    pub prompt_bytes: usize,
    /// Bounds of the job.
    pub bounds: PreviewBounds,
    /// HEAD, branch and what else a snapshot says.
    pub snapshot: SnapshotSummary,
    /// What would leave this machine.
    pub manifest: SendManifest,
    /// What no commit holds; `None` for a review, whose change says it.
    pub uncommitted: Option<Uncommitted>,
    /// The change, for a review.
    pub change: Option<PreviewChange>,
    /// Why the start would fail although the request is right: there is no API key.
    pub blocked: Option<Error>,
}

impl Preview {
    /// Whether a start would ask a model: a review of nothing does not.
    pub fn would_call_model(&self) -> bool {
        self.change.as_ref().is_none_or(|change| !change.facts.change.files.is_empty())
    }
}

/// Bounds of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PreviewBounds {
    /// From its turn to its end.
    pub deadline_seconds: u64,
    /// Its wait for a turn.
    pub queue_seconds: u64,
    /// Without a sign of life; 0: for ever.
    pub idle_seconds: u64,
    /// Tokens; 0: no cap.
    pub max_tokens: u64,
}

/// The change that a review would see.
#[derive(Debug, Clone)]
pub struct PreviewChange {
    /// What changed, and how much of it the diff shows.
    pub facts: Facts,
    /// Bytes of the diff.
    pub diff_bytes: usize,
    /// Changed files that it does not show. The first 200.
    pub omitted: Vec<Omitted>,
    /// How many there are.
    pub omitted_count: u64,
}

impl Jobs {
    /// Checks a request as [`Jobs::begin`] does and says what it would send. Makes nothing, asks neither engine nor provider. An idempotency key is not
    /// looked up.
    ///
    /// # Errors
    ///
    /// Those of a start that come before the engine is asked, but for a missing API key ([`Preview::blocked`]).
    pub async fn preview(&self, request: StartRequest) -> Result<Preview> {
        let core = self.core();
        let upstream = check::arguments(&core.settings, &request)?;
        let settings = core.settings.clone();
        start::blocking(core, move || preview(&settings, request, upstream)).await
    }
}

/// Blocking.
fn preview(settings: &Settings, request: StartRequest, upstream: Upstream) -> Result<Preview> {
    // What the key is for is asked last, because nothing here needs it.
    let mut local = start::find_local(settings, &request.workspace_root, Upstream::Rehearsal, request.isolation, request.work.kind())?;
    let model = start::choose_model(settings, &request, &mut local.inherited);
    check::some_model(&settings.model, model.as_deref())?;
    let upstream = authorities::with_authorities(&settings.model, upstream)?;
    let blocked = check::credential(&settings.model, &upstream).err();

    let options = PlanOptions { include_ignored: request.include_ignored };
    let change = match &request.work {
        Work::Continue { .. } => {
            return Err(Error::new(Code::Unsupported, "say what would be sent: a job that goes on with another sends nothing of the repository")
                .with_hint("look at that job's own `snapshot`"));
        }
        Work::Delegate { .. } | Work::Consult { .. } => None,
        Work::Review { change, .. } => Some(change),
    };
    let (plan, under_review) = start::plan(settings, &local.workspace, change, options)?;
    // Of a change that is empty nothing goes anywhere.
    let (prompt_bytes, manifest) = match under_review.as_ref().and_then(UnderReview::nothing) {
        Some(_) => (0, SendManifest { secrets_scanned_fully: true, ..SendManifest::default() }),
        None => {
            (start::prompt(&request.work, plan.subdirectory(), under_review.as_ref())?.len(), manifest_of(&plan, &local.inherited.document_names())?)
        }
    };
    let uncommitted = if under_review.is_none() { Some(plan.uncommitted()?) } else { None };
    Ok(Preview {
        kind: request.work.kind(),
        root: plan.root().to_owned(),
        subdirectory: plan.subdirectory().map(RepoPath::as_bytes).map(crate::display::line),
        head_subject: plan.head_subject().map(ToOwned::to_owned),
        reasoning_effort: request.reasoning_effort.filter(|effort| !effort.trim().is_empty()).or(local.inherited.reasoning_effort),
        model,
        isolation: request.isolation,
        inherited: local.inherited.report,
        prompt_bytes,
        bounds: PreviewBounds {
            deadline_seconds: check::deadline(&settings.limits, request.deadline_seconds)?,
            queue_seconds: check::queue(&settings.limits, request.queue_seconds)?,
            idle_seconds: check::idle(&settings.limits, request.idle_seconds)?,
            max_tokens: request.token_budget.unwrap_or(settings.limits.tokens),
        },
        snapshot: plan.summary().clone(),
        manifest,
        uncommitted,
        change: under_review.map(|under_review| PreviewChange {
            diff_bytes: under_review.diff.len(),
            facts: under_review.facts,
            omitted: under_review.omitted,
            omitted_count: under_review.omitted_count,
        }),
        workspace: local.workspace,
        blocked,
    })
}
