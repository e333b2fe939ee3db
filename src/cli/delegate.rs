//! `delegate`: starts a job, and by default stays until it ends.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::how::{How, Stay};
use super::output::Output;
use super::progress::Reporter;
use super::{attempts, dry_run, follow, render};
use crate::error::{Code, Error, Result};
use crate::job::{Jobs, MAX_ATTEMPTS, StartRequest, Work};
use crate::telemetry::TraceContext;

/// Longest task, in bytes; the same limit as over MCP.
const MAX_TASK: u64 = 200_000;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to do: a text, `-` to read it from standard input, or `@FILE`
    #[arg(value_name = "TASK")]
    task: String,
    /// A directory in a git repository; Codex starts there [default: the current directory]
    #[arg(long, short = 'C', value_name = "DIR")]
    workspace: Option<PathBuf>,
    #[command(flatten)]
    stay: Stay,
    /// Run the task so many times on one snapshot, 1 to 8, and list the patches side by side
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_ATTEMPTS)), default_value_t = 1, conflicts_with_all = ["detach", "diff"])]
    attempts: u8,
    #[command(flatten)]
    how: How,
    /// Also send the ignored and untracked files that the file .worktreeinclude names
    #[arg(long)]
    include_ignored: bool,
    /// Say what would be sent, and send nothing: no job, no cost
    #[arg(long, conflicts_with_all = ["detach", "diff"])]
    dry_run: bool,
}

pub(super) async fn run(out: &Output, jobs: &Jobs, args: Args) -> Result<u8> {
    let work = Work::Delegate { task: task(&args.task, std::io::stdin())? };
    let request = args.how.request(work, workspace(args.workspace.as_deref())?);
    let request = StartRequest { include_ignored: args.include_ignored, ..request };
    if args.dry_run {
        return dry_run::run(out, jobs, request).await;
    }
    if args.attempts > 1 {
        return attempts::run(out, jobs, request, args.attempts).await;
    }
    start(out, jobs, request, &args.stay).await
}

/// Starts it, and stays or does not.
pub(super) async fn start(out: &Output, jobs: &Jobs, request: StartRequest, stay: &Stay) -> Result<u8> {
    if stay.detach { detach(out, jobs, request).await } else { wait(out, jobs, request, stay.diff).await }
}

/// The place in a trace that the environment names, as other tools hand it on.
pub(super) fn trace() -> Option<TraceContext> {
    TraceContext::parse(&std::env::var("TRACEPARENT").ok()?, std::env::var("TRACESTATE").ok().as_deref())
}

async fn detach(out: &Output, jobs: &Jobs, request: StartRequest) -> Result<u8> {
    let started = jobs.start(request).await?;
    let id = started.status.job_id.clone();
    if !out.json() {
        // At once: whoever reads it may already ask for the status.
        out.text(id.as_str());
    }
    // Until the delivery is done this process is what feeds the job.
    jobs.delivered(&id).await.map_err(|e| e.with_detail("job_id", id.as_str()))?;
    if out.json() {
        out.document(json!({ "job_id": id, "replayed": started.replayed, "job": started.status }));
    } else {
        out.note(&format!("follow it with `anchorhold logs -f {id}`, read the result with `anchorhold result {id}`"));
    }
    Ok(0)
}

async fn wait(out: &Output, jobs: &Jobs, request: StartRequest, with_patch: bool) -> Result<u8> {
    let mut reporter = Reporter::new(out, false);
    let (started, cancel_now) = follow::start(jobs, request, &mut reporter).await?;
    let result = follow::through(jobs, started, cancel_now, reporter).await?;
    Ok(render::show_result(out, &result, with_patch, true))
}

/// The task's text from the argument, standard input or a file.
pub(super) fn task(argument: &str, stdin: impl std::io::Read) -> Result<String> {
    let mut bytes = Vec::new();
    let read = match argument {
        "-" => stdin.take(MAX_TASK + 1).read_to_end(&mut bytes),
        _ => match argument.strip_prefix('@') {
            Some(file) => std::fs::File::open(file).and_then(|file| file.take(MAX_TASK + 1).read_to_end(&mut bytes)),
            None => {
                bytes.extend_from_slice(argument.as_bytes());
                Ok(bytes.len())
            }
        },
    };
    read.map_err(|e| {
        Error::new(Code::InvalidArguments, "the task cannot be read")
            .with_hint("name a readable file after @; a task that itself begins with @ goes in by standard input, with -")
            .with_source(e)
    })?;
    if bytes.len() as u64 > MAX_TASK {
        return Err(Error::new(Code::InputTooLarge, format!("the task is longer than {MAX_TASK} bytes"))
            .with_hint("put long material into a tracked file of the repository and refer to it")
            .with_detail("limit_bytes", MAX_TASK));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::new(Code::InvalidArguments, "the task is not UTF-8 text").with_hint("convert it, for example with iconv"))?;
    if text.trim().is_empty() {
        return Err(Error::new(Code::InvalidArguments, "the task is blank").with_hint("say what is to be done"));
    }
    Ok(text)
}

/// An absolute path without links where there is one; whether it is fit for a job is checked by those who use it.
pub(super) fn workspace(named: Option<&Path>) -> Result<PathBuf> {
    let named = named.unwrap_or_else(|| Path::new("."));
    named.canonicalize().or_else(|_| std::path::absolute(named)).map_err(|e| {
        Error::new(Code::InvalidWorkspaceRoot, "the workspace has no absolute path").with_hint("name a directory with --workspace").with_source(e)
    })
}

/// `90`, `90s`, `30m`, `2h`, in seconds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (number, factor) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        _ => (text, 1),
    };
    let parsed = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    parsed.ok_or_else(|| "write seconds, or a number with s, m or h".to_owned())
}
