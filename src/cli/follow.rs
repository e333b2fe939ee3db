//! Waiting for a job, with Ctrl-C: the first one cancels the job, the second one stops waiting.

use std::pin::pin;

use super::progress::Reporter;
use crate::error::{Code, Error, Result};
use crate::job::{Begun, Consumed, JobId, JobResult, JobState, JobStatus, Jobs, StartRequest, StartedJob};

/// Starts a job, as [`begin`]; for work that always makes one.
pub(super) async fn start(jobs: &Jobs, request: StartRequest, reporter: &mut Reporter<'_>) -> Result<(StartedJob, bool)> {
    reporter.step("taking a snapshot and creating the cell");
    let (started, pressed) = or_given_up(jobs.start(request), reporter).await?;
    warn(&started, reporter);
    Ok((started, pressed))
}

/// Starts a job where there is something to do; says whether Ctrl-C was pressed. A second Ctrl-C gives up. What a start that was given up
/// leaves behind carries its labels and is swept.
pub(super) async fn begin(jobs: &Jobs, request: StartRequest, reporter: &mut Reporter<'_>) -> Result<(Begun, bool)> {
    reporter.step("finding the change and creating the cell");
    let (begun, pressed) = or_given_up(jobs.begin(request), reporter).await?;
    if let Begun::Job(started) = &begun {
        warn(started, reporter);
    }
    Ok((begun, pressed))
}

/// Says what of the user's own Codex settings the job does not have though they would expect it.
fn warn(started: &StartedJob, reporter: &Reporter<'_>) {
    for sentence in started.status.settings_warnings() {
        reporter.note(&crate::display::line(sentence.as_bytes()));
    }
}

async fn or_given_up<T>(starting: impl Future<Output = Result<T>>, reporter: &mut Reporter<'_>) -> Result<(T, bool)> {
    let mut starting = pin!(starting);
    let mut pressed = false;
    loop {
        tokio::select! {
            started = &mut starting => return Ok((started?, pressed)),
            Ok(()) = tokio::signal::ctrl_c() => {
                if pressed {
                    return Err(Error::new(Code::Interrupted, "interrupted before the job was started")
                        .with_hint("`anchorhold gc` removes what may be left of it"));
                }
                pressed = true;
                reporter.note("cancelling as soon as the cell exists; Ctrl-C again gives up at once");
            }
        }
    }
}

/// Follows a job to its end. `cancel_now`: Ctrl-C was pressed before there was a job.
pub(super) async fn to_the_end(jobs: &Jobs, id: &JobId, cancel_now: bool, reporter: &mut Reporter<'_>) -> Result<JobStatus> {
    let still_there = |e: Error| {
        let hint = format!("the job goes on, or is kept, without this process: `anchorhold status {id}`");
        let hint = e.hint.as_ref().map_or_else(|| hint.clone(), |first| format!("{first}\n{hint}"));
        e.with_hint(hint).with_detail("job_id", id.as_str())
    };
    let (records, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let mut on_record = |record: &crate::protocol::progress::Progress| {
        // The receiver lives as long as this function.
        let _ = records.send(record.clone());
    };
    let mut watching = pin!(jobs.watch(id, &mut on_record));
    let mut cancelling = pin!(jobs.cancel(id));
    let (mut pressed, mut cancelled) = (cancel_now, false);
    loop {
        tokio::select! {
            biased;
            Some(record) = arrived.recv() => reporter.record(&record),
            ended = &mut watching => return ended.map_err(still_there),
            done = &mut cancelling, if pressed && !cancelled => {
                done.map_err(still_there)?;
                cancelled = true;
            }
            Ok(()) = tokio::signal::ctrl_c() => {
                if pressed {
                    let how = if cancelled { "which is being cancelled" } else { "which may go on" };
                    return Err(Error::new(Code::Interrupted, format!("stopped waiting for the job {id}, {how}"))
                        .with_hint(format!("see `anchorhold status {id}`; its partial work is kept"))
                        .with_detail("job_id", id.as_str()));
                }
                pressed = true;
                reporter.note("cancelling the job; its partial work is kept (Ctrl-C again stops waiting)");
            }
        }
    }
}

/// Follows a job that was just started to its end, and gives its result.
pub(super) async fn through(jobs: &Jobs, started: StartedJob, cancel_now: bool, mut reporter: Reporter<'_>) -> Result<JobResult> {
    let id = started.status.job_id;
    let again = if started.replayed { " was there already, by its idempotency key" } else { "" };
    reporter.note(&format!("job {id}{again}"));
    to_the_end(jobs, &id, cancel_now, &mut reporter).await?;
    reporter.step("collecting");
    or_interrupted(&id, result(jobs, &id)).await
}

/// Waits for something about an ended job. Since Ctrl-C was caught before, it has to be caught here too.
pub(super) async fn or_interrupted<T>(id: &JobId, wait: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        done = wait => done.map_err(|e| e.with_detail("job_id", id.as_str())),
        Ok(()) = tokio::signal::ctrl_c() => Err(Error::new(Code::Interrupted, format!("stopped waiting for the result of the job {id}"))
            .with_hint(format!("it is kept: `anchorhold result {id}`"))
            .with_detail("job_id", id.as_str())),
    }
}

/// The result of an ended job. One that died unsealed is being sealed by whoever looks at it, which takes a moment: that is waited for.
pub(super) async fn result(jobs: &Jobs, id: &JobId) -> Result<JobResult> {
    match jobs.result(id).await {
        Err(e) if being_sealed(&e) => {
            jobs.watch(id, &mut |_| {}).await?;
            jobs.result(id).await
        }
        done => done,
    }
}

/// [`result`], once: the job is the caller's to remove or to give back.
pub(super) async fn claim(jobs: &Jobs, id: &JobId) -> Result<Consumed> {
    match jobs.claim(id).await {
        Err(e) if being_sealed(&e) => {
            jobs.watch(id, &mut |_| {}).await?;
            jobs.claim(id).await
        }
        done => done,
    }
}

fn being_sealed(e: &Error) -> bool {
    e.code == Code::JobRunning && e.details.get("state").and_then(|state| state.as_str()) == Some(JobState::Sealing.as_str())
}
