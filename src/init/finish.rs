//! The last act: seal, put the outputs together, and write `result.json` last. Whatever fails on the way, a result is still attempted; one that is not complete
//! says so.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode as FileMode, OFlags};

use super::cell::Cell;
use super::codex::{events_spool, stderr_spool};
use super::ending::Ending;
use super::part::{self, FreeOrders, Places, SealOrders};
use super::progress::now_unix_ms;
use super::session;
use crate::codex::command::LAST_MESSAGE;
use crate::error::{Error, Result};
use crate::protocol::PROTOCOL_VERSION;
use crate::protocol::paths::{self, out};
use crate::protocol::request::JobKind;
use crate::protocol::result::{Seal, SealedResult};
use crate::{fault, weaken};

/// Longest last message that is kept.
const MAX_LAST_MESSAGE: u64 = 1 << 20;
/// Longest notes of a reviewer that are kept.
const MAX_NOTES: u64 = 1 << 20;
/// A seal that takes longer is given up.
const SEAL_PATIENCE: Duration = Duration::from_secs(900);

/// The result of an earlier start, if there is a whole one.
pub fn sealed() -> Option<SealedResult> {
    let mut text = Vec::new();
    let file = File::open(Path::new(paths::JOB_OUT).join(out::RESULT)).ok()?;
    file.take(SealedResult::MAX_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Seals. The error is for the case that not even the result can be written.
pub async fn finish(cell: &Cell, ending: &Ending, resealed: bool) -> Result<()> {
    let begun = Instant::now();
    let mut detail = ending.detail.clone();
    // Room for what follows. Not there after a second start, or when unpacking never came so far.
    let _ = std::fs::remove_file(cell.state.reserve());
    // A second look: in a second start nothing was killed yet, and after a first one nothing may be left.
    let dead = cell.kill_everything().await;
    let facts = cell.facts();
    let seal = if facts.unpacked {
        match seal(cell).await {
            Ok(mut seal) => {
                if !dead {
                    seal.complete = false;
                    detail.push_str(" A process of the agent could not be killed, so the workspace may still change.");
                }
                seal
            }
            Err(e) => {
                detail.push_str(&format!(" The changes could not be sealed: {}.", e.chain()));
                no_changes()?
            }
        }
    } else {
        // The agent never ran on a whole tree: nothing can be said about changes.
        no_changes()?
    };
    fault::point("init.changes_sealed");
    let report = cell.report();
    let dir = Path::new(paths::JOB_OUT);
    let mut kept = |what: &str, done: io::Result<()>| {
        if let Err(e) = done {
            detail.push_str(&format!(" {what} could not be kept: {e}."));
        }
    };
    kept("Codex's events", events_spool().assemble(&dir.join(out::EVENTS), report.events_dropped_bytes > 0));
    kept("Codex's standard error", stderr_spool().assemble(&dir.join(out::STDERR), false));
    kept("Codex's last message", keep_file(LAST_MESSAGE, &dir.join(out::LAST_MESSAGE), MAX_LAST_MESSAGE));
    if cell.request.kind == JobKind::Review {
        kept("The reviewer's notes", keep_file(paths::NOTES, &dir.join(out::NOTES), MAX_NOTES));
    }
    if cell.request.kind == JobKind::Delegate {
        kept("Codex's conversation", session::keep(report.thread_id.as_deref()));
    }
    let provider = cell.provider();
    let mut timings = facts.timings;
    timings.sealed_unix_ms = now_unix_ms();
    timings.seal_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let result = SealedResult {
        version: PROTOCOL_VERSION,
        job_id: cell.request.job_id.clone(),
        reason: ending.reason,
        detail,
        detail_code: ending.code.map(|code| code.as_str().to_owned()),
        manifest_sha256: cell.request.manifest_sha256.clone(),
        timings,
        codex: report,
        provider_error: provider.last_error,
        answers: provider.answers,
        seal,
        resealed,
    };
    write_result(dir, &result).map_err(|e| Error::internal("write the result").with_source(e))
}

async fn seal(cell: &Cell) -> Result<Seal> {
    let orders = SealOrders { places: Places::cell() };
    let attempt = || async {
        match tokio::time::timeout(SEAL_PATIENCE, part::call::<_, Seal>(&cell.reaper, "seal", &orders)).await {
            Ok(done) => done,
            Err(_) => {
                cell.kill_everything().await;
                Err(Error::internal("it took too long"))
            }
        }
    };
    match attempt().await {
        Ok(seal) => Ok(seal),
        Err(first) => {
            // A full disk is the likeliest reason. What the seal ignores is given up for what it needs.
            part::call::<_, ()>(&cell.reaper, "free", &FreeOrders { agent_uid: cell.request.agent_uid }).await.map_err(|_| first)?;
            attempt().await
        }
    }
}

/// A well-formed document without records, and a seal that claims nothing.
fn no_changes() -> Result<Seal> {
    use sha2::Digest as _;
    let write = || -> io::Result<String> {
        let (document, _) = crate::protocol::changes::Writer::new(Vec::new())?.finish()?;
        std::fs::write(Path::new(paths::JOB_OUT).join(out::CHANGES), &document)?;
        Ok(crate::protocol::manifest::hex(&sha2::Sha256::digest(&document)))
    };
    let changes_sha256 = write().map_err(|e| Error::internal("write an empty list of changes").with_source(e))?;
    Ok(Seal { complete: false, changes_sha256, ..Seal::default() })
}

/// Copies the first bytes of what the agent wrote, if it is a regular file: it may have put anything there.
fn keep_file(source: &str, target: &Path, most: u64) -> io::Result<()> {
    let links = if weaken::off("seal.links") { OFlags::empty() } else { OFlags::NOFOLLOW };
    let flags = OFlags::RDONLY | links | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(source, flags, FileMode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Ok(());
    }
    io::copy(&mut file.take(most), &mut File::create(target)?)?;
    Ok(())
}

/// Written whole, then renamed: who sees `result.json` sees all of it, and everything else is there.
fn write_result(dir: &Path, result: &SealedResult) -> io::Result<()> {
    let temporary = dir.join(".result.json");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(result)?)?;
    file.sync_all()?;
    fault::point("init.result_written");
    std::fs::rename(temporary, dir.join(out::RESULT))
}
