//! `wait`: stays until jobs have ended, and ends with their outcome.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};

use super::output::Output;
use super::{follow, job_ref};
use crate::error::{Code, Error, Result};
use crate::job::{JobId, JobState, JobStatus, Jobs};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Job ids, or their first digits (at least 4)
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
    /// Until all of them have ended (the default)
    #[arg(long, conflicts_with = "any")]
    all: bool,
    /// Until one of them has ended
    #[arg(long)]
    any: bool,
    /// Wait for so long at most, such as 90s, 30m or 2h; then the exit code is 124
    #[arg(long, value_name = "TIME", value_parser = super::delegate::seconds)]
    timeout: Option<u64>,
}

/// A job that has ended.
struct End {
    id: JobId,
    /// `None`: it is gone.
    status: Option<JobStatus>,
    /// What `result` would end with; `None`: it completed.
    failure: Option<Error>,
}

pub(super) async fn run(out: &Output, jobs: &Jobs, args: &Args) -> Result<u8> {
    let mut ids: Vec<JobId> = Vec::new();
    for text in &args.jobs {
        let id = job_ref::resolve(jobs, text).await?;
        // A name that is none is told before the wait for the others.
        jobs.status(&id).await.map_err(|e| e.with_detail("job_id", id.as_str()))?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let mut ended: Vec<End> = Vec::new();
    let stopped = {
        let mut waiting: FuturesUnordered<_> = ids.iter().map(|id| end(jobs, id)).collect();
        let time_is_up = async {
            match args.timeout {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(time_is_up);
        loop {
            tokio::select! {
                biased;
                Some(end) = waiting.next() => {
                    let end = end?;
                    if !out.json() {
                        out.text(&line(&end));
                    }
                    ended.push(end);
                    if args.any || ended.len() == ids.len() {
                        break None;
                    }
                }
                () = &mut time_is_up => break Some(Error::new(Code::WaitTimeout, format!("{} of {} jobs have not ended", ids.len() - ended.len(), ids.len()))
                    .with_hint("they go on: wait again, or look with `anchorhold jobs`")),
                Ok(()) = tokio::signal::ctrl_c() => break Some(Error::new(Code::Interrupted, "stopped waiting")
                    .with_hint("the jobs go on; `anchorhold cancel JOB` ends one")),
            }
        }
    };
    let rows: Vec<Value> = ended.iter().map(row).collect();
    let waiting: Vec<&str> = ids.iter().filter(|id| ended.iter().all(|end| end.id != **id)).map(JobId::as_str).collect();
    let worst = ended.iter().filter_map(|end| end.failure.as_ref()).max_by_key(|failure| failure.code.exit_code());
    let failure = stopped.as_ref().or(worst);
    if out.json() {
        out.outcome(failure, json!({ "jobs": rows, "waiting": waiting }));
    } else if let Some(stopped) = &stopped {
        out.human_error(stopped);
    }
    Ok(failure.map_or(0, |failure| failure.code.exit_code()))
}

/// Waits for a job's end and says how `result` would end.
async fn end(jobs: &Jobs, id: &JobId) -> Result<End> {
    let gone = |e: Error| match e.code {
        // It was consumed or removed meanwhile, which is an outcome.
        Code::JobNotFound => Ok(End { id: id.clone(), status: None, failure: Some(e) }),
        _ => Err(e.with_detail("job_id", id.as_str())),
    };
    let status = match jobs.ended(id).await {
        Ok(status) => status,
        Err(e) => return gone(e),
    };
    let failure = match status.state {
        JobState::Completed => None,
        // Why a job failed stands in its result.
        _ => follow::result(jobs, id).await.map_or_else(Some, |result| result.failure()),
    };
    Ok(End { id: id.clone(), status: Some(status), failure })
}

fn line(end: &End) -> String {
    let state = end.status.as_ref().map_or("gone", |status| status.state.as_str());
    match &end.failure {
        None => format!("{} {state}", end.id),
        Some(failure) => format!("{} {state} {}", end.id, failure.code),
    }
}

fn row(end: &End) -> Value {
    json!({
        "job_id": end.id,
        "state": end.status.as_ref().map(|status| status.state.as_str()),
        "code": end.failure.as_ref().map(|failure| failure.code.as_str()),
        "exit_code": end.failure.as_ref().map_or(0, |failure| failure.code.exit_code()),
        "job": end.status,
    })
}
