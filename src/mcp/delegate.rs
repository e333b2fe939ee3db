//! The two tools that start a job.

use std::pin::pin;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::arguments::invalid_field;
use super::call::{Answer, Failure, Meta, Reply};
use super::progress::{Reporter, sentence};
use super::render;
use super::server::Call;
use super::tools::{TIMEOUT_SECONDS, ToolName};
use super::workspace::{self, Place};
use crate::error::{Code, Error, Result};
use crate::job::{DelegateRequest, Isolation, JobId, JobStatus, StartedJob};
use crate::protocol::progress::Progress;

/// Longest task, in bytes.
const MAX_TASK_BYTES: usize = 200_000;
/// Between two progress notifications at least.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// What a job may take beyond its deadline for its delivery, its seal and the collection.
const SLACK: Duration = Duration::from_secs(60);

/// `codex_delegate_async`.
pub async fn delegate_async(call: &Call<'_>) -> Answer {
    let (started, meta) = start(call, None).await?;
    let mut value = render::handle(&started.status);
    value.insert("meta".into(), meta.whole().into());
    value.insert("follow_up".into(), render::follow_up(&started.status));
    Ok(Reply::from(render::signed(value)))
}

/// Either tool for a client that takes tasks: the job's status, at once.
pub async fn as_task(call: &Call<'_>, tool: ToolName) -> std::result::Result<JobStatus, Box<Failure>> {
    let deadline = (tool == ToolName::Delegate).then(|| timeout_seconds(call));
    start(call, deadline).await.map(|(started, _)| started.status)
}

fn timeout_seconds(call: &Call<'_>) -> u64 {
    let (least, most, default) = TIMEOUT_SECONDS;
    call.arguments.integer("timeout_seconds").map_or(default, |n| u64::try_from(n).unwrap_or(0).clamp(least, most))
}

/// `codex_delegate`: the same job, awaited.
pub async fn delegate(call: &Call<'_>) -> Answer {
    let timeout = timeout_seconds(call);
    let (started, meta) = start(call, Some(timeout)).await?;
    let id = started.status.job_id.clone();
    let limit = Instant::now() + Duration::from_secs(timeout) + SLACK;
    match follow(call, &id, limit).await {
        Ok(true) => {}
        Ok(false) => return Err(still_running(call, &id, meta).await),
        Err(error) => return Err(Failure::with_meta(error.with_detail("job_id", id.as_str()), meta)),
    }
    let full = call.arguments.text("detail") == Some("full");
    match call.jobs.result(&id).await {
        Ok(result) => render::answer(&result, full, meta, render::Keep::Stored),
        Err(error) => Err(Failure::with_meta(error.with_detail("job_id", id.as_str()), meta)),
    }
}

/// A number for the domain to judge: a negative one becomes one that no bound admits.
fn refusable(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Checks the arguments and starts the job.
async fn start(call: &Call<'_>, deadline_seconds: Option<u64>) -> std::result::Result<(StartedJob, Meta), Box<Failure>> {
    let task = checked_task(call.arguments.text("task").unwrap_or_default())?;
    let bound = |name: &str| call.arguments.integer(name).map(refusable);
    let isolation = call.arguments.text("isolation").and_then(Isolation::parse).unwrap_or_default();
    let place: Place = workspace::resolve(call.arguments.text("workspace_root"), &call.roots().await, call.own_directory)?;
    let owned = |name: &str| call.arguments.text(name).map(ToOwned::to_owned);
    let request = DelegateRequest {
        task: task.to_owned(),
        workspace_root: place.path.clone(),
        model: owned("model"),
        reasoning_effort: owned("reasoning_effort"),
        isolation,
        deadline_seconds: deadline_seconds.or(bound("deadline_seconds")),
        queue_seconds: bound("queue_seconds"),
        idle_seconds: bound("idle_seconds"),
        token_budget: bound("max_tokens"),
        on_behalf: true,
        idempotency_key: owned("idempotency_key"),
        trace: call.trace(),
    };
    let mut meta = call.meta();
    meta.place(&place);
    meta.set("isolation", isolation.as_str());
    meta.set("model", request.model.clone());
    meta.set("reasoning_effort", request.reasoning_effort.clone());
    meta.set("timeout_seconds", request.deadline_seconds);
    match call.jobs.start(request).await {
        Ok(started) => {
            meta.job(&started.status);
            meta.set("cwd", super::call::shown(&place.path));
            meta.set("idempotency_replayed", started.replayed);
            Ok((started, meta))
        }
        Err(error) => Err(Failure::with_meta(error, meta)),
    }
}

fn checked_task(task: &str) -> Result<&str> {
    if task.trim().is_empty() {
        return Err(invalid_field("task", "must not be blank"));
    }
    if task.len() > MAX_TASK_BYTES {
        return Err(Error::new(Code::InputTooLarge, format!("the task has {} bytes; at most {MAX_TASK_BYTES} are taken", task.len()))
            .with_hint("shorten the task: name files of the repository instead of quoting them")
            .with_detail("field", "task")
            .with_detail("limit_bytes", MAX_TASK_BYTES)
            .with_detail("actual_bytes", task.len()));
    }
    Ok(task)
}

/// Follows the job to its end and says so on the way; `false` when the time is up or the client is gone before the job ends.
async fn follow(call: &Call<'_>, id: &JobId, limit: Instant) -> Result<bool> {
    let (seen, mut news) = tokio::sync::watch::channel(None::<String>);
    let mut on_progress = |progress: &Progress| {
        seen.send_replace(Some(sentence(progress)));
    };
    let mut watching = pin!(async {
        call.jobs.delivered(id).await?;
        call.jobs.watch(id, &mut on_progress).await
    });
    let mut reporter = Reporter::new(call);
    let mut tick = tokio::time::interval(PROGRESS_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // The end goes before a tick, so that no notification follows it.
            biased;
            end = &mut watching => return end.map(|status: JobStatus| status.state.is_final()),
            // A cancelled call or a closed client leaves the job as it is.
            () = call.context.ct.cancelled() => return Ok(false),
            () = call.closed.cancelled() => return Ok(false),
            () = tokio::time::sleep_until(limit) => return Ok(false),
            _ = tick.tick(), if reporter.listens() => {
                let message = if news.has_changed().unwrap_or(false) { news.borrow_and_update().clone() } else { None };
                reporter.report(message).await;
            }
        }
    }
}

/// The answer to a call that ends before its job.
async fn still_running(call: &Call<'_>, id: &JobId, mut meta: Meta) -> Box<Failure> {
    let mut error = Error::new(Code::JobRunning, "the job has not ended within this call; it goes on")
        .with_hint(format!("poll {} with this job_id, then call {}", ToolName::JobStatus.as_str(), ToolName::JobResult.as_str()))
        .with_detail("job_id", id.as_str());
    if let Ok(status) = call.jobs.status(id).await {
        error = error.with_retry_after_ms(status.poll_after_ms).with_detail("state", status.state.as_str());
        error = error.with_detail("queue_position", json!(status.queue_position));
        meta.job(&status);
    }
    Failure::with_meta(error, meta)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_neither_blank_nor_too_long() {
        assert_eq!(checked_task(" \n\t ").map_err(|e| e.code).unwrap_err(), Code::InvalidArguments);
        assert!(checked_task(&"x".repeat(MAX_TASK_BYTES)).is_ok());
        let error = checked_task(&"é".repeat(MAX_TASK_BYTES / 2 + 1)).unwrap_err();
        assert_eq!(error.code, Code::InputTooLarge);
        assert_eq!(error.details.get("actual_bytes"), Some(&json!(MAX_TASK_BYTES + 2)));
    }
}
