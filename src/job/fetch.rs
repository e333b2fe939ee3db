//! A result as a commit of the user's repository ([`crate::workspace::fetch`]).

use std::path::Path;

use super::service::Core;
use super::{JobResult, delivered, status};
use crate::error::{Code, Error, Result};
use crate::workspace::fetch::{FetchRequest, Fetched, prepare};

/// Bytes of the agent's last message that the commit quotes.
const MAX_WORDS: usize = 4_000;

/// Writes a collected result's changes as a commit of the repository that `directory` lies in.
pub(super) async fn fetch(core: &Core, result: &JobResult, directory: &Path) -> Result<Fetched> {
    if !result.status.kind.makes_patch() || result.changes.is_empty() {
        return Err(Error::new(Code::Unsupported, "fetch the result: it has no changes"));
    }
    let seen = status::observe(core, &result.status.job_id).await?.ok_or_else(super::id::not_found)?;
    let manifest = delivered::manifest(core, &seen.found, result).await?;
    let labels = &seen.found.labels;
    let request = FetchRequest {
        directory: directory.to_path_buf(),
        roots: core.settings.roots.allow.clone(),
        caps: core.settings.workspace.clone(),
        job: labels.id.to_string(),
        head: labels.head.clone(),
        manifest: manifest.clone(),
        snapshot: result.snapshot.clone(),
        unix_seconds: labels.created_ms / 1000,
        words: words(&result.last_message),
    };
    let blocking = |e: tokio::task::JoinError| Error::internal("fetch the result").with_source(e);
    let prepared = core.tasks.spawn_blocking(move || prepare(request)).await.map_err(blocking)??;
    // What the changes hold need not be downloaded.
    let held: std::collections::HashSet<_> =
        result.changes.iter().filter_map(|c| c.base.as_ref()).map(|side| crate::protocol::changes::side_id(side, manifest.format)).collect();
    let missing: Vec<_> = prepared.missing().iter().filter(|entry| !held.contains(&entry.id)).cloned().collect();
    let contents = delivered::contents(core, &seen.found.container(), &manifest, &missing).await?;
    let changes = result.changes.clone();
    core.tasks.spawn_blocking(move || prepared.finish(&changes, &contents)).await.map_err(blocking)?
}

/// The agent's own words, escaped and set in, so that no line of them passes for ours or for one that git or a tool reads.
fn words(last_message: &[u8]) -> String {
    let said = crate::display::page(crate::display::bounded(last_message.trim_ascii(), MAX_WORDS).as_bytes());
    if said.is_empty() {
        return String::new();
    }
    let lines: String = said.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") }).collect();
    format!("\nThe agent says:\n\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_words_make_no_trailer_and_no_control_character() {
        let said = words(b"Done.\n\nSigned-off-by: Somebody <a@b>\n\x1b[31m\xff");
        assert!(said.starts_with("\nThe agent says:\n\n    Done.\n\n    Signed-off-by: "), "{said}");
        assert!(!said.contains('\x1b') && said.contains("\\u{1b}"), "{said}");
        assert_eq!(words(b" \n"), "");
    }
}
