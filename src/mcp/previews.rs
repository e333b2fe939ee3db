//! `codex_dry_run` and `codex_delegate_dry_run`: what a review or a delegation would send, by the same checks, for nothing.

use serde_json::{Map, Value, json};

use super::call::{Answer, Failure, Reply, shown};
use super::render::{self, MAX_LISTED, counted};
use super::server::Call;
use super::start::{self, Asked};
use super::tools::ToolName;
use super::workspace::Place;
use super::{envelope, findings};
use crate::job::{Preview, PreviewChange};
use crate::protocol::request::JobKind;
use crate::review::ReviewScope;
use crate::workspace::Origin;

/// Longest task or question with its context, in bytes; it also bounds what is added to a review.
pub const MAX_INPUT_BYTES: usize = 200_000;
/// A prompt, or a diff, over so many bytes takes a model longer than a synchronous call may wait.
const MUCH: usize = 100_000;
/// Efforts with which a model takes its time.
const LONG_EFFORTS: [&str; 4] = ["high", "xhigh", "max", "ultra"];
/// Lists of a send manifest with their counts.
const LISTS: [(&str, &str); 5] = [
    ("entries", "entry_count"),
    ("left_out", "left_out_count"),
    ("included", "included_count"),
    ("secret_looking", "secret_looking_count"),
    ("instruction_files", "instruction_file_count"),
];

/// `codex_delegate_dry_run`.
pub async fn delegate(call: &Call<'_>) -> Answer {
    let Asked { request, meta, place } = start::asked(call, JobKind::Delegate, None).await?;
    let preview = call.jobs.preview(request).await.map_err(|error| Failure::with_meta(error, meta))?;
    let mut value = header(ToolName::DelegateDryRun, &preview, &place);
    let (manifest, truncated) = manifest(&preview);
    let sent = &preview.manifest;
    value.insert(
        "worktree_plan".into(),
        json!({
            "head_commit": preview.snapshot.head,
            "head_subject": preview.head_subject,
            "tracked_files": sent.files.saturating_sub(sent.included_count),
            "tracked_bytes": sent.bytes.saturating_sub(sent.included_bytes),
            "uncommitted_tracked_files": preview.uncommitted.and_then(|uncommitted| uncommitted.tracked),
            "untracked_files": preview.uncommitted.map(|uncommitted| uncommitted.untracked),
            "note": "No worktree is made: tracked files go into a container as they lie in the working tree, uncommitted edits included, and nothing has to be \
                replayed. Untracked and ignored files stay here, but for those in manifest.included.",
        }),
    );
    value.insert("would_call_model".into(), json!(true));
    finish(value, &preview, manifest, truncated)
}

/// `codex_dry_run`.
pub async fn review(call: &Call<'_>) -> Answer {
    let Asked { request, meta, place } = start::asked(call, JobKind::Review, None).await?;
    let preview = call.jobs.preview(request).await.map_err(|error| Failure::with_meta(error, meta))?;
    let mut value = header(ToolName::DryRun, &preview, &place);
    let (manifest, mut truncated) = manifest(&preview);
    if let Some(change) = &preview.change {
        truncated |= about(change, &mut value);
    }
    value.insert("would_call_model".into(), json!(preview.would_call_model()));
    finish(value, &preview, manifest, truncated)
}

/// What both have.
fn header(tool: ToolName, preview: &Preview, place: &Place) -> Map<String, Value> {
    let mut value = Map::new();
    value.insert("ok".into(), json!(true));
    value.insert("tool".into(), json!(tool.as_str()));
    value.insert("cwd".into(), json!(shown(&place.path)));
    value.insert("workspace_source".into(), json!(place.source));
    value.insert("workspace_warning".into(), json!(place.warning));
    value.insert("roots_source".into(), json!(place.roots_source));
    value.insert("tier".into(), json!(if preview.kind.makes_patch() { "propose" } else { "consult" }));
    value.insert("sandbox".into(), json!("container"));
    value.insert("isolation".into(), json!(preview.isolation.as_str()));
    value.insert("model".into(), json!(preview.model));
    value.insert("reasoning_effort".into(), json!(preview.reasoning_effort));
    value.insert("prompt_bytes".into(), json!(preview.prompt_bytes));
    value.insert("max_input_bytes".into(), json!(MAX_INPUT_BYTES));
    value
}

/// The send manifest, and whether a list of it was cut.
fn manifest(preview: &Preview) -> (Value, bool) {
    let value = render::tidy(&preview.manifest, MAX_LISTED);
    let cut = LISTS.iter().any(|(list, count)| value[list].as_array().map_or(0, Vec::len) as u64 != value[count].as_u64().unwrap_or(0));
    (value, cut)
}

/// The change under review, in the contract's fields; whether a list was cut.
fn about(change: &PreviewChange, value: &mut Map<String, Value>) -> bool {
    let facts = &change.facts;
    let named = |name: &str| crate::display::clip(name.as_bytes(), 1_000);
    let (scope, base, commit) = match &facts.change.scope {
        ReviewScope::WorkingTree => ("working_tree", None, None),
        ReviewScope::Branch { base } => ("branch", Some(named(base)), None),
        ReviewScope::Commit { commit } => ("commit", None, Some(named(commit))),
    };
    let files = &facts.change.files;
    let sum = |of: fn(&crate::review::ChangedFile) -> u64| files.iter().map(of).fold(0_u64, u64::saturating_add);
    value.insert("scope".into(), json!(scope));
    value.insert("base".into(), json!(base));
    value.insert("commit".into(), json!(commit));
    value.insert("paths".into(), render::tidy(&facts.paths, MAX_LISTED));
    value.insert("base_commit".into(), json!(facts.change.base_commit));
    value.insert("head_commit".into(), json!(facts.change.head_commit));
    value.insert(
        "context_summary".into(),
        json!({"files_changed": files.len(), "lines_added": sum(|file| file.added), "lines_removed": sum(|file| file.removed)}),
    );
    let rows: Vec<Value> = files
        .iter()
        .take(MAX_LISTED)
        .map(|file| json!({"path": file.path, "old_path": file.old_path, "added": file.added, "removed": file.removed}))
        .collect();
    value.insert("files".into(), render::tidy(&rows, MAX_LISTED));
    value.insert("diff_bytes".into(), json!(change.diff_bytes));
    value.insert("coverage".into(), findings::coverage(&facts.coverage));
    value.insert("omitted".into(), render::tidy(&change.omitted, MAX_LISTED));
    value.insert("omitted_count".into(), json!(change.omitted_count));
    value.insert("instruction_files".into(), render::tidy(&facts.change.instruction_files, MAX_LISTED));
    [files.len(), facts.paths.len(), facts.change.instruction_files.len()].iter().any(|n| *n > MAX_LISTED) || change.omitted_count > MAX_LISTED as u64
}

/// What both end with.
fn finish(mut value: Map<String, Value>, preview: &Preview, manifest: Value, truncated: bool) -> Answer {
    value.insert("manifest".into(), manifest);
    value.insert("inherited".into(), render::tidy(&preview.inherited, MAX_LISTED));
    value.insert("bounds".into(), render::tidy(&preview.bounds, MAX_LISTED));
    value.insert("truncated".into(), json!(truncated));
    let verb = if preview.kind.makes_patch() { "delegate" } else { "review" };
    let hint = format!("lists hold {MAX_LISTED} entries, the counts beside them are whole; `anchorhold {verb} --dry-run --json` lists 1000 files");
    value.insert("truncation_hint".into(), json!(truncated.then_some(hint)));
    // Nothing is masked: what looks like a secret is named, and sent all the same.
    value.insert("redacted_paths_count".into(), json!(0));
    value.insert("redacted_paths".into(), json!([]));
    value.insert("security_warnings".into(), json!(warnings(preview)));
    value.insert("deadline_advisory".into(), json!(advisory(preview)));
    value.insert("blocked".into(), preview.blocked.as_ref().map_or(Value::Null, |error| envelope::error_object(error, None)));
    value.insert("untrusted_fields".into(), json!(["manifest", "files", "omitted", "instruction_files", "worktree_plan.head_subject"]));
    Ok(Reply::from(render::signed(value)))
}

/// What somebody should know before it is sent.
pub fn warnings(preview: &Preview) -> Vec<String> {
    let sent = &preview.manifest;
    let files = |n: u64| counted(usize::try_from(n).unwrap_or(usize::MAX), "file");
    let mut warnings = Vec::new();
    if sent.secret_looking_count > 0 {
        let tracked = sent.secret_looking.iter().filter(|secret| secret.origin != Origin::Included).count();
        warnings.push(format!(
            "{} that would be sent may hold a secret, of the listed ones {tracked} tracked (manifest.secret_looking): the model may read them",
            files(sent.secret_looking_count)
        ));
    }
    if !sent.secrets_scanned_fully {
        warnings.push("not all content was looked at for secrets: large files in their first part only; names always are".to_owned());
    }
    if sent.included_count > 0 {
        warnings.push(format!(
            "{} that the repository ignores or does not track would be sent, because .worktreeinclude names them ({} bytes, manifest.included)",
            files(sent.included_count),
            sent.included_bytes
        ));
    }
    if preview.change.as_ref().is_some_and(|change| !change.facts.change.instruction_files.is_empty()) {
        warnings.push("the change touches files that instruct agents; the review would use those of the base (instruction_files)".to_owned());
    }
    warnings
}

/// Where a synchronous call is likely too short.
fn advisory(preview: &Preview) -> Option<String> {
    let diff = preview.change.as_ref().map_or(0, |change| change.diff_bytes);
    let why = match preview.reasoning_effort.as_deref() {
        _ if !preview.would_call_model() => return None,
        Some(effort) if LONG_EFFORTS.contains(&effort) => "with this reasoning effort",
        _ if preview.prompt_bytes.saturating_add(diff) > MUCH => "with so much to read",
        _ => return None,
    };
    Some(format!("{why} the run may outlast a synchronous call (600 s): use {}", ToolName::in_background(preview.kind).as_str()))
}
