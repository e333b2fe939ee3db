//! `gc`: removes what has expired or belongs to no job.

use serde_json::json;

use super::output::Output;
use crate::error::Result;
use crate::job::{GcReport, Jobs};

pub(super) async fn run(out: &Output, jobs: &Jobs) -> Result<u8> {
    let report = jobs.gc().await?;
    let code = u8::from(!report.problems.is_empty());
    if out.json() {
        out.document(json!({ "report": report }));
    } else {
        out.text(&text(&report));
    }
    Ok(code)
}

fn text(report: &GcReport) -> String {
    let mut lines = Vec::new();
    lines.extend(report.expired.iter().map(|id| format!("removed the expired job {id}")));
    lines.extend(report.finished_consumes.iter().map(|id| format!("finished the removal of {id}")));
    lines.extend(report.volumes.iter().map(|name| format!("removed the orphaned volume {}", crate::display::line(name.as_bytes()))));
    if report.passes > 0 {
        lines.push(format!("revoked {} passes without a job", report.passes));
    }
    lines.extend(report.problems.iter().map(|problem| format!("problem: {}", crate::display::line(problem.as_bytes()))));
    if lines.is_empty() {
        lines.push("nothing to remove".to_owned());
    }
    lines.join("\n")
}
