//! How jobs, results and patches look, for people and as JSON.
//!
//! Everything that a job made is escaped before it gets here or on its way out: [`crate::display`].

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::output::{Output, Paint};
use super::progress;
use crate::display;
use crate::error::{Code, Error};
use crate::job::{JobId, JobResult, JobState, JobStatus, NotCarried};
use crate::protocol::progress::Progress;
use crate::protocol::result::Usage;
use crate::workspace::{Applies, ChangeStatus, FileChange, Risk, SnapshotSummary};

/// Characters of the last message that people are shown at once.
const SUMMARY: usize = 6_000;
/// Entries of one list that people are shown at once; `--json` has them all.
const LISTED: usize = 200;
/// Ignored paths that people are shown at once.
const IGNORED: usize = 10;

/// Shows a result in the wanted form and returns the exit code of the job's outcome. `kept`: the job is still there.
pub(super) fn show_result(out: &Output, result: &JobResult, with_patch: bool, kept: bool) -> u8 {
    let failure = result.failure();
    if out.json() {
        let mut fields = result_value(result);
        if with_patch {
            add_patch(&mut fields, result.patch.as_deref().unwrap_or_default());
        }
        out.outcome(failure.as_ref(), fields);
    } else {
        out.text(&result_text(result, kept, out.paint()));
        if with_patch && let Some(bytes) = &result.patch {
            out.bytes(b"\n");
            show_patch(out, bytes);
        }
        if let Some(e) = &failure {
            out.human_error(e);
        }
    }
    failure.map_or(0, |e| e.code.exit_code())
}

/// A patch on standard output: for the eye on a terminal or where colours were asked for, else its exact bytes.
pub(super) fn show_patch(out: &Output, bytes: &[u8]) {
    if out.is_terminal() || out.paint().0 {
        out.text(&patch(bytes, out.paint()));
    } else {
        out.bytes(bytes);
    }
}

/// An error where neither changes nor their absence are proven.
pub(super) fn nothing_known(result: &JobResult) -> Option<Error> {
    if !result.status.kind.makes_patch() {
        return Some(Error::new(Code::Unsupported, "a question or a review makes no patch").with_hint("read what it says with `anchorhold result`"));
    }
    if result.patch.is_some() || result.no_changes || result.only_refused() {
        return None;
    }
    Some(result.failure().unwrap_or_else(|| Error::new(Code::JobLost, "nothing can be said about the job's changes")))
}

/// The fields of a result document.
pub(super) fn result_value(result: &JobResult) -> Value {
    json!({
        "job_id": result.status.job_id,
        "job": result.status,
        "summary": display::text(&result.last_message),
        "untrusted_fields": ["summary", "review", "files", "risk", "applies", "snapshot", "refused", "altered", "ignored", "untrusted_detail", "patch"],
        "review": result.review,
        "no_changes": result.no_changes,
        "patch_bytes": result.patch.as_ref().map(Vec::len),
        "files": result.files,
        "risk": result.risk,
        "applies": result.applies,
        "snapshot": result.snapshot,
        "untrusted_detail": result.untrusted_detail,
        "refused": result.refused,
        "refused_count": result.refused_count,
        "altered": result.altered,
        "altered_count": result.altered_count,
        "ignored": result.ignored,
        "ignored_count": result.ignored_count,
        "ignore_rules_stopped": result.ignore_rules_stopped,
        "usage": result.usage,
        "usage_source": result.usage_source,
        "provider_error": result.provider_error,
        "manifest_verified": result.manifest_verified,
        "timings": result.sealed.as_ref().map(|sealed| sealed.timings),
        "resealed": result.sealed.as_ref().map(|sealed| sealed.resealed),
    })
}

/// Adds the whole patch: as text where it is UTF-8, else in base64; never cut, never escaped beyond JSON.
pub(super) fn add_patch(fields: &mut Value, patch: &[u8]) {
    use base64::Engine as _;
    let (encoding, text) = match std::str::from_utf8(patch) {
        Ok(text) => ("utf-8", text.to_owned()),
        Err(_) => ("base64", base64::engine::general_purpose::STANDARD.encode(patch)),
    };
    if let Value::Object(fields) = fields {
        fields.insert("patch_encoding".to_owned(), encoding.into());
        fields.insert("patch".to_owned(), text.into());
    }
}

/// A result for people.
pub(super) fn result_text(result: &JobResult, kept: bool, paint: Paint) -> String {
    let job = &result.status;
    let mut text = format!("{}  {}\n", state(job.state, paint), display::line(job.detail.as_bytes()));
    if let Some(said) = &result.untrusted_detail {
        text.push_str(&format!("the cell says (its own words): {}\n", clip(said.as_bytes(), 500)));
    }
    text.push_str(&format!("job {}, {}", job.job_id, took(job)));
    if let Some(before) = &job.continues {
        text.push_str(&format!(", goes on with {}", short(before)));
    }
    if let Some(sealed) = &result.sealed {
        text.push_str(&format!(" (Codex {})", duration(Duration::from_millis(sealed.timings.run_ms))));
    }
    text.push_str(&format!(", {}\n", usage(&result.usage, result.usage_source)));
    if let Some(e) = &result.provider_error {
        text.push_str(&format!("{} {}\n", paint.yellow("the provider:"), display::line(e.message.as_bytes())));
    }
    if !result.last_message.is_empty() {
        let said = display::page(display::bounded(result.last_message.trim_ascii(), SUMMARY).as_bytes());
        text.push_str(&format!("\n{}\n", paint.bold("Codex says")));
        text.extend(said.lines().map(|line| format!("  {line}\n")));
    }
    text.push('\n');
    if !result.status.kind.makes_patch() {
        if result.edits() > 0 {
            text.push_str(&format!("{} edits of the agent's copy were thrown away\n", result.edits()));
        }
    } else if result.no_changes {
        text.push_str("no changes\n");
    } else if result.only_refused() {
        text.push_str("nothing changed that a patch can carry\n");
    } else if result.patch.is_none() {
        text.push_str("what was changed cannot be told\n");
    } else {
        text.push_str(&files(&result.files, paint));
    }
    text.push_str(&risk(&result.risk, paint));
    text.push_str(&caveats(result, paint));
    if let Some(applies) = &result.applies
        && result.patch.is_some()
    {
        text.push_str(&applies_text(applies, paint));
    }
    if kept && result.patch.is_some() {
        let short = short(&job.job_id);
        let verbs = format!("anchorhold diff {short} · anchorhold apply {short} · anchorhold continue {short} TASK · anchorhold consume {short}");
        text.push_str(&format!("\n{}\n", paint.dim(&verbs)));
    }
    text
}

/// What the patch does not hold, so that nobody takes it for more than it is.
fn caveats(result: &JobResult, paint: Paint) -> String {
    let mut lines = Vec::new();
    lines.extend(not_carried("not in the patch", &result.refused, result.refused_count));
    lines.extend(not_carried("not as it was in the cell", &result.altered, result.altered_count));
    if result.ignored_count > 0 {
        lines.push(ignored(result));
    }
    if let Some(why) = &result.ignore_rules_stopped {
        let why = display::line(why.replace('_', " ").as_bytes());
        lines.push(format!("the repository's ignore rules were not used to the end ({why}), so the patch may hold what they exclude"));
    }
    if !result.manifest_verified && result.status.state != JobState::Lost {
        lines.push("the delivered manifest could not be checked against the gateway's ledger".to_owned());
    }
    if result.sealed.as_ref().is_some_and(|sealed| sealed.resealed) {
        lines.push("sealed by a second start, since the first one died".to_owned());
    }
    if result.changed_inputs().next().is_some() {
        lines.push(
            "the patch changes files that no commit has, sent because .worktreeinclude names them: it fits the working tree, not a commit".to_owned(),
        );
    }
    lines.extend(snapshot_notes(&result.snapshot));
    lines.extend(result.status.settings_warnings().into_iter().map(|sentence| clip(sentence.as_bytes(), 300)));
    if lines.is_empty() {
        return String::new();
    }
    let mut text = format!("{}\n", paint.yellow("Mind"));
    text.extend(lines.iter().map(|line| format!("  {line}\n")));
    text
}

/// One line a path that a patch does not carry, or not wholly.
fn not_carried(what: &str, paths: &[NotCarried], count: u64) -> Vec<String> {
    let shown = paths.iter().take(IGNORED);
    let words = |word: &str| word.replace('_', " ");
    let mut lines: Vec<String> =
        shown.map(|left| format!("{what}: {} ({}, {})", clip(left.path.path.as_bytes(), 300), words(left.kind), words(left.why))).collect();
    let more = count.saturating_sub(lines.len() as u64);
    if more > 0 {
        lines.push(format!("{what}: {more} more"));
    }
    lines
}

/// New paths that the repository itself does not want to keep.
fn ignored(result: &JobResult) -> String {
    let shown: Vec<&str> = result.ignored.iter().take(IGNORED).map(|path| path.path.as_str()).collect();
    let more = match result.ignored_count.saturating_sub(shown.len() as u64) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("left out, ignored by the repository's own rules: {}{more}", shown.join(" "))
}

fn snapshot_notes(snapshot: &SnapshotSummary) -> Vec<String> {
    let mut notes = Vec::new();
    let mut add = |count: u64, what: &str| {
        if count > 0 {
            notes.push(format!("{count} {what}"));
        }
    };
    add(snapshot.submodule_count, "submodules were sent as empty directories");
    add(snapshot.lfs_pointer_count, "Git LFS files were sent as pointers");
    add(snapshot.left_out_count, "tracked paths were not sent");
    add(snapshot.included_count, "ignored or untracked files were sent, because .worktreeinclude names them");
    add(snapshot.included_secret_named, "of these have a name that usually means a secret");
    add(snapshot.sparse_files, "tracked files are left out by the sparse checkout");
    add(snapshot.unmerged_files, "unmerged files were sent as they lie in the working tree");
    notes
}

fn applies_text(applies: &Applies, paint: Paint) -> String {
    if applies.ok {
        let how = if applies.exact { "applies to your tree as it is" } else { "applies to your tree, which has changed since" };
        return format!("{}\n", paint.green(how));
    }
    let mut text = format!("{}\n", paint.red("does not apply to your tree as it is now"));
    text.extend(applies.conflicts.iter().map(|c| format!("  {}: {}\n", c.path.path, c.why.replace('_', " "))));
    text
}

/// One line a changed file, and their sum.
pub(super) fn files(files: &[FileChange], paint: Paint) -> String {
    let mut text = String::new();
    let (mut plus, mut minus) = (0u64, 0u64);
    for file in files {
        let word = match file.status {
            ChangeStatus::Added => paint.green("added   "),
            ChangeStatus::Modified => "modified".to_owned(),
            ChangeStatus::Deleted => paint.red("deleted "),
            ChangeStatus::Renamed => paint.cyan("renamed "),
            ChangeStatus::ModeChanged => paint.yellow("mode    "),
            ChangeStatus::TypeChanged => paint.yellow("type    "),
        };
        plus = plus.saturating_add(file.additions.unwrap_or(0));
        minus = minus.saturating_add(file.deletions.unwrap_or(0));
        let count = match (file.additions, file.deletions) {
            _ if file.binary => "binary".to_owned(),
            (Some(added), Some(deleted)) => format!("+{added} -{deleted}"),
            _ => String::new(),
        };
        let old = file.old_path.as_ref().map(|old| format!("{} → ", name(&old.path))).unwrap_or_default();
        let modes = match (&file.old_mode, &file.new_mode) {
            (Some(old), Some(new)) if old != new => format!("  ({} → {})", display::line(old.as_bytes()), display::line(new.as_bytes())),
            _ => String::new(),
        };
        text.push_str(&format!("  {word}  {count:>12}  {old}{}{modes}\n", name(&file.path.path)));
    }
    let counted = |count: u64, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    text.push_str(&format!(
        "  {} changed, {} added, {} removed\n",
        counted(files.len() as u64, "file"),
        counted(plus, "line"),
        counted(minus, "line")
    ));
    text
}

/// A path in a line with other things; in quotes where it could be taken for one of them.
fn name(path: &str) -> String {
    let plain = !path.contains(['"', '→']) && !path.contains("  ") && path.trim() == path;
    if plain { path.to_owned() } else { format!("\"{}\"", path.replace('"', "\\\"")) }
}

/// What a reviewer must look at; empty where there is nothing.
pub(super) fn risk(risk: &Risk, paint: Paint) -> String {
    let mut text = String::new();
    for (what, items) in risk.lists() {
        for item in items.iter().take(LISTED) {
            text.push_str(&format!("  {what}: {} ({})\n", clip(item.path.path.as_bytes(), 500), clip(item.note.as_bytes(), 500)));
        }
        if items.len() > LISTED {
            text.push_str(&format!("  {what}: {} more\n", items.len() - LISTED));
        }
    }
    if text.is_empty() { text } else { format!("{}\n{text}", paint.yellow("Look at")) }
}

/// One job, as `status` shows it.
pub(super) fn status(job: &JobStatus, paint: Paint) -> String {
    let mut text = format!("{}  {}\n", state(job.state, paint), display::line(job.detail.as_bytes()));
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("  {name:<10} {value}\n"));
        }
    };
    row("job", job.job_id.to_string());
    row("workspace", path(&job.workspace));
    row(
        "head",
        job.head.as_deref().map(|head| format!("{}{}", clip(head.as_bytes(), 64), if job.dirty { ", with edits" } else { "" })).unwrap_or_default(),
    );
    row("continues", job.continues.as_ref().map(JobId::to_string).unwrap_or_default());
    row("model", job.model.as_deref().map(|model| clip(model.as_bytes(), 80)).unwrap_or_default());
    row("started", job.started_at.clone());
    row("ended", job.ended_at.clone().unwrap_or_default());
    row("took", took(job));
    row("deadline", format!("{} from its turn", duration(Duration::from_secs(job.deadline_seconds))));
    row("queue", job.queue_position.map(|place| format!("place {place}")).unwrap_or_default());
    row("activity", job.untrusted_activity.as_deref().map(|said| clip(said.as_bytes(), 200)).unwrap_or_default());
    row("so far", format!("{} model answers, {} events of Codex", job.answers, job.events_seen));
    row("kept until", job.expires_at.clone().unwrap_or_default());
    text
}

/// How long a job has taken; of an ended one whose end was not asked for it is not known.
fn took(job: &JobStatus) -> String {
    job.elapsed_ms.map_or_else(|| "-".to_owned(), |ms| duration(Duration::from_millis(ms)))
}

/// The list of `jobs`.
pub(super) fn jobs_table(jobs: &[JobStatus], paint: Paint) -> String {
    let head = ["JOB", "STATE", "STARTED", "TOOK", "WORKSPACE", ""].map(str::to_owned);
    let rows: Vec<[String; 6]> = jobs
        .iter()
        .map(|job| {
            let said = job.untrusted_activity.as_deref().filter(|_| !job.state.is_final());
            [
                short(&job.job_id).to_owned(),
                job.state.as_str().to_owned(),
                job.started_at.get(..19).unwrap_or(&job.started_at).replace('T', " "),
                took(job),
                path(&job.workspace),
                match job.queue_position {
                    Some(place) if job.state == JobState::Queued => format!("place {place} in the queue"),
                    _ => clip(said.unwrap_or(&job.detail).as_bytes(), 60),
                },
            ]
        })
        .collect();
    let mut widths = [0usize; 6];
    for row in std::iter::once(&head).chain(&rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; 6]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    let mut text = format!("{}\n", paint.bold(&line(&head)));
    for (row, job) in rows.iter().zip(jobs) {
        // Padding is counted before colours are put in.
        let shown = line(row);
        let word = job.state.as_str();
        text.push_str(&shown.replacen(word, &state(job.state, paint), 1));
        text.push('\n');
    }
    text
}

/// One record of a job's log; `start` is the first record's time.
pub(super) fn progress_line(record: &Progress, start: u64) -> String {
    format!("{:>8}  {}", duration(Duration::from_millis(record.ms.saturating_sub(start))), progress::activity(record))
}

/// A patch for the eye: control characters escaped, colours by what a line is, not by how it looks.
///
/// A removed line `-- x` reads `--- x` and must not pass for a header, so the lines of a hunk are counted.
pub(super) fn patch(bytes: &[u8], paint: Paint) -> String {
    let mut text = String::with_capacity(bytes.len() + bytes.len() / 8);
    let (mut old_left, mut new_left) = (0u64, 0u64);
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let (content, end) = match line.strip_suffix(b"\n") {
            Some(content) => (content, "\n"),
            None => (line, ""),
        };
        let shown = display::page(content);
        let in_hunk = old_left > 0 || new_left > 0;
        let painted = match content.first() {
            Some(b'+') if in_hunk => {
                new_left = new_left.saturating_sub(1);
                paint.green(&shown)
            }
            Some(b'-') if in_hunk => {
                old_left = old_left.saturating_sub(1);
                paint.red(&shown)
            }
            Some(b'\\') => paint.dim(&shown),
            _ if in_hunk => {
                old_left = old_left.saturating_sub(1);
                new_left = new_left.saturating_sub(1);
                shown
            }
            _ if content.starts_with(b"@@ ") => {
                (old_left, new_left) = hunk_lines(&shown).unwrap_or((0, 0));
                paint.cyan(&shown)
            }
            _ => paint.bold(&shown),
        };
        text.push_str(&painted);
        text.push_str(end);
    }
    text
}

/// The two counts of `@@ -a,b +c,d @@`.
fn hunk_lines(header: &str) -> Option<(u64, u64)> {
    let mut words = header.split(' ').skip(1);
    let mut count = |sign: char| -> Option<u64> {
        let range = words.next()?.strip_prefix(sign)?;
        range.split_once(',').map_or(Some(1), |(_, count)| count.parse().ok())
    };
    Some((count('-')?, count('+')?))
}

fn usage(usage: &Usage, source: &str) -> String {
    if usage.total() == 0 {
        return "no tokens counted".to_owned();
    }
    let cached = if usage.cached_input_tokens > 0 { format!(" ({} cached)", usage.cached_input_tokens) } else { String::new() };
    format!("{} tokens in{cached}, {} out by the {source}'s count", usage.input_tokens, usage.output_tokens)
}

fn state(state: JobState, paint: Paint) -> String {
    let word = state.as_str();
    match state {
        JobState::Completed => paint.green(word),
        JobState::Preparing | JobState::Queued | JobState::Running | JobState::Sealing => paint.cyan(word),
        JobState::Cancelled | JobState::Timeout | JobState::Interrupted => paint.yellow(word),
        JobState::Failed | JobState::Lost => paint.red(word),
    }
}

/// The first digits of an id, enough for people to tell jobs apart.
pub(super) fn short(id: &JobId) -> &str {
    id.as_str().get(..12).unwrap_or(id.as_str())
}

fn path(path: &Path) -> String {
    display::line(path.as_os_str().as_encoded_bytes())
}

/// One escaped line of at most `max` characters.
pub(super) fn clip(bytes: &[u8], max: usize) -> String {
    display::clip(bytes.trim_ascii(), max)
}

/// `0.4s`, `12.3s`, `4m05s`, `2h03m`.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..=59 => format!("{seconds}.{}s", time.subsec_millis() / 100),
        60..=3599 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}
