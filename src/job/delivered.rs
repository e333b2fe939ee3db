//! What a job was delivered with, read back from its container: the manifest and content of the frames.
//!
//! The volume is root's in the cell, and still nothing of it is believed: the manifest must be the one against which the job was sealed, which was
//! compared with the gateway's ledger; a frame has the size that the manifest says; content has its id.

use std::collections::HashMap;
use std::io::{self, Read};

use super::download::{self, Piece};
use super::service::Core;
use super::status::Found;
use super::{JobResult, collect};
use crate::engine::ContainerRef;
use crate::error::{Code, Error, Result};
use crate::protocol::manifest::{Entry, Frame, Manifest, ManifestCaps, ObjectFormat, ObjectId};
use crate::protocol::paths;

/// Longest window that a frame may ask for, as a power of two: ours need no more.
const WINDOW: u32 = 27;

fn damaged(what: &str) -> Error {
    Error::new(Code::JobFailed, format!("read what was sent with the job: {what}"))
        .with_hint("the job was tampered with or damaged: nothing of it can be used; start a new one")
}

/// The manifest of a job whose result was collected.
pub(super) async fn manifest(core: &Core, found: &Found, result: &JobResult) -> Result<Manifest> {
    let facts = collect::find_facts(core, &found.labels.id, &found.container()).await?;
    let facts = facts.ok_or_else(|| damaged("it is not there any more"))?;
    if result.sealed.as_ref().is_none_or(|sealed| sealed.manifest_sha256 != facts.manifest_sha256) {
        return Err(damaged("the manifest is not the one that was delivered"));
    }
    let read = core.tasks.spawn_blocking(move || Manifest::read(facts.manifest, ManifestCaps::default())).await;
    read.map_err(|e| Error::internal("read the manifest").with_source(e))?.map_err(|e| damaged("the manifest").with_source(e))
}

/// One frame, as it was sent.
pub(super) async fn frame(core: &Core, container: &ContainerRef, number: u32, frame: &Frame) -> Result<Piece> {
    let path = format!("{}/{number:05}.zst", paths::FRAMES);
    let piece = download::file(core, container, &path, frame.compressed).await?;
    piece.ok_or_else(|| damaged("a part of the files is missing"))
}

/// The content of these entries, by its id.
pub(super) async fn contents(core: &Core, container: &ContainerRef, manifest: &Manifest, entries: &[Entry]) -> Result<HashMap<ObjectId, Vec<u8>>> {
    let mut by_frame: HashMap<u32, Vec<Entry>> = HashMap::new();
    let mut contents = HashMap::new();
    for entry in entries {
        if entry.size == 0 {
            contents.insert(entry.id, Vec::new());
        } else {
            by_frame.entry(entry.frame).or_default().push(entry.clone());
        }
    }
    for (number, mut wanted) in by_frame {
        let facts = manifest.frames.get(number as usize).ok_or_else(|| damaged("an entry lies in no frame"))?;
        let piece = frame(core, container, number, facts).await?;
        wanted.sort_by_key(|entry| entry.offset);
        let format = manifest.format;
        let taken = core.tasks.spawn_blocking(move || take(piece.into_reader()?, format, &wanted)).await;
        let taken = taken.map_err(|e| Error::internal("read a frame").with_source(e))?;
        contents.extend(taken.map_err(|e| damaged("a part of the files").with_source(e))?);
    }
    Ok(contents)
}

/// Reads entries out of a frame, in order of their offsets. Blocking.
fn take(compressed: impl Read, format: ObjectFormat, wanted: &[Entry]) -> io::Result<Vec<(ObjectId, Vec<u8>)>> {
    let mut plain = zstd::stream::read::Decoder::new(compressed)?;
    plain.window_log_max(WINDOW)?;
    let mut at = 0u64;
    let mut taken: Vec<(ObjectId, Vec<u8>)> = Vec::with_capacity(wanted.len());
    for entry in wanted {
        if taken.last().is_some_and(|(id, _)| *id == entry.id) {
            continue;
        }
        let gap = entry.offset.checked_sub(at).ok_or_else(|| io::Error::other("entries overlap"))?;
        let skipped = io::copy(&mut plain.by_ref().take(gap), &mut io::sink())?;
        // Grows as bytes really arrive.
        let mut bytes = Vec::new();
        plain.by_ref().take(entry.size).read_to_end(&mut bytes)?;
        if skipped != gap || bytes.len() as u64 != entry.size || format.hash("blob", &bytes) != entry.id {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not what the manifest says"));
        }
        at = entry.offset.saturating_add(entry.size);
        taken.push((entry.id, bytes));
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::manifest::Mode;
    use crate::protocol::repo_path::RepoPath;

    fn entry(content: &[u8], offset: u64) -> Entry {
        let id = ObjectFormat::Sha1.hash("blob", content);
        Entry { path: RepoPath::parse(b"a").unwrap(), mode: Mode::File, id, size: content.len() as u64, frame: 0, offset }
    }

    #[test]
    fn content_comes_out_of_a_frame_only_with_its_id() {
        let frame = zstd::encode_all(&b"onetwothree"[..], 1).unwrap();
        let check = |wanted: &[Entry]| take(frame.as_slice(), ObjectFormat::Sha1, wanted);
        let taken = check(&[entry(b"one", 0), entry(b"three", 6)]).unwrap();
        assert_eq!(taken.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>(), [b"one".to_vec(), b"three".to_vec()]);
        assert!(check(&[entry(b"two", 4)]).is_err(), "another place");
        assert!(check(&[entry(b"three!", 6)]).is_err(), "beyond the end");
        assert!(check(&[entry(b"onetwo", 0), entry(b"two", 3)]).is_err(), "overlapping");
        assert!(take(&b"no frame"[..], ObjectFormat::Sha1, &[entry(b"one", 0)]).is_err());
    }
}
