//! `fetch`: a person's verb. It writes an ended job's changes as a commit into the repository, under a reference of its own.

use serde_json::json;

use super::ended::Ended;
use super::output::Output;
use super::render;
use crate::error::Result;
use crate::job::Jobs;
use crate::workspace::fetch::Fetched;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    ended: Ended,
}

pub(super) async fn run(out: &Output, jobs: &Jobs, args: &Args) -> Result<u8> {
    let result = args.ended.result(jobs).await?;
    let id = &result.status.job_id;
    if result.changes.is_empty() {
        if out.json() {
            out.document(json!({ "job_id": id, "reference": null, "no_changes": true, "files": [] }));
        } else {
            out.text("no changes: there is nothing to fetch");
        }
        return Ok(0);
    }
    let directory = args.ended.directory(&result)?;
    let fetched = jobs.fetch(&result, &directory).await?;
    if out.json() {
        out.document(json!({
            "job_id": id, "reference": fetched.reference, "commit": fetched.commit, "base_commit": fetched.base_commit, "head": fetched.head,
            "already_there": fetched.already_there, "not_sent": fetched.not_sent, "ignored": fetched.ignored, "root": fetched.root,
            "files": result.files, "risk": result.risk,
        }));
        return Ok(0);
    }
    out.text(&text(&fetched));
    if !result.risk.is_empty() {
        out.note(&render::risk(&result.risk, out.err_paint()));
    }
    Ok(0)
}

fn text(fetched: &Fetched) -> String {
    let Fetched { reference, commit, base_commit, head, already_there, not_sent, ignored, root } = fetched;
    let root = crate::display::line(root.as_os_str().as_encoded_bytes());
    let done = if *already_there { "was there already" } else { "written" };
    let mut text = format!("{reference} {done} in {root}; branch, index and files are as they were\n  commit  {commit}\n");
    match (base_commit, head) {
        (Some(base), Some(head)) => text.push_str(&format!("  parent  {base}, the files as they were sent with the job, on {head}\n")),
        (Some(base), None) => text.push_str(&format!("  parent  {base}, the files as they were sent with the job\n")),
        (None, Some(head)) => text.push_str(&format!("  parent  {head}, HEAD when the job began\n")),
        (None, None) => {}
    }
    if *not_sent > 0 {
        text.push_str(&format!("  {not_sent} paths were not sent with the job and stand in it as in HEAD\n"));
    }
    if *ignored > 0 {
        text.push_str(&format!("  {ignored} changed files are not in it, because the repository ignores them: see `anchorhold diff`\n"));
    }
    text.push_str(&format!("look at it: git show {reference}\ntake it:    git cherry-pick {reference}"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_told_for_what_it_is() {
        let fetched = Fetched {
            root: "/repo".into(),
            reference: "refs/anchorhold/1".into(),
            commit: "c".into(),
            base_commit: None,
            head: Some("h".into()),
            already_there: false,
            not_sent: 0,
            ignored: 0,
        };
        assert!(text(&fetched).contains("parent  h, HEAD when the job began\nlook at it: git show refs/anchorhold/1\n"), "{}", text(&fetched));
        let dirty = text(&Fetched { base_commit: Some("b".into()), already_there: true, not_sent: 2, ignored: 3, ..fetched });
        for part in ["was there already", "parent  b, the files as they were sent with the job, on h", "2 paths were not sent", "3 changed files"] {
            assert!(dirty.contains(part), "{part} in {dirty}");
        }
    }
}
