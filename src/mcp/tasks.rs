//! The tasks extension (`io.modelcontextprotocol/tasks`, 2026-07-28) as a second view of the same jobs.
//!
//! A task's id is its job's. Nothing is kept here: any process answers for any job, and jobs that were started otherwise are tasks too. Only a client that
//! declares the extension gets a task instead of a result.

use std::str::FromStr as _;

use rmcp::ErrorData;
use rmcp::model::{CreateTaskResult, DetailedTask, GetTaskResult, JsonObject, Task, TaskPayload, TaskStatus};
use serde_json::Value;

use super::call::{self, Answer, Failure, Meta};
use super::render::{self, Keep};
use super::resources::protocol_error;
use super::tools::ToolName;
use crate::error::{Code, Error, Result};
use crate::job::{JobId, JobState, JobStatus, Jobs};

/// The handle that stands for the answer of a call that has started a job.
pub fn handle(status: &JobStatus) -> CreateTaskResult {
    CreateTaskResult::new(task(status))
}

/// `tasks/get`: where the job stands; the tool's result once it has ended.
///
/// # Errors
///
/// No such job, or the engine gives errors.
pub async fn get(jobs: &Jobs, task_id: &str, request_id: &str) -> std::result::Result<GetTaskResult, ErrorData> {
    let detailed = async {
        let id = JobId::from_str(task_id)?;
        let status = jobs.status(&id).await?;
        let payload = match task_status(status.state) {
            TaskStatus::Working => TaskPayload::Working,
            TaskStatus::Cancelled => TaskPayload::Cancelled,
            _ => match answer(jobs, &id, ToolName::of(status.kind), request_id).await? {
                Some(result) => TaskPayload::Completed { result },
                None => TaskPayload::Working,
            },
        };
        Ok(DetailedTask::new(task(&status), payload))
    };
    detailed.await.map(GetTaskResult::new).map_err(|e| refused(&e))
}

/// `tasks/update`: no task of ours ever asks for anything, so whatever is sent answers nothing and is ignored.
///
/// # Errors
///
/// No such job, or the engine gives errors.
pub async fn update(jobs: &Jobs, task_id: &str) -> std::result::Result<(), ErrorData> {
    let known = async { jobs.status(&JobId::from_str(task_id)?).await.map(drop) };
    known.await.map_err(|e| refused(&e))
}

/// `tasks/cancel`: as `codex_job_cancel`.
///
/// # Errors
///
/// No such job, or the engine gives errors.
pub async fn cancel(jobs: &Jobs, task_id: &str) -> std::result::Result<(), ErrorData> {
    let cancelled = async { jobs.cancel(&JobId::from_str(task_id)?).await.map(drop) };
    cancelled.await.map_err(|e| refused(&e))
}

/// An error as this extension tells it.
pub fn refused(error: &Error) -> ErrorData {
    match error.code {
        // A task that is not there is a wrong parameter, not a missing resource.
        Code::JobNotFound => ErrorData::invalid_params("no such task: unknown, consumed or expired", None),
        _ => protocol_error(error),
    }
}

/// What the tool would have answered; `None`: it has not ended after all. A job that ended badly is a result too, with `isError`.
async fn answer(jobs: &Jobs, id: &JobId, tool: ToolName, request_id: &str) -> Result<Option<JsonObject>> {
    let answer: Answer = match jobs.result(id).await {
        Ok(result) => render::answer(&result, false, Meta::new(request_id), Keep::Stored),
        Err(e) if e.code == Code::JobRunning => return Ok(None),
        // The job's own end, which the tool tells as an error.
        Err(e) if e.details.contains_key("never_ran") => Err(Failure::with_meta(e.with_detail("job_id", id.as_str()), Meta::new(request_id))),
        Err(e) => return Err(e),
    };
    match serde_json::to_value(call::to_result(answer, tool, request_id)) {
        Ok(Value::Object(result)) => Ok(Some(result)),
        _ => Err(Error::internal("write the task's result")),
    }
}

/// The extension's word for a state. Its `failed` is for protocol errors alone: a job that ended badly has a result that says so, and is `completed`.
fn task_status(state: JobState) -> TaskStatus {
    match state {
        JobState::Preparing | JobState::Queued | JobState::Running | JobState::Sealing => TaskStatus::Working,
        JobState::Completed | JobState::Failed | JobState::Timeout | JobState::Interrupted | JobState::Lost => TaskStatus::Completed,
        JobState::Cancelled => TaskStatus::Cancelled,
    }
}

fn task(status: &JobStatus) -> Task {
    let updated = status.ended_at.as_ref().or(status.last_event_at.as_ref()).unwrap_or(&status.started_at);
    // Counted from the start; as long as it has not ended, it is kept for at least so long.
    let ttl_ms = status.elapsed_ms.unwrap_or(0).saturating_add(status.ttl_seconds.saturating_mul(1000));
    Task::new(status.job_id.as_str(), task_status(status.state), &status.started_at, updated)
        .with_status_message(message(status))
        .with_ttl_ms(ttl_ms)
        .with_poll_interval_ms(status.poll_after_ms)
}

/// Sentences of ours alone.
fn message(status: &JobStatus) -> String {
    let more = match status.state {
        JobState::Cancelled => format!(" {} has its partial work.", ToolName::JobResult.as_str()),
        JobState::Queued => status.queue_position.map(|position| format!(" Position {position}.")).unwrap_or_default(),
        _ => String::new(),
    };
    format!("{}: {}{more}", status.state.as_str(), crate::display::clip(status.detail.as_bytes(), 500))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_end_is_a_result_and_nothing_ever_asks() {
        let words: Vec<TaskStatus> = JobState::WORDS.iter().map(|word| task_status(JobState::parse(word).unwrap())).collect();
        assert_eq!(words.iter().filter(|word| **word == TaskStatus::Working).count(), 4);
        assert_eq!(words.iter().filter(|word| **word == TaskStatus::Cancelled).count(), 1);
        assert_eq!(words.iter().filter(|word| **word == TaskStatus::Completed).count(), 5);
        assert_eq!(refused(&crate::job::id::not_found()).code, rmcp::model::ErrorCode::INVALID_PARAMS);
    }
}
