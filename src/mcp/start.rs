//! The tools that start a job: delegations, questions and reviews, awaited or in the background.

use std::pin::pin;
use std::str::FromStr as _;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::arguments::{Arguments, invalid_field};
use super::call::{Answer, Failure, Meta, Reply};
use super::previews::MAX_INPUT_BYTES;
use super::progress::{Reporter, sentence};
use super::server::Call;
use super::tools::{TIMEOUT_SECONDS, ToolName};
use super::workspace::{self, Place};
use super::{findings, render};
use crate::error::{Code, Error, Result};
use crate::job::id::not_found;
use crate::job::{Additions, Begun, Isolation, JobId, JobStatus, StartRequest, StartedJob, Work};
use crate::protocol::progress::Progress;
use crate::protocol::request::JobKind;
use crate::review::{Facts, ReviewScope};
use crate::weaken;
use crate::workspace::{ReviewRequest, Untracked};

/// Between two progress notifications at least.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// What a job may take beyond its deadline for its delivery, its seal and the collection.
const SLACK: Duration = Duration::from_secs(60);

/// What came of a call that starts work.
enum Started {
    /// A job.
    Job(Box<StartedJob>, Meta),
    /// A review of nothing.
    Nothing(Box<Facts>, Meta),
}

/// What a client that takes tasks gets at once.
pub enum TaskAnswer {
    /// The job's status.
    Job(Box<JobStatus>),
    /// There is no job: the whole answer.
    Whole(Reply),
}

/// A tool that returns a handle.
pub async fn in_background(call: &Call<'_>, kind: JobKind) -> Answer {
    match start(call, kind, None).await? {
        Started::Job(started, meta) => {
            let mut value = render::handle(&started.status);
            value.insert("meta".into(), meta.whole().into());
            value.insert("follow_up".into(), render::follow_up(&started.status));
            Ok(Reply::from(render::signed(value)))
        }
        Started::Nothing(facts, meta) => {
            let mut value = findings::nothing(&facts, meta);
            value.extend(render::no_handle(kind));
            Ok(Reply::from(render::signed(value)))
        }
    }
}

/// Any of the tools for a client that takes tasks.
pub async fn as_task(call: &Call<'_>, tool: ToolName, kind: JobKind) -> std::result::Result<TaskAnswer, Box<Failure>> {
    let deadline = tool.waits().then(|| timeout_seconds(call));
    Ok(match start(call, kind, deadline).await? {
        Started::Job(started, _) => TaskAnswer::Job(Box::new(started.status)),
        Started::Nothing(facts, meta) => TaskAnswer::Whole(Reply::from(Value::Object(findings::nothing(&facts, meta)))),
    })
}

fn timeout_seconds(call: &Call<'_>) -> u64 {
    let (least, most, default) = TIMEOUT_SECONDS;
    call.arguments.integer("timeout_seconds").map_or(default, |n| u64::try_from(n).unwrap_or(0).clamp(least, most))
}

/// A tool that waits for its job.
pub async fn awaited(call: &Call<'_>, kind: JobKind) -> Answer {
    let timeout = timeout_seconds(call);
    let (started, meta) = match start(call, kind, Some(timeout)).await? {
        Started::Job(started, meta) => (started, meta),
        Started::Nothing(facts, meta) => return Ok(Reply::from(Value::Object(findings::nothing(&facts, meta)))),
    };
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
async fn start(call: &Call<'_>, kind: JobKind, deadline_seconds: Option<u64>) -> std::result::Result<Started, Box<Failure>> {
    let Asked { request, mut meta, place } = asked(call, kind, deadline_seconds).await?;
    match call.jobs.begin(request).await {
        Ok(Begun::Job(started)) => {
            meta.job(&started.status);
            meta.set("cwd", super::call::shown(&place.path));
            meta.set("idempotency_replayed", started.replayed);
            Ok(Started::Job(Box::new(started), meta))
        }
        Ok(Begun::NothingToReview(facts)) => Ok(Started::Nothing(facts, meta)),
        Err(error) => Err(Failure::with_meta(error, meta)),
    }
}

/// What a call asks for, checked as far as that needs no file.
pub struct Asked {
    /// For the domain.
    pub request: StartRequest,
    /// What is known before a job is made.
    pub meta: Meta,
    /// Where.
    pub place: Place,
}

/// From arguments to a request.
pub async fn asked(call: &Call<'_>, kind: JobKind, deadline_seconds: Option<u64>) -> Result<Asked> {
    let work = work(&call.arguments, kind)?;
    let bound = |name: &str| call.arguments.integer(name).map(refusable);
    let deadline_seconds = deadline_seconds.or_else(|| bound("deadline_seconds"));
    let isolation = call.arguments.text("isolation").and_then(Isolation::parse).unwrap_or_default();
    let place = place(call, &work).await?;
    let owned = |name: &str| call.arguments.text(name).map(ToOwned::to_owned);
    let mut meta = call.meta();
    meta.of_kind(kind);
    meta.place(&place);
    meta.set("isolation", isolation.as_str());
    meta.set("model", owned("model"));
    meta.set("reasoning_effort", owned("reasoning_effort"));
    meta.set("timeout_seconds", deadline_seconds);
    describe(&work, &mut meta);
    let request = StartRequest {
        work,
        workspace_root: place.path.clone(),
        model: owned("model"),
        reasoning_effort: owned("reasoning_effort"),
        isolation,
        deadline_seconds,
        queue_seconds: bound("queue_seconds"),
        idle_seconds: bound("idle_seconds"),
        token_budget: bound("max_tokens"),
        on_behalf: true,
        include_ignored: call.arguments.flag("include_ignored"),
        idempotency_key: owned("idempotency_key"),
        trace: call.trace(),
    };
    Ok(Asked { request, meta, place })
}

/// Which directory it is about; of a job that goes on with another that one's, where the caller names none.
async fn place(call: &Call<'_>, work: &Work) -> Result<Place> {
    let roots = call.roots().await;
    let named = call.arguments.text("workspace_root");
    let Work::Continue { job, .. } = work else { return workspace::resolve(named, &roots, call.own_directory) };
    let before = call.jobs.status(job).await?.workspace;
    match named {
        Some(_) => {
            let place = workspace::resolve(named, &roots, call.own_directory)?;
            if workspace::canonical(&before) == place.path || weaken::off("mcp.continue") { Ok(place) } else { Err(not_found()) }
        }
        None => {
            let path = before.to_str().ok_or_else(|| invalid_field("workspace_root", "is needed: the job's directory has a name that is no text"))?;
            Ok(Place { source: "job", ..workspace::resolve(Some(path), &roots, call.own_directory)? })
        }
    }
}

/// What the arguments ask for.
fn work(arguments: &Arguments, kind: JobKind) -> Result<Work> {
    let owned = |name: &str| arguments.text(name).map(ToOwned::to_owned);
    let more = || Additions { extra_context: owned("extra_context"), developer_instructions: owned("developer_instructions") };
    let words = |name: &'static str| checked_words(name, arguments.text(name).unwrap_or_default()).map(ToOwned::to_owned);
    Ok(match kind {
        JobKind::Delegate => match arguments.text("continue_job_id") {
            Some(id) => Work::Continue { job: JobId::from_str(id)?, task: words("task")? },
            None => Work::Delegate { task: words("task")? },
        },
        JobKind::Consult => Work::Consult { question: words("question")?, more: more() },
        JobKind::Review => {
            let untracked = arguments.text("untracked").and_then(Untracked::parse).unwrap_or_default();
            let paths = arguments.texts("paths").to_vec();
            Work::Review { change: ReviewRequest { paths, untracked, ..ReviewRequest::new(scope(arguments)?) }, more: more() }
        }
    })
}

/// Which change the arguments name.
fn scope(arguments: &Arguments) -> Result<ReviewScope> {
    crate::workspace::review::scope(arguments.text("scope").unwrap_or("working_tree"), arguments.text("base"), arguments.text("commit"))
}

/// What of the work stands in the meta block: of instructions only their digest and size.
fn describe(work: &Work, meta: &mut Meta) {
    let more = match work {
        Work::Delegate { .. } => return,
        Work::Continue { job, .. } => {
            meta.set("continues", job.as_str());
            return;
        }
        Work::Consult { more, .. } => more,
        Work::Review { change, more } => {
            findings::scope(&change.scope, &change.paths, meta);
            more
        }
    };
    if let Some(instructions) = &more.developer_instructions {
        use sha2::Digest as _;
        let sha256 = crate::protocol::manifest::hex(&sha2::Sha256::digest(instructions.as_bytes()));
        meta.set("developer_instructions", json!({"sha256": sha256, "bytes": instructions.len()}));
    }
}

fn checked_words<'a>(field: &'static str, words: &'a str) -> Result<&'a str> {
    if words.trim().is_empty() {
        return Err(invalid_field(field, "must not be blank"));
    }
    if words.len() > MAX_INPUT_BYTES {
        return Err(Error::new(Code::InputTooLarge, format!("{field} has {} bytes; at most {MAX_INPUT_BYTES} are taken", words.len()))
            .with_hint(format!("shorten {field}: name files of the repository instead of quoting them"))
            .with_detail("field", field)
            .with_detail("limit_bytes", MAX_INPUT_BYTES)
            .with_detail("actual_bytes", words.len()));
    }
    Ok(words)
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
        assert_eq!(checked_words("task", " \n\t ").map_err(|e| e.code).unwrap_err(), Code::InvalidArguments);
        assert!(checked_words("task", &"x".repeat(MAX_INPUT_BYTES)).is_ok());
        let error = checked_words("task", &"é".repeat(MAX_INPUT_BYTES / 2 + 1)).unwrap_err();
        assert_eq!(error.code, Code::InputTooLarge);
        assert_eq!(error.details.get("actual_bytes"), Some(&json!(MAX_INPUT_BYTES + 2)));
    }
}
