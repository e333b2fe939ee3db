//! `apply`: a person's verb. It checks, then applies an ended job's changes to the working tree.

use std::path::PathBuf;

use serde_json::json;

use super::ended::Ended;
use super::output::Output;
use super::render;
use crate::error::{Code, Error, Result};
use crate::job::Jobs;
use crate::workspace;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    ended: Ended,
    /// Only say whether the changes apply
    #[arg(long)]
    check: bool,
}

pub(super) async fn run(out: &Output, jobs: &Jobs, args: &Args) -> Result<u8> {
    let result = args.ended.result(jobs).await?;
    let id = &result.status.job_id;
    let Some(patch) = &result.patch else {
        if out.json() {
            out.document(json!({ "job_id": id, "applied": false, "no_changes": true, "files": [] }));
        } else {
            out.text("no changes: there is nothing to apply");
        }
        return Ok(0);
    };
    let directory = args.ended.directory(&result)?;
    let root = top(&directory)?;
    let applies = workspace::applies(&root, &result.changes)?;
    if !applies.ok {
        let conflicts = serde_json::to_value(&applies.conflicts).unwrap_or_default();
        // The names are a job's words: they stand beside the error, not in it.
        if !out.json() {
            out.note_block(&applies.conflicts.iter().map(|c| format!("  {}: {}\n", c.path.path, c.why.replace('_', " "))).collect::<String>());
        }
        return Err(Error::new(Code::ApplyConflict, format!("the changes do not apply as the tree is now, in {} places", applies.conflicts.len()))
            .with_hint(format!("nothing was changed; merge by hand: `anchorhold diff {id} | git apply --3way`"))
            .with_detail("job_id", id.as_str())
            .with_detail("conflicts", conflicts));
    }
    if !args.check {
        workspace::apply(&root, &result.changes, patch)?;
    }
    if out.json() {
        out.document(json!({
            "job_id": id, "applied": !args.check, "exact": applies.exact, "root": root, "files": result.files, "risk": result.risk,
        }));
    } else {
        let done = if args.check { "would change" } else { "changed" };
        let shown = crate::display::line(root.as_os_str().as_encoded_bytes());
        out.text(&format!("{done} in {shown}, nothing staged and nothing committed:\n{}", render::files(&result.files, out.paint())));
        if !result.risk.is_empty() {
            out.note(&render::risk(&result.risk, out.err_paint()));
        }
    }
    Ok(0)
}

/// The top of the working tree: changes are named from there, whatever directory the job was started in.
fn top(directory: &std::path::Path) -> Result<PathBuf> {
    let found = directory.ancestors().find(|dir| dir.join(".git").symlink_metadata().is_ok());
    found.map(std::path::Path::to_path_buf).ok_or_else(|| {
        Error::new(Code::NotAGitRepo, "no working tree is there any more")
            .with_hint("name a checkout of the same repository with --workspace, or use `anchorhold diff`")
    })
}
