//! `consult`: asks a question about a repository and shows the answer.

use super::output::{Output, error_value};
use super::progress::Reporter;
use super::reports::{self, Report, Reports};
use super::review::{RunArgs, added};
use super::{delegate, dry_run, follow, render};
use crate::display;
use crate::error::Result;
use crate::job::{Additions, JobResult, Jobs, Work};
use crate::review::format::Format;
use crate::review::format::escape;

/// The forms that an answer has.
pub(super) const FORMS: [Format; 3] = [Format::Text, Format::Markdown, Format::Json];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What you want to know: a text, `-` to read it from standard input, or `@FILE`
    #[arg(value_name = "QUESTION")]
    question: String,
    /// What the agent should know and the repository does not say: a text or @FILE
    #[arg(long, value_name = "TEXT|@FILE")]
    context: Option<String>,
    #[command(flatten)]
    reports: Reports,
    #[command(flatten)]
    run: RunArgs,
}

pub(super) async fn run(out: &Output, jobs: &Jobs, args: Args) -> Result<u8> {
    let reports = args.reports.checked(out.json(), &FORMS)?;
    let question = delegate::task(&args.question, std::io::stdin())?;
    let more = Additions { extra_context: args.context.as_deref().map(added).transpose()?, ..Additions::default() };
    let dry = args.run.dry_run;
    let request = args.run.request(Work::Consult { question, more })?;
    if dry {
        return dry_run::run(out, jobs, request).await;
    }
    let mut reporter = Reporter::new(out, false);
    let (started, cancel_now) = follow::start(jobs, request, &mut reporter).await?;
    let result = follow::through(jobs, started, cancel_now, reporter).await?;
    answer(out, &result, &reports)
}

/// Shows an answer in the wanted forms and returns the exit code of the job's outcome. The job stays: it can be gone on with.
pub(super) fn answer(out: &Output, result: &JobResult, reports: &[Report]) -> Result<u8> {
    let id = &result.status.job_id;
    let failure = result.failure();
    for report in reports {
        let bytes = form(report.format, result);
        reports::write_bytes(out, report, &bytes).map_err(|e| {
            e.with_hint(format!("nothing is lost: the job is kept, and `anchorhold result {id} --format {}` shows it again", report.format.as_str()))
                .with_detail("job_id", id.as_str())
        })?;
    }
    if out.json() {
        out.outcome(failure.as_ref(), render::result_value(result));
    } else if let Some(e) = &failure {
        out.human_error(e);
    }
    Ok(failure.map_or(0, |e| e.code.exit_code()))
}

fn form(format: Format, result: &JobResult) -> Vec<u8> {
    let said = String::from_utf8_lossy(&result.last_message);
    let text = match format {
        Format::Markdown => escape::markdown_blocks(&said, "", usize::MAX),
        Format::Json => {
            let mut fields = render::result_value(result);
            if let (serde_json::Value::Object(fields), Some(e)) = (&mut fields, result.failure()) {
                fields.insert("error".to_owned(), error_value(&e));
            }
            return format!("{}\n", display::json(&format!("{fields:#}"))).into_bytes();
        }
        _ => escape::lines(&said),
    };
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{end}").into_bytes()
}
