//! The tools that look at, end, read and remove jobs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::call::{Answer, Failure, Reply, shown};
use super::progress;
use super::render::{self, Keep};
use super::server::Call;
use super::workspace::{Roots, canonical, resolve};
use crate::error::{Code, Error, Result};
use crate::job::{JobId, JobState, JobStatus, ListFilter, id::not_found};

/// Largest patch that a consumed job's answer can embed, in bytes: clients drop lines of the protocol over 16 MiB, and base64 adds a third.
const MAX_EMBEDDED: usize = 8 << 20;
/// Rows of a list where the caller names no limit.
const DEFAULT_ROWS: usize = 100;

/// `codex_job_status`.
pub async fn status(call: &Call<'_>) -> Answer {
    let id = wanted(call).await?;
    let within = call.arguments.integer("wait_seconds").and_then(|n| u64::try_from(n).ok()).map_or(Duration::ZERO, Duration::from_secs);
    let since = call.arguments.text("since_state").and_then(JobState::parse);
    let status = progress::while_waiting(call, call.jobs.changed(&id, since, within), || call.jobs.status(&id)).await?;
    Ok(described(call, &status))
}

/// `codex_job_cancel`.
pub async fn cancel(call: &Call<'_>) -> Answer {
    let status = call.jobs.cancel(&wanted(call).await?).await?;
    Ok(described(call, &status))
}

/// `codex_job_result`.
pub async fn result(call: &Call<'_>) -> Answer {
    let id = wanted(call).await?;
    let result = call.jobs.result(&id).await.map_err(|error| named(error, &id))?;
    render::answer(&result, full(call), call.meta(), Keep::Stored)
}

/// `codex_job_consume_result`.
pub async fn consume(call: &Call<'_>) -> Answer {
    let id = wanted(call).await?;
    let (claimed, result) = call.jobs.claim(&id).await.map_err(|error| named(error, &id))?;
    // Nothing is removed that the answer cannot hold.
    if let Ok(result) = &result
        && let Some(bytes) = result.patch.as_deref().map(<[u8]>::len).filter(|bytes| *bytes > MAX_EMBEDDED)
    {
        call.jobs.give_back(claimed).await?;
        let mut meta = call.meta();
        meta.job(&result.status);
        let error = Error::new(Code::Unsupported, format!("the patch has {bytes} bytes, too many for one answer; the job was left as it is"))
            .with_hint("read the job's diff resource or run `anchorhold diff`, then remove the job with `anchorhold consume`")
            .with_detail("job_id", id.as_str())
            .with_detail("limit_bytes", MAX_EMBEDDED)
            .with_detail("actual_bytes", bytes);
        return Err(Failure::with_meta(error, meta));
    }
    let answer = match result {
        Ok(result) => render::answer(&result, full(call), call.meta(), Keep::Consumed),
        Err(error) => Err(named(error, &id).into()),
    };
    // The answer is made and goes to the transport next. Whether it arrives there is no knowing.
    if let Err(e) = call.jobs.finish_consume_soon(claimed).await {
        tracing::warn!(job_id = %id, error = e.chain(), "a job whose result was given away could not be removed and is kept");
    }
    answer
}

/// `codex_job_list`.
pub async fn list(call: &Call<'_>) -> Answer {
    let roots = call.roots().await;
    let place = match call.arguments.text("workspace_root") {
        Some(text) => Some(resolve(Some(text), &roots, call.own_directory)?),
        None => None,
    };
    let filter = ListFilter { workspace: None, status_word: call.arguments.text("status").map(ToOwned::to_owned) };
    let scope: Vec<_> = roots.directories().iter().map(|root| canonical(root)).collect();
    let mut found = call.jobs.list(&filter).await?;
    // Hundreds of jobs lie in a few directories, and each question costs a walk down its path.
    let mut wanted: HashMap<PathBuf, bool> = HashMap::new();
    found.retain(|job| {
        call.reach.sees(&job.workspace)
            && *wanted.entry(job.workspace.clone()).or_insert_with_key(|workspace| match &place {
                Some(place) => canonical(workspace) == place.path,
                None => scope.is_empty() || scope.iter().any(|root| canonical(workspace).starts_with(root)),
            })
    });
    let most = call.arguments.integer("limit").and_then(|n| usize::try_from(n).ok()).unwrap_or(DEFAULT_ROWS);
    let truncated = found.len() > most;
    let rows: Vec<Value> = found.iter().take(most).map(render::row).collect();
    let mut value = Map::new();
    value.insert("ok".into(), json!(true));
    value.insert("jobs".into(), Value::Array(rows));
    value.insert("workspace".into(), scope_block(place.as_ref().map(|place| shown(&place.path)), &roots));
    value.insert("truncated".into(), json!(truncated));
    let hint = truncated.then(|| format!("{} of {} jobs; raise limit or filter by status or workspace_root", most, found.len()));
    value.insert("truncation_hint".into(), json!(hint));
    Ok(Reply::from(render::signed(value)))
}

fn scope_block(param: Option<String>, roots: &Roots) -> Value {
    let (source, warning) = match (&param, roots.directories().is_empty()) {
        (Some(_), _) => ("param", None),
        (None, false) => ("roots", None),
        (None, true) => ("all", Some("jobs of every workspace of this instance; pass workspace_root for one")),
    };
    let cwd = param.or_else(|| roots.directories().first().map(|root| shown(root)));
    json!({"cwd": cwd, "workspace_source": source, "workspace_warning": warning})
}

fn described(call: &Call<'_>, status: &JobStatus) -> Reply {
    let mut value = render::status(status);
    let source = call.arguments.text("workspace_root").map(|_| "param");
    value.insert("workspace".into(), json!({"cwd": shown(&status.workspace), "workspace_source": source, "workspace_warning": null}));
    Reply::from(render::signed(value))
}

fn full(call: &Call<'_>) -> bool {
    call.arguments.text("detail") == Some("full")
}

/// The job that the arguments name; one of another workspace is as unknown as one that never was.
async fn wanted(call: &Call<'_>) -> Result<JobId> {
    let id = JobId::from_str(call.arguments.text("job_id").unwrap_or_default())?;
    if let Some(text) = call.arguments.text("workspace_root") {
        let place = resolve(Some(text), &call.roots().await, call.own_directory)?;
        if canonical(&call.jobs.status(&id).await?.workspace) != place.path {
            return Err(not_found());
        }
    }
    Ok(id)
}

/// Puts the id into an error, so that its repair can name the next call.
fn named(error: Error, id: &JobId) -> Error {
    if error.code == Code::JobRunning { error.with_detail("job_id", id.as_str()) } else { error }
}
