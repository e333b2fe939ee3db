//! From an ended container to a checked result.
//!
//! What `init` sealed is believed only as far as it can be proven: the manifest by its digest in the gateway's ledger (or in this process,
//! which sent it), each base by the manifest, the patch by applying it to the base. The rest is a claim, and is shown as one.

use std::io::Read;

use tracing::Instrument as _;

use super::download::{self, Expected, Piece, Pieces};
use super::labels::JobLabels;
use super::service::Core;
use super::status::{self, Observed};
use super::{JobId, JobResult, JobState, NotCarried, reviewing, seal, trace};
use crate::engine::{ContainerRef, ContainerState};
use crate::error::{Code, Error, Result};
use crate::protocol::PROTOCOL_VERSION;
use crate::protocol::admin::JobAccount;
use crate::protocol::changes::{self, Change, ChangesCaps};
use crate::protocol::manifest::{Manifest, ManifestCaps};
use crate::protocol::request::JobKind;
use crate::protocol::result::{ALTERATIONS, KINDS, ProviderError, REFUSALS, RULES_STOPPED, Reason, Refused, SealedResult, is_our_sentence, known};
use crate::protocol::{paths, paths::out};
use crate::telemetry::step;
use crate::workspace::{Applies, Collected, Risk, ShownPath, SnapshotSummary};
use crate::{fault, weaken};

const MANIFEST: &str = "manifest";
const SNAPSHOT: &str = "snapshot.json";
const REVIEW: &str = "review.json";
/// Ignored and altered paths that a result lists; the seal lists no more.
const MAX_IGNORED: usize = 100;
/// Refused paths that a result lists; the seal lists no more.
const MAX_REFUSED: usize = 200;
/// Bytes of a path that is only told of.
const MAX_SHOWN_PATH: usize = 4096;

/// The sealed changes' contents and headers: all bytes together, and 64 MiB of headers.
pub(super) const MAX_CHANGES: u64 = (1 << 30) + (64 << 20);

const OUT: &[Expected] = &[
    Expected { name: out::RESULT, max: SealedResult::MAX_BYTES, cut: false },
    Expected { name: out::CHANGES, max: MAX_CHANGES, cut: false },
    Expected { name: out::EVENTS, max: 32 << 20, cut: true },
    Expected { name: out::LAST_MESSAGE, max: 1 << 20, cut: true },
    Expected { name: out::NOTES, max: 1 << 20, cut: true },
    Expected { name: out::STDERR, max: 1 << 20, cut: true },
];
const FACTS: &[Expected] = &[
    Expected { name: MANIFEST, max: 512 << 20, cut: false },
    Expected { name: SNAPSHOT, max: 16 << 20, cut: false },
    Expected { name: REVIEW, max: crate::review::Facts::MAX_BYTES, cut: false },
];

/// A result, and the job that it was collected from.
pub(super) struct Harvest {
    pub result: JobResult,
    pub seen: Observed,
}

/// Looks at an ended job and collects it. One that died unsealed is sealed first.
pub(super) async fn collect(core: &Core, id: &JobId) -> Result<Harvest> {
    let Some(seen) = status::observe(core, id).await? else {
        return Err(core.deliveries.failure(id).unwrap_or_else(super::id::not_found));
    };
    let seen = seal::seal_again(core, seen).await?;
    if !seen.derived.state.is_final() {
        let status = seen.status();
        return Err(Error::new(Code::JobRunning, "collect the job: it has not ended yet")
            .with_hint("ask for its status until it has ended, or cancel it")
            .with_retry_after_ms(status.poll_after_ms)
            .with_detail("state", status.state.as_str()));
    }
    // A tombstone, or a delivery that nobody finished: nothing has run, so there is nothing to download.
    if let Some(ended) = &seen.found.labels.ended
        && ended.reason == Reason::Failed
    {
        let error = core.deliveries.failure(id).unwrap_or_else(|| Error::new(ended.code, ended.detail.trim_end_matches('.')));
        return Err(error.with_detail("never_ran", true));
    }
    let never_ran = seen.found.facts.state == ContainerState::Created;
    if never_ran || seen.derived.state == JobState::Lost {
        let harvest = Harvest { result: empty(&seen), seen };
        trace::collected(&core.counted, &harvest);
        return Ok(harvest);
    }
    let span = step!("collect", id, seen.found.labels.trace());
    let collected = download_all(core, seen).instrument(span.clone()).await;
    match &collected {
        Ok(harvest) => trace::collected(&core.counted, harvest),
        Err(error) => drop(span.record("error", error.code.as_str())),
    }
    match collected {
        Ok(harvest) if harvest.seen.derived.state != JobState::Lost => Ok(harvest),
        // Somebody may have consumed it in the middle of that: then there is no such job, and what broke off says nothing.
        other => match status::observe(core, id).await? {
            Some(_) => other,
            None => Err(super::id::not_found()),
        },
    }
}

async fn download_all(core: &Core, seen: Observed) -> Result<Harvest> {
    let began = std::time::Instant::now();
    let labels = &seen.found.labels;
    let container = seen.found.container();
    let engine = core.engine().await?;
    fault::point("collect.downloading");
    let (out, facts, account) = tokio::join!(
        download::directory(core, &container, paths::JOB_OUT, OUT),
        find_facts(core, &labels.id, &container),
        core.gateway.account(&engine, &core.settings, labels.id.as_str()),
    );
    tracing::debug!(job_id = %labels.id, ms = began.elapsed().as_millis(), "downloaded");
    fault::point("collect.downloaded");
    let (Some(out), Some(facts)) = (out?, facts?) else { return Ok(lost(seen)) };
    if !out.contains_key(out::RESULT) {
        return Ok(lost(seen));
    }
    let known = [account.as_ref().and_then(|account| account.manifest_sha256.clone()), core.deliveries.manifest(&labels.id)];
    let of_job = labels.clone();
    let opened = core.tasks.spawn_blocking(move || open(&of_job, out, facts, &known)).await;
    let opened = opened.map_err(|e| Error::internal("open the result").with_source(e))??;
    tracing::debug!(job_id = %labels.id, ms = began.elapsed().as_millis(), "opened");
    fault::point("collect.opened");
    Ok(Harvest { result: assemble(&seen, opened, account), seen })
}

/// What was delivered: the manifest and the snapshot's summary.
pub(super) struct Facts {
    pub manifest: Box<dyn Read + Send>,
    pub manifest_sha256: String,
    pub snapshot: SnapshotSummary,
    /// The facts of a review, as a document.
    review: Option<Vec<u8>>,
}

/// The facts from this process, which sent them, else from the job; `None`: they are gone.
pub(super) async fn find_facts(core: &Core, id: &JobId, container: &ContainerRef) -> Result<Option<Facts>> {
    use bytes::Buf as _;
    if let Some(sent) = core.deliveries.sent(id) {
        let manifest = Box::new(sent.manifest.reader());
        let review = sent.review.map(Vec::from);
        return Ok(Some(Facts { manifest, manifest_sha256: sent.manifest_sha256, snapshot: sent.summary, review }));
    }
    let Some(mut pieces) = download::directory(core, container, paths::FACTS, FACTS).await? else { return Ok(None) };
    let Some(manifest) = pieces.remove(MANIFEST) else { return Ok(None) };
    let snapshot = match pieces.get_mut(SNAPSHOT) {
        Some(piece) => {
            let text = piece.bytes().map_err(|e| damaged(SNAPSHOT, e.into()))?;
            serde_json::from_slice(&text).map_err(|e| damaged(SNAPSHOT, place(&e).into()))?
        }
        None => SnapshotSummary::default(),
    };
    let review = pieces.get_mut(REVIEW).map(Piece::bytes).transpose().map_err(|e| damaged(REVIEW, e.into()))?;
    let manifest_sha256 = manifest.sha256.clone();
    let manifest = Box::new(manifest.into_reader().map_err(|e| damaged(MANIFEST, e.into()))?);
    Ok(Some(Facts { manifest, manifest_sha256, snapshot, review }))
}

/// Where a document is damaged. What the parser says quotes the document, and that may be a job's words.
fn place(e: &serde_json::Error) -> String {
    format!("line {}, column {}", e.line(), e.column())
}

fn damaged(name: &str, e: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::new(Code::JobFailed, format!("open the result: {name} is damaged"))
        .with_hint("nothing of this job can be used; start a new one")
        .with_source(e)
}

/// A result's parts, checked.
struct Opened {
    sealed: SealedResult,
    snapshot: SnapshotSummary,
    changes: Vec<Change>,
    collected: Collected,
    applies: Option<Applies>,
    last_message: Vec<u8>,
    notes: Vec<u8>,
    review: Option<crate::review::Facts>,
    events: Vec<u8>,
    manifest_verified: bool,
}

/// Checks everything and makes the patch; blocking.
fn open(labels: &JobLabels, mut out: Pieces, facts: Facts, known: &[Option<String>; 2]) -> Result<Opened> {
    let (id, root) = (&labels.id, labels.root.as_path());
    let missing = |name: &str| Error::new(Code::JobFailed, format!("open the result: {name} is missing")).with_hint("start a new job");
    let untrue = |what: &str| {
        Error::new(Code::JobFailed, format!("open the result: {what}"))
            .with_hint("the sealed result was tampered with or damaged: nothing of this job can be used; start a new one")
    };

    let text = out.get_mut(out::RESULT).ok_or_else(|| missing(out::RESULT))?.bytes().map_err(|e| damaged(out::RESULT, e.into()))?;
    let sealed = parse_sealed(id, &text)?;

    let Facts { manifest, manifest_sha256: digest, snapshot, review } = facts;
    let review = match labels.kind {
        JobKind::Review => Some(reviewing::read_facts(labels, review.as_deref().unwrap_or_default())?),
        JobKind::Delegate | JobKind::Consult => None,
    };
    if known.iter().flatten().any(|known| *known != digest) && !weaken::off("collect.manifest") {
        return Err(untrue("the manifest is not the one that was delivered"));
    }
    let manifest_verified = known.iter().any(Option::is_some);
    // A job that failed before it read the manifest says so by leaving the digest empty.
    if !sealed.manifest_sha256.is_empty() && sealed.manifest_sha256 != digest {
        return Err(untrue("the job was sealed against another manifest"));
    }

    let mut changes = Vec::new();
    let mut collected = Collected { patch: None, files: Vec::new(), risk: Risk::default(), left_out: Vec::new() };
    if !labels.kind.makes_patch() {
        // What was edited is no result: only the seal's count of it is told.
    } else if let Some(piece) = out.get_mut(out::CHANGES) {
        if !sealed.seal.changes_sha256.is_empty() && piece.sha256 != sealed.seal.changes_sha256 {
            return Err(untrue("the changes are not the sealed ones"));
        }
        let reader = piece.reader().map_err(|e| damaged(out::CHANGES, e.into()))?;
        changes = changes::read(std::io::BufReader::new(reader), ChangesCaps::default()).map_err(|e| damaged(out::CHANGES, e.into()))?;
        if changes.len() as u64 != sealed.seal.changed {
            return Err(untrue("the number of changes is not the sealed one"));
        }
    } else if sealed.seal.complete || sealed.seal.changed > 0 {
        return Err(missing(out::CHANGES));
    }
    let mut applies = None;
    if !changes.is_empty() {
        let manifest = Manifest::read(manifest, ManifestCaps::default()).map_err(|e| damaged(MANIFEST, e.into()))?;
        collected = crate::workspace::collect(&manifest, &changes)?;
        // What no patch may carry, nobody applies either.
        let dropped: std::collections::HashSet<&[u8]> = collected.left_out.iter().map(|dropped| dropped.path.as_bytes()).collect();
        changes.retain(|change| !dropped.contains(change.path.as_bytes()));
        // The tree may lie on another machine, or be gone.
        if root.is_dir() {
            applies = match crate::workspace::applies(root, &changes) {
                Ok(applies) => Some(applies),
                Err(e) => {
                    tracing::debug!(job_id = %id, code = e.code.as_str(), "cannot tell whether the patch applies");
                    None
                }
            };
        }
    }

    let mut optional = |name| match out.get_mut(name) {
        Some(piece) => piece.bytes().map_err(|e| damaged(name, e.into())),
        None => Ok(Vec::new()),
    };
    let (last_message, notes, events) = (optional(out::LAST_MESSAGE)?, optional(out::NOTES)?, optional(out::EVENTS)?);
    Ok(Opened { sealed, snapshot, changes, collected, applies, last_message, notes, review, events, manifest_verified })
}

fn parse_sealed(id: &JobId, text: &[u8]) -> Result<SealedResult> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let damaged =
        |e: serde_json::Error| Error::new(Code::JobFailed, "open the result: it is damaged").with_hint("start a new job").with_source(place(&e));
    let Version { version } = serde_json::from_slice(text).map_err(damaged)?;
    if version != PROTOCOL_VERSION {
        return Err(Error::new(Code::JobFailed, format!("open the result: it has form {version}, this program reads form {PROTOCOL_VERSION}"))
            .with_hint("collect it with the version of Anchorhold that started it (see the job's status), or start a new job"));
    }
    let sealed: SealedResult = serde_json::from_slice(text).map_err(damaged)?;
    if sealed.job_id != id.as_str() {
        return Err(Error::new(Code::JobFailed, "open the result: it belongs to another job").with_hint("start a new job"));
    }
    Ok(sealed)
}

fn assemble(seen: &Observed, opened: Opened, account: Option<JobAccount>) -> JobResult {
    let Opened { sealed, snapshot, changes, collected, applies, last_message, notes, review, events, manifest_verified } = opened;
    let mut status = seen.status();
    // Only what `init` may say passes for our words; of a cell that was taken over anything may come.
    let trusted = is_our_sentence(&sealed.detail) || weaken::off("collect.sentences");
    if trusted && !sealed.detail.is_empty() {
        status.detail.clone_from(&sealed.detail);
    }
    let untrusted_detail = (!trusted).then(|| crate::display::clip(sealed.detail.as_bytes(), 500));
    status.events_seen = status.events_seen.max(sealed.codex.events);
    status.answers = account.as_ref().map_or(sealed.answers, |account| account.answers);
    let seal = &sealed.seal;
    let complete = seal.complete || weaken::off("collect.complete");
    let no_changes = complete && seal.changed == 0 && seal.refused_count == 0 && seal.refused.is_empty() && changes.is_empty();
    let (usage, usage_source) = match &account {
        // A gateway that lost its ledger counts from zero; then Codex's claim says more.
        Some(account) if account.usage.total() > 0 || sealed.codex.usage.is_none() => (account.usage, "gateway"),
        _ => (sealed.codex.usage.unwrap_or_default(), "codex"),
    };
    let reason = status.reason.unwrap_or(sealed.reason);
    let said = reviewing::Said { last_message: &last_message, notes: &notes, reason, usage };
    let review_paths = review.as_ref().map(|facts| facts.paths.clone()).unwrap_or_default();
    let (review, answer_fault) = review.map(|facts| reviewing::conclude(&seen.found.labels, facts, &said)).unzip();
    let dropped = &collected.left_out;
    let refused_count = seal.refused_count.max(seal.refused.len() as u64).saturating_add(dropped.len() as u64);
    let ours = dropped.iter().map(|d| NotCarried { path: ShownPath::new(d.path.as_bytes()), kind: d.kind, why: d.why });
    let refused = ours.chain(seal.refused.iter().filter_map(|said| not_carried(said, &REFUSALS))).take(MAX_REFUSED).collect();
    let altered = seal.altered.iter().filter_map(|said| not_carried(said, &ALTERATIONS)).take(MAX_IGNORED).collect();
    JobResult {
        status,
        last_message,
        patch: collected.patch,
        review,
        review_paths,
        answer_fault: answer_fault.flatten(),
        changes,
        no_changes,
        files: collected.files,
        risk: collected.risk,
        applies,
        snapshot,
        untrusted_detail,
        refused,
        refused_count,
        altered,
        altered_count: seal.altered_count.max(seal.altered.len() as u64),
        ignored: seal.ignored.iter().take(MAX_IGNORED).filter_map(|coded| as_shown(coded)).collect(),
        ignored_count: seal.ignored_count.max(seal.ignored.len() as u64),
        ignore_rules_stopped: seal.rules_stopped.as_ref().map(|why| known(why, &RULES_STOPPED).to_owned()),
        usage,
        usage_source,
        provider_error: account.and_then(|account| account.last_error).or_else(|| sealed.provider_error.as_ref().map(reported)),
        events,
        manifest_verified,
        sealed: Some(sealed),
    }
}

/// What the seal left out, in words that we know; `None`: its path is no path.
fn not_carried(said: &Refused, reasons: &[&'static str]) -> Option<NotCarried> {
    let kind = said.kind.as_deref().map_or("other", |kind| known(kind, &KINDS));
    Some(NotCarried { path: as_shown(&said.path_base64)?, kind, why: known(&said.why, reasons) })
}

/// A path of the seal for people to read.
fn as_shown(coded: &str) -> Option<ShownPath> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(coded).ok()?;
    Some(ShownPath::new(bytes.get(..MAX_SHOWN_PATH).unwrap_or(&bytes)))
}

/// The provider's failure as the cell tells it: the kind, if it is one, and a sentence of ours.
fn reported(said: &ProviderError) -> ProviderError {
    const PROVIDER: [&str; 8] = ["auth", "quota", "rate_limit", "unreachable", "server_error", "bad_request", "cut", "model"];
    let kind = known(&said.kind, &PROVIDER);
    ProviderError {
        kind: kind.to_owned(),
        message: format!("the cell reports a failure of the provider: {}", kind.replace('_', " ")),
        ..said.clone()
    }
}

/// A job of which nothing can be read, or that never ran: no patch, and no word about changes.
fn empty(seen: &Observed) -> JobResult {
    let labels = &seen.found.labels;
    JobResult {
        status: seen.status(),
        sealed: None,
        last_message: Vec::new(),
        patch: None,
        review: None,
        review_paths: Vec::new(),
        answer_fault: None,
        changes: Vec::new(),
        no_changes: false,
        files: Vec::new(),
        risk: Risk::default(),
        applies: None,
        snapshot: SnapshotSummary { head: labels.head.clone(), dirty: labels.dirty, ..SnapshotSummary::default() },
        untrusted_detail: None,
        refused: Vec::new(),
        refused_count: 0,
        altered: Vec::new(),
        altered_count: 0,
        ignored: Vec::new(),
        ignored_count: 0,
        ignore_rules_stopped: None,
        usage: Default::default(),
        usage_source: "codex",
        provider_error: None,
        events: Vec::new(),
        manifest_verified: false,
    }
}

fn lost(mut seen: Observed) -> Harvest {
    seen.derived.state = JobState::Lost;
    seen.derived.reason = Some(Reason::Lost);
    seen.derived.detail = "It ended, but its sealed result is not there: nothing can be said about changes.".into();
    Harvest { result: empty(&seen), seen }
}

#[cfg(test)]
#[path = "collect_tests.rs"]
mod tests;
