//! `delegate --attempts`: one task, several jobs on one snapshot, and their patches side by side.

use std::pin::pin;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use serde_json::{Value, json};

use super::output::Output;
use super::progress::{self, Reporter};
use super::{follow, render};
use crate::codex::reported::{ReportedTests, reported_tests};
use crate::display;
use crate::error::{Code, Error, Result};
use crate::job::{JobId, JobResult, Jobs, StartRequest};

/// One attempt and what came of it.
struct Attempt {
    id: JobId,
    result: Result<JobResult>,
}

/// Runs them all to their ends and shows them. 0 where one of them completed.
pub(super) async fn run(out: &Output, jobs: &Jobs, request: StartRequest, attempts: u8) -> Result<u8> {
    let mut reporter = Reporter::new(out, false);
    reporter.step("taking one snapshot for all attempts");
    let (ids, cancel_now) = start(jobs, &request, attempts, &mut reporter).await?;
    for (number, id) in ids.iter().enumerate() {
        reporter.note(&format!("attempt {}: job {id}", number + 1));
    }
    to_the_end(jobs, &ids, cancel_now, &mut reporter).await?;
    reporter.step("collecting");
    let mut ended = Vec::new();
    for id in ids {
        let result = interruptible(async { Ok(follow::result(jobs, &id).await) }).await?;
        ended.push(Attempt { id, result });
    }
    drop(reporter);
    Ok(show(out, &ended))
}

/// Starts the jobs; whether Ctrl-C was pressed. Where one cannot be started, those that were are cancelled.
async fn start(jobs: &Jobs, request: &StartRequest, attempts: u8, reporter: &mut Reporter<'_>) -> Result<(Vec<JobId>, bool)> {
    let snapshot = interruptible(jobs.snapshot(request.clone())).await?;
    let mut ids: Vec<JobId> = Vec::new();
    for number in 1..=attempts {
        reporter.step(&format!("creating cell {number} of {attempts}"));
        // Each attempt is a job of its own under the key, too.
        let idempotency_key = request.idempotency_key.as_ref().map(|key| format!("{key}/{number}"));
        let mut starting = pin!(jobs.start_on(StartRequest { idempotency_key, ..request.clone() }, &snapshot));
        let mut pressed = false;
        let started = loop {
            tokio::select! {
                started = &mut starting => break started,
                Ok(()) = tokio::signal::ctrl_c() => {
                    if pressed {
                        return Err(Error::new(Code::Interrupted, "interrupted before all attempts were started")
                            .with_hint("`anchorhold jobs` lists those that were; `anchorhold gc` removes what is left of the last one")
                            .with_detail("job_ids", ids.iter().map(JobId::as_str).collect::<Vec<_>>()));
                    }
                    pressed = true;
                    reporter.note("cancelling all attempts as soon as this cell exists; Ctrl-C again gives up at once");
                }
            }
        };
        match started {
            Ok(started) => ids.push(started.status.job_id),
            Err(e) => {
                cancel_all(jobs, &ids).await;
                return Err(e.with_detail("job_ids", ids.iter().map(JobId::as_str).collect::<Vec<_>>()));
            }
        }
        if pressed {
            return Ok((ids, true));
        }
    }
    Ok((ids, false))
}

/// Since Ctrl-C is caught elsewhere, it has to be caught here too.
async fn interruptible<T>(wait: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        done = wait => done,
        Ok(()) = tokio::signal::ctrl_c() => {
            Err(Error::new(Code::Interrupted, "interrupted").with_hint("`anchorhold jobs` lists what was started; it is kept"))
        }
    }
}

async fn cancel_all(jobs: &Jobs, ids: &[JobId]) {
    let mut cancelling: FuturesUnordered<_> = ids.iter().map(|id| jobs.cancel(id)).collect();
    while let Some(cancelled) = cancelling.next().await {
        if let Err(e) = cancelled {
            tracing::warn!(error = e.chain(), "an attempt could not be cancelled");
        }
    }
}

/// Follows all jobs until each has ended. The first Ctrl-C cancels all, the second stops waiting.
async fn to_the_end(jobs: &Jobs, ids: &[JobId], cancel_now: bool, reporter: &mut Reporter<'_>) -> Result<()> {
    let (records, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let mut watching: FuturesUnordered<_> = ids
        .iter()
        .enumerate()
        .map(|(number, id)| {
            let records = records.clone();
            async move {
                let mut on_record = |record: &crate::protocol::progress::Progress| {
                    // The receiver lives as long as this function.
                    let _ = records.send((number, progress::activity(record)));
                };
                // How it ended is asked when all have.
                jobs.watch(id, &mut on_record).await
            }
        })
        .collect();
    let mut cancelling = pin!(cancel_all(jobs, ids));
    let (mut pressed, mut cancelled) = (cancel_now, false);
    loop {
        tokio::select! {
            biased;
            Some((number, what)) = arrived.recv() => reporter.step(&format!("attempt {}: {what}", number + 1)),
            ended = watching.next() => if ended.is_none() { return Ok(()) },
            () = &mut cancelling, if pressed && !cancelled => cancelled = true,
            Ok(()) = tokio::signal::ctrl_c() => {
                if pressed {
                    return Err(Error::new(Code::Interrupted, "stopped waiting for the attempts")
                        .with_hint("see `anchorhold jobs`; their work is kept")
                        .with_detail("job_ids", ids.iter().map(JobId::as_str).collect::<Vec<_>>()));
                }
                pressed = true;
                reporter.note("cancelling all attempts; their partial work is kept (Ctrl-C again stops waiting)");
            }
        }
    }
}

/// Why an attempt did not complete.
fn failure(attempt: &Attempt) -> Option<Error> {
    match &attempt.result {
        Ok(result) => result.failure(),
        Err(e) => Some(Error::new(e.code, e.chain())),
    }
}

fn show(out: &Output, attempts: &[Attempt]) -> u8 {
    let failures: Vec<Option<Error>> = attempts.iter().map(failure).collect();
    let failed = if failures.iter().any(Option::is_none) { None } else { failures.iter().flatten().max_by_key(|e| e.code.exit_code()) };
    if out.json() {
        let rows: Vec<Value> =
            attempts.iter().zip(&failures).enumerate().map(|(at, (attempt, failure))| row(at + 1, attempt, failure.as_ref())).collect();
        out.outcome(failed, json!({ "attempts": rows, "untrusted_fields": ["files", "tests", "summary"] }));
    } else {
        out.text(&table(attempts, &failures));
        if let Some(e) = failed {
            out.human_error(e);
        }
    }
    failed.map_or(0, |e| e.code.exit_code())
}

/// Lines added and removed.
fn lines(result: &JobResult) -> (u64, u64) {
    let sum = |of: fn(&crate::workspace::FileChange) -> Option<u64>| result.files.iter().filter_map(of).fold(0u64, u64::saturating_add);
    (sum(|file| file.additions), sum(|file| file.deletions))
}

fn row(number: usize, attempt: &Attempt, failure: Option<&Error>) -> Value {
    let code = failure.map(|e| e.code.as_str());
    let exit_code = failure.map_or(0, |e| e.code.exit_code());
    let Ok(result) = &attempt.result else {
        return json!({ "attempt": number, "job_id": attempt.id, "state": null, "code": code, "exit_code": exit_code });
    };
    let (added, removed) = lines(result);
    let tests = reported_tests(&result.events).map(|tests| {
        json!({ "runs": tests.runs, "passed": tests.passed, "exit_code": tests.exit_code, "command": display::line(tests.command.as_bytes()) })
    });
    json!({
        "attempt": number, "job_id": attempt.id, "state": result.status.state.as_str(), "code": code, "exit_code": exit_code,
        "no_changes": result.no_changes, "patch_bytes": result.patch.as_ref().map(Vec::len), "files_count": result.files.len(),
        "additions": added, "deletions": removed, "files": result.files, "tests": tests, "usage": result.usage, "usage_source": result.usage_source,
        "summary": display::bounded(result.last_message.trim_ascii(), 2_000), "job": result.status,
    })
}

/// What the agent's commands say of tests, in a word.
fn tests_word(tests: Option<&ReportedTests>) -> String {
    match tests {
        None => "unknown".to_owned(),
        Some(ReportedTests { passed: Some(true), .. }) => "passed".to_owned(),
        Some(ReportedTests { exit_code: Some(code), .. }) => format!("failed ({code})"),
        Some(_) => "not ended".to_owned(),
    }
}

fn table(attempts: &[Attempt], failures: &[Option<Error>]) -> String {
    let mut rows = vec![["", "JOB", "STATE", "FILES", "LINES", "PATCH", "TESTS RUN", "TOKENS", "TOOK"].map(str::to_owned)];
    for (number, (attempt, failure)) in attempts.iter().zip(failures).enumerate() {
        let short = render::short(&attempt.id).to_owned();
        let number = (number + 1).to_string();
        rows.push(match &attempt.result {
            Err(e) => [number, short, e.code.as_str().to_owned(), "-".into(), "-".into(), "-".into(), "-".into(), "-".into(), "-".into()],
            Ok(result) => {
                let (added, removed) = lines(result);
                let state = failure
                    .as_ref()
                    .map_or_else(|| result.status.state.as_str().to_owned(), |e| format!("{} ({})", result.status.state.as_str(), e.code));
                let patch = match &result.patch {
                    Some(patch) => format!("{} bytes", patch.len()),
                    None if result.no_changes => "no changes".to_owned(),
                    None => "-".to_owned(),
                };
                let took = result.status.elapsed_ms.map_or_else(|| "-".to_owned(), |ms| render::duration(Duration::from_millis(ms)));
                let tests = tests_word(reported_tests(&result.events).as_ref());
                [
                    number,
                    short,
                    state,
                    result.files.len().to_string(),
                    format!("+{added} -{removed}"),
                    patch,
                    tests,
                    result.usage.total().to_string(),
                    took,
                ]
            }
        });
    }
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..9).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    for (number, attempt) in attempts.iter().enumerate() {
        let Ok(result) = &attempt.result else { continue };
        if !result.files.is_empty() {
            let names: Vec<String> = result.files.iter().take(8).map(|file| render::clip(file.path.path.as_bytes(), 80)).collect();
            let more = if result.files.len() > names.len() { format!(" and {} more", result.files.len() - names.len()) } else { String::new() };
            text.push_str(&format!("\n{}: {}{more}", number + 1, names.join(" ")));
        }
    }
    text.push_str("\n\nTESTS RUN is what the agent's own commands ended with, not a check of ours.\nanchorhold diff JOB · anchorhold apply JOB · anchorhold fetch JOB · anchorhold consume JOB");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_of_tests_is_not_claimed() {
        let tests = |passed, exit_code| ReportedTests { runs: 1, passed, exit_code, command: String::new() };
        assert_eq!(tests_word(None), "unknown");
        assert_eq!(tests_word(Some(&tests(Some(true), Some(0)))), "passed");
        assert_eq!(tests_word(Some(&tests(Some(false), Some(101)))), "failed (101)");
        assert_eq!(tests_word(Some(&tests(None, None))), "not ended");
    }

    #[test]
    fn an_attempt_without_a_result_has_a_row_all_the_same() {
        let attempts = [Attempt { id: "0".repeat(32).parse().unwrap(), result: Err(Error::new(Code::JobLost, "gone")) }];
        let failures: Vec<_> = attempts.iter().map(failure).collect();
        assert!(table(&attempts, &failures).contains("job_lost"));
        assert_eq!(row(1, &attempts[0], failures[0].as_ref())["exit_code"], Code::JobLost.exit_code());
    }
}
