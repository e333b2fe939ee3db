//! `logs`: the progress records of a job, or the events that Codex wrote.

use serde_json::{Value, json};

use super::args::JobArg;
use super::output::{Output, error_value};
use super::{follow, job_ref, render};
use crate::error::Result;
use crate::job::{JobId, Jobs};
use crate::protocol::progress::Progress;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    job: JobArg,
    /// Go on until the job ends; with --json one record a line
    #[arg(long, short)]
    follow: bool,
    /// The events that Codex wrote (JSON lines, bounded), once the job has ended
    #[arg(long, conflicts_with = "follow")]
    events: bool,
}

pub(super) async fn run(out: &Output, jobs: &Jobs, args: &Args) -> Result<u8> {
    let id = job_ref::resolve(jobs, &args.job.job).await?;
    if args.events {
        return events(out, &follow::result(jobs, &id).await?.events);
    }
    if args.follow {
        return watch(out, jobs, &id).await;
    }
    let records = jobs.log(&id).await?;
    if out.json() {
        out.document(json!({ "job_id": id, "records": records.iter().map(value).collect::<Vec<_>>() }));
    } else {
        let start = records.first().map_or(0, |record| record.ms);
        out.text(&records.iter().map(|record| render::progress_line(record, start) + "\n").collect::<String>());
    }
    Ok(0)
}

/// Ends by the job's end, when nobody reads any more, or by Ctrl-C in the ordinary way: there is nothing to tidy up.
async fn watch(out: &Output, jobs: &Jobs, id: &JobId) -> Result<u8> {
    let unread = tokio::sync::Notify::new();
    let mut first = None;
    let mut show = |record: &Progress| {
        let shown =
            if out.json() { out.json_line(&value(record)) } else { out.text(&render::progress_line(record, *first.get_or_insert(record.ms))) };
        if !shown {
            unread.notify_one();
        }
    };
    let ended = tokio::select! {
        ended = jobs.watch(id, &mut show) => ended,
        () = unread.notified() => return Ok(0),
    };
    match ended {
        Ok(_) => Ok(0),
        // The stream has lines: its error is one, too.
        Err(e) if out.json() => {
            out.json_line(&json!({ "ok": false, "error": error_value(&e) }));
            Ok(e.code.exit_code())
        }
        Err(e) => Err(e),
    }
}

/// A record for JSON, its message escaped.
fn value(record: &Progress) -> Value {
    let mut record = record.clone();
    record.message = record.message.map(|message| crate::display::line(message.as_bytes()));
    serde_json::to_value(record).unwrap_or_default()
}

fn events(out: &Output, events: &[u8]) -> Result<u8> {
    if out.json() {
        let shown = crate::display::json_lines(events);
        let parsed: Vec<Value> = shown.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        out.document(json!({ "untrusted_events": parsed }));
    } else if out.is_terminal() {
        out.text(&crate::display::page(events));
    } else {
        out.bytes(events);
    }
    Ok(0)
}
