//! `--dry-run` of `delegate`, `review` and `consult`: what would leave this machine, for nothing.

use std::time::Duration;

use serde_json::{Value, json};

use super::output::{Output, Paint, error_text, error_value};
use super::render::{clip, duration};
use crate::error::{Code, Error, Result};
use crate::job::{Jobs, Preview, PreviewChange, StartRequest};
use crate::review::ReviewScope;
use crate::workspace::{Origin, ShownPath};

/// Entries of one list that people are shown; `--json` has more.
const LISTED: usize = 100;

/// Shows what a request would send; the exit code is that of a start as far as this machine can tell.
pub(super) async fn run(out: &Output, jobs: &Jobs, request: StartRequest) -> Result<u8> {
    // A dry run finds no job under a key, so it would say something else than the start.
    if request.idempotency_key.is_some() {
        return Err(Error::new(Code::InvalidArguments, "a dry run makes no job that a key could name").with_hint("leave --idempotency-key out"));
    }
    let preview = jobs.preview(request).await?;
    if out.json() {
        out.document(json!({ "preview": value(&preview) }));
    } else {
        out.text(&text(&preview, out.paint()));
    }
    Ok(0)
}

/// The `preview` of a JSON document.
pub(super) fn value(preview: &Preview) -> Value {
    json!({
        "kind": preview.kind.as_str(),
        "would_call_model": preview.would_call_model(),
        "workspace": crate::display::line(preview.workspace.as_os_str().as_encoded_bytes()),
        "root": crate::display::line(preview.root.as_os_str().as_encoded_bytes()),
        "subdirectory": preview.subdirectory,
        "head_subject": preview.head_subject,
        "model": preview.model,
        "reasoning_effort": preview.reasoning_effort,
        "isolation": preview.isolation.as_str(),
        "inherited": preview.inherited,
        "prompt_bytes": preview.prompt_bytes,
        "bounds": preview.bounds,
        "snapshot": preview.snapshot,
        "uncommitted": preview.uncommitted.map(|found| json!({"tracked": found.tracked, "untracked": found.untracked})),
        "change": preview.change.as_ref().map(|change| json!({
            "change": change.facts.change,
            "coverage": change.facts.coverage,
            "paths": change.facts.paths,
            "diff_bytes": change.diff_bytes,
            "omitted": change.omitted,
            "omitted_count": change.omitted_count,
        })),
        "manifest": preview.manifest,
        "blocked": preview.blocked.as_ref().map(error_value),
    })
}

/// The same for people.
pub(super) fn text(preview: &Preview, paint: Paint) -> String {
    let sent = &preview.manifest;
    let mut text = String::new();
    if preview.would_call_model() {
        text.push_str(&format!(
            "{}\n",
            paint.bold(&format!(
                "would send {}, {}, and a prompt of {}",
                counted(sent.files, "file"),
                size(sent.bytes),
                size(preview.prompt_bytes as u64)
            ))
        ));
        text.push_str("to the container engine; what Codex reads of it goes on to the model provider. Nothing was sent now.\n");
    } else {
        text.push_str(&format!("{}\n", paint.bold("the change is empty: nothing would be sent, and no model asked")));
    }
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("  {name:<10} {value}\n"));
        }
    };
    row("repository", crate::display::line(preview.root.as_os_str().as_encoded_bytes()));
    row("starts in", preview.subdirectory.clone().unwrap_or_default());
    row("head", head(preview));
    row("change", preview.change.as_ref().map(change).unwrap_or_default());
    row("model", preview.model.as_deref().map_or_else(|| "Codex's own default".to_owned(), |model| clip(model.as_bytes(), 80)));
    row("effort", preview.reasoning_effort.as_deref().map(|effort| clip(effort.as_bytes(), 80)).unwrap_or_default());
    row("settings", inherited(preview));
    row("deadline", format!("{} from its turn", duration(Duration::from_secs(preview.bounds.deadline_seconds))));
    row("tokens", if preview.bounds.max_tokens > 0 { format!("at most {}", preview.bounds.max_tokens) } else { "no cap".to_owned() });

    let mut list = |title: &str, count: u64, lines: Vec<String>| {
        if count == 0 {
            return;
        }
        text.push_str(&format!("{title}: {count}\n"));
        let shown = lines.len().min(LISTED);
        text.extend(lines.into_iter().take(LISTED).map(|line| format!("  {line}\n")));
        if count > shown as u64 {
            text.push_str(&format!("  and {} more\n", count - shown as u64));
        }
    };
    let path = |path: &ShownPath| clip(path.path.as_bytes(), 500);
    let secrets = sent.secret_looking.iter().map(|secret| {
        let along = if secret.origin == Origin::Included { ", not tracked" } else { "" };
        format!("{} ({}{along})", path(&secret.path), clip(secret.note.as_bytes(), 300))
    });
    list(&paint.yellow("May hold a secret, and would be sent"), sent.secret_looking_count, secrets.collect());
    list(
        &paint.yellow("Ignored or untracked, sent because .worktreeinclude names them"),
        sent.included_count,
        sent.included.iter().map(path).collect(),
    );
    let instructions = sent.instruction_files.iter().map(|file| {
        let when = if file.at_start { "loaded at the start" } else { "read where Codex works there" };
        let from = if file.origin == Origin::Base { ", as in the base" } else { "" };
        format!("{} ({when}{from})", path(&file.path))
    });
    list("Instructions for agents", sent.instruction_file_count, instructions.collect());
    if let Some(change) = &preview.change {
        let lines = change.omitted.iter().map(|left| format!("{} ({})", path(&left.path), left.why.replace('_', " ")));
        list("Changed, and not shown to the reviewer", change.omitted_count, lines.collect());
    }
    list(
        "Not sent",
        sent.left_out_count,
        sent.left_out.iter().map(|left| format!("{} ({})", path(&left.path), clip(left.why.replace('_', " ").as_bytes(), 80))).collect(),
    );
    list("Sent", sent.entry_count, sent.entries.iter().map(|entry| format!("{:>10}  {}", size(entry.bytes), path(&entry.path))).collect());
    if !sent.secrets_scanned_fully {
        text.push_str("Not all content was looked at for secrets: large files in their first part only.\n");
    }
    if let Some(e) = &preview.blocked {
        text.push_str(&format!("{}\n{}", paint.yellow("A start would fail now:"), error_text(e, paint)));
    }
    text
}

fn head(preview: &Preview) -> String {
    let snapshot = &preview.snapshot;
    let id = snapshot.head.as_deref().and_then(|head| head.get(..12)).unwrap_or("no commit yet");
    let mut text = id.to_owned();
    if let Some(subject) = &preview.head_subject {
        text.push_str(&format!(" {}", clip(subject.as_bytes(), 80)));
    }
    if let Some(found) = preview.uncommitted {
        let tracked = found.tracked.map_or_else(|| "edits that cannot be counted".to_owned(), |n| format!("{} with edits", counted(n, "file")));
        text.push_str(&format!("; {tracked}, {} (not sent)", counted(found.untracked, "untracked file")));
    }
    text
}

fn change(change: &PreviewChange) -> String {
    let facts = &change.facts;
    let what = match &facts.change.scope {
        ReviewScope::WorkingTree => "the working tree against HEAD".to_owned(),
        ReviewScope::Branch { base } => format!("HEAD since it left {}", clip(base.as_bytes(), 200)),
        ReviewScope::Commit { commit } => format!("the commit {}", clip(commit.as_bytes(), 200)),
    };
    let mut text = format!("{what}: {}, a diff of {}", counted(facts.change.files.len() as u64, "file"), size(change.diff_bytes as u64));
    for reason in &facts.coverage.omission_reasons {
        text.push_str(&format!(". {}", clip(reason.trim_end_matches('.').as_bytes(), 300)));
    }
    text
}

/// What of the user's own Codex settings enters.
fn inherited(preview: &Preview) -> String {
    let report = &preview.inherited;
    let mut parts = report.taken.clone();
    parts.extend(report.files.iter().map(|file| format!("your own {} ({})", crate::display::line(file.name.as_bytes()), size(file.bytes))));
    let parts = if parts.is_empty() { "nothing of yours".to_owned() } else { parts.join(", ") };
    let left_out = if report.left_out_count == 0 { String::new() } else { format!(" ({} left out)", report.left_out_count) };
    format!("{}: {parts}{left_out}", preview.isolation.as_str())
}

fn counted(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let of = |unit: u64| bytes as f64 / unit as f64;
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{:.1} kB", of(1_000)),
        _ => format!("{:.1} MB", of(1_000_000)),
    }
}
