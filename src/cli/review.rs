//! `review`: has a change looked at, reports in the forms that were asked for, and ends with an exit code that a pipeline can rest on.

use std::path::PathBuf;

use serde_json::json;

use super::how::How;
use super::output::Output;
use super::progress::Reporter;
use super::reports::{self, FailOn, Report, Reports};
use super::{delegate, dry_run, follow};
use crate::error::{Code, Error, Result};
use crate::job::{Additions, Begun, JobId, JobResult, Jobs, StartRequest, Work};
use crate::protocol::result::{Reason, Usage};
use crate::review::format::{Context, Format, json as json_form};
use crate::review::{Facts, Review, ReviewScope, Verdict};
use crate::workspace::{ReviewRequest, Untracked};

/// Words of `--untracked`.
const UNTRACKED: [&str; 3] = ["explicit_only", "include", "exclude"];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What HEAD has that this branch, tag or commit has not: REF...HEAD
    #[arg(long, value_name = "REF", group = "scope")]
    base: Option<String>,
    /// One commit against its first parent
    #[arg(long, value_name = "REF", group = "scope")]
    commit: Option<String>,
    /// What the working tree has that HEAD has not (the default)
    #[arg(long, group = "scope")]
    working_tree: bool,
    /// Review only these files and directories, relative to the workspace; the reviewer still sees the others
    #[arg(long, value_name = "PATH", num_args = 1..)]
    paths: Vec<String>,
    /// Untracked files of the working tree: those that --paths names, all that are not ignored, or none
    #[arg(long, value_name = "POLICY", value_parser = UNTRACKED, default_value = "explicit_only")]
    untracked: String,
    #[command(flatten)]
    reports: Reports,
    /// Exit with 20 where a finding is so bad or worse: critical, high, medium, low, nit; none: never
    #[arg(long, value_name = "SEVERITY", value_parser = FailOn::parse, default_value = "high")]
    fail_on: FailOn,
    /// What the reviewer should know and the repository does not say: a text or @FILE
    #[arg(long, value_name = "TEXT|@FILE")]
    context: Option<String>,
    /// Keep the job after its reports are written; a partial review's job is always kept
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    run: RunArgs,
}

/// How a job runs that is not a delegation.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// A directory in a git repository [default: the current directory]
    #[arg(long, short = 'C', value_name = "DIR")]
    workspace: Option<PathBuf>,
    #[command(flatten)]
    pub(super) how: How,
    /// Also send the ignored and untracked files that the file .worktreeinclude names; of commits, the base's
    #[arg(long)]
    include_ignored: bool,
    /// Say what would be sent, and send nothing: no job, no report, no cost
    #[arg(long, conflicts_with_all = ["format", "output"])]
    pub(super) dry_run: bool,
}

impl RunArgs {
    pub(super) fn request(self, work: Work) -> Result<StartRequest> {
        let request = self.how.request(work, delegate::workspace(self.workspace.as_deref())?);
        Ok(StartRequest { include_ignored: self.include_ignored, ..request })
    }
}

pub(super) async fn run(out: &Output, jobs: &Jobs, args: Args) -> Result<u8> {
    // Whatever can fail for free fails before a token is spent.
    let reports = args.reports.checked(out.json(), &Format::ALL)?;
    let keep = args.keep || args.run.how.idempotency_key.is_some();
    let scope = match (args.base, args.commit) {
        (Some(base), _) => ReviewScope::Branch { base },
        (None, Some(commit)) => ReviewScope::Commit { commit },
        (None, None) => ReviewScope::WorkingTree,
    };
    let untracked = Untracked::parse(&args.untracked).unwrap_or_default();
    let change = ReviewRequest { paths: args.paths, untracked, ..ReviewRequest::new(scope) };
    let more = Additions { extra_context: args.context.as_deref().map(added).transpose()?, ..Additions::default() };
    let model = args.run.how.model.clone();
    let dry = args.run.dry_run;
    let request = args.run.request(Work::Review { change, more })?;
    if dry {
        return dry_run::run(out, jobs, request).await;
    }

    let mut reporter = Reporter::new(out, false);
    let (begun, cancel_now) = follow::begin(jobs, request, &mut reporter).await?;
    let started = match begun {
        Begun::Job(started) => started,
        Begun::NothingToReview(facts) => {
            drop(reporter);
            let context = reports::context(out, args.fail_on.0);
            let review = nothing(*facts, model);
            let written = reports::write(out, &reports, &review, &context)?;
            document(out, None, &review, &context, &written, None);
            return Ok(0);
        }
    };
    let result = follow::through(jobs, started, cancel_now, reporter).await?;
    let id = result.status.job_id.clone();
    let (code, written) = report(out, &result, &reports, args.fail_on, false)?;
    let whole = result.review.as_ref().is_some_and(|review| !review.partial);
    if keep || !whole || !written {
        // Of a partial one this was said with the reason.
        if whole {
            out.note(&format!("the job is kept: `{}` writes the reports again", again_command(&id, &reports)));
        }
        return Ok(code);
    }
    // Only now, when everything is where it was wanted.
    let (claimed, _) = follow::claim(jobs, &id).await?;
    jobs.finish_consume(claimed).await?;
    Ok(code)
}

/// Writes what a review's job found. Gives the exit code, and whether all of it was written.
pub(super) fn report(out: &Output, result: &JobResult, reports: &[Report], fail_on: FailOn, kept: bool) -> Result<(u8, bool)> {
    let id = &result.status.job_id;
    let Some(review) = &result.review else {
        let e = result.failure().unwrap_or_else(|| Error::new(Code::JobLost, "nothing can be said about this review"));
        return Err(e.with_detail("job_id", id.as_str()));
    };
    let context = reports::context(out, fail_on.0);
    let mut outcome = outcome(review, result.failure(), fail_on);
    if review.partial
        && !kept
        && let Some(e) = &mut outcome
    {
        let again = format!("the job is kept: `{}` writes the reports again", again_command(id, reports));
        e.hint = Some(e.hint.as_ref().map_or_else(|| again.clone(), |hint| format!("{hint}\n{again}")));
    }
    let written = reports::write(out, reports, review, &context).map_err(|e| {
        e.with_hint(format!("nothing is lost: the job {id} is kept, and `{}` writes its reports again", again_command(id, reports)))
            .with_detail("job_id", id.as_str())
    })?;
    document(out, Some((id, kept)), review, &context, &written, outcome.as_ref());
    if let Some(e) = outcome.as_ref().filter(|_| !out.json()) {
        out.human_error(e);
    }
    Ok((outcome.map_or(0, |e| e.code.exit_code()), out.arrived()))
}

/// How the review ends: `None` where it is whole and nothing reaches the threshold.
fn outcome(review: &Review, failure: Option<Error>, fail_on: FailOn) -> Option<Error> {
    let reaching = fail_on.0.map_or(0, |threshold| review.reaching(threshold).count());
    if review.partial {
        let mind = match review.reason {
            Reason::TokenBudget => "give it more tokens with --max-tokens, or review less at once with --paths",
            Reason::Deadline => "give it more time with --deadline, or review less at once with --paths",
            _ => "there may be more to find: run it again",
        };
        let why = if review.reason == Reason::Completed { "its answer was not whole" } else { review.reason.as_str() };
        let partial = || {
            let message = format!("the review is partial ({why}); found so far: {}, of these at the threshold: {reaching}", review.findings.len());
            Error::new(Code::ReviewPartial, message).with_hint(mind)
        };
        // Without a finding there is nothing but the reason.
        return Some(if review.findings.is_empty() { failure.unwrap_or_else(partial) } else { partial() });
    }
    if failure.is_some() {
        return failure;
    }
    let threshold = fail_on.0?;
    let counted = if reaching == 1 { "1 finding is".to_owned() } else { format!("{reaching} findings are") };
    (reaching > 0).then(|| {
        Error::new(Code::ReviewFindings, format!("{counted} at or above `{}`", threshold.as_str()))
            .with_hint("mend them, or set another threshold with --fail-on")
    })
}

/// The command that writes the same reports again.
fn again_command(id: &JobId, reports: &[Report]) -> String {
    let mut command = format!("anchorhold result {id}");
    for report in reports {
        command.push_str(&format!(" --format {}", report.format.as_str()));
        if let Some(file) = &report.output {
            let file = crate::display::line(file.as_os_str().as_encoded_bytes());
            let plain = !file.is_empty() && file.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+=".contains(&b));
            command.push_str(&if plain { format!(" --output {file}") } else { format!(" --output '{}'", file.replace('\'', "'\\''")) });
        }
    }
    command
}

/// The document of `--json`.
fn document(out: &Output, job: Option<(&JobId, bool)>, review: &Review, context: &Context, written: &[serde_json::Value], outcome: Option<&Error>) {
    if out.json() {
        let id = job.map(|(id, _)| id.as_str());
        out.outcome(outcome, json!({ "job_id": id, "reports": written, "review": json_form::value(review, context) }));
    }
}

/// A review of nothing: no job was made for it.
fn nothing(facts: Facts, model: Option<String>) -> Review {
    Review {
        job_id: String::new(),
        reason: Reason::Completed,
        partial: false,
        partial_detail: String::new(),
        verdict: Verdict::Pass,
        confidence: None,
        summary: "There is nothing to review: the change is empty. No model was asked.".to_owned(),
        findings: Vec::new(),
        questions: Vec::new(),
        assumptions: Vec::new(),
        next_steps: Vec::new(),
        change: facts.change,
        coverage: facts.coverage,
        usage: Usage::default(),
        model,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// A text, or what a file holds.
pub(super) fn added(argument: &str) -> Result<String> {
    match argument {
        // A dash is a text here: standard input belongs to the question of `consult`.
        "-" => Ok(argument.to_owned()),
        _ => delegate::task(argument, std::io::empty()),
    }
}

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;
