//! The hidden parts of `anchorhold init`: short-lived children of PID 1, our own binary executed again. Heavy or risky work is done here, so
//! that PID 1 stays small and survives whatever goes wrong.
//!
//! A part reads its orders as one JSON document on standard input and answers with one on standard output.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode as FileMode, OFlags};
use serde::{Deserialize, Serialize};

use super::unpack;
use super::{privileges, state};
use crate::error::{Code, Error, Result};
use crate::fault;
use crate::protocol::manifest::{Manifest, ManifestCaps};
use crate::protocol::paths;

/// Longest document in either direction.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// What a part answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer<T> {
    /// It did its work.
    Done(T),
    /// It did not; in our words.
    Failed(String),
    /// It did not, because the disk is full; in our words.
    NoSpace(String),
}

/// Runs one part and returns the exit code.
pub fn run<O: serde::de::DeserializeOwned, T: Serialize>(work: impl FnOnce(O) -> Result<T>) -> u8 {
    u8::from(!answer(orders().and_then(work)))
}

/// Writes the answer; whether it was a good one and got through.
fn answer<T: Serialize>(result: Result<T>) -> bool {
    let answer = match result {
        Ok(done) => Answer::Done(done),
        Err(e) if e.is_for_space() => Answer::NoSpace(e.chain()),
        Err(e) => Answer::Failed(e.chain()),
    };
    let written = serde_json::to_vec(&answer).map_err(io::Error::from).and_then(|text| {
        let mut out = io::stdout().lock();
        out.write_all(&text).and_then(|()| out.flush())
    });
    written.is_ok() && matches!(answer, Answer::Done(_))
}

fn orders<O: serde::de::DeserializeOwned>() -> Result<O> {
    let mut text = Vec::new();
    io::stdin().lock().take(MAX_DOCUMENT).read_to_end(&mut text).map_err(|e| Error::internal("read the orders").with_source(e))?;
    serde_json::from_slice(&text).map_err(|e| Error::internal("parse the orders").with_source(e))
}

/// Opens a directory that is one of ours.
pub fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, FileMode::empty())?)
}

/// Opens every frame that a manifest names, and checks their sizes.
pub fn open_frames(dir: &Path, manifest_frames: &[crate::protocol::manifest::Frame]) -> Result<Vec<File>> {
    privileges::raise_descriptor_limit();
    let mut files = Vec::with_capacity(manifest_frames.len().min(4096));
    for (number, frame) in manifest_frames.iter().enumerate() {
        let open = || -> io::Result<File> {
            let file = File::open(dir.join(format!("{number:05}.zst")))?;
            if file.metadata()?.len() != frame.compressed {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not of the size that the manifest says"));
            }
            Ok(file)
        };
        files.push(open().map_err(|e| Error::internal(format!("open frame {number}")).with_source(e))?);
    }
    Ok(files)
}

/// Where the pieces of a job lie; the fixed paths in a cell, others in a trial.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Places {
    /// The agent's tree.
    pub workspace: std::path::PathBuf,
    /// `facts/manifest`.
    pub manifest: std::path::PathBuf,
    /// The frames' directory.
    pub frames: std::path::PathBuf,
    /// The stat table.
    pub table: std::path::PathBuf,
    /// Where results go.
    pub out: std::path::PathBuf,
}

impl Places {
    /// In a cell.
    pub fn cell() -> Self {
        Self {
            workspace: paths::WORKSPACE.into(),
            manifest: paths::MANIFEST.into(),
            frames: paths::FRAMES.into(),
            table: Path::new(paths::JOB_STATE).join("table"),
            out: paths::JOB_OUT.into(),
        }
    }
}

/// Orders for the unpacking part.
#[derive(Debug, Serialize, Deserialize)]
pub struct UnpackOrders {
    /// Where.
    pub places: Places,
    /// How.
    pub options: unpack::Options,
    /// The changes of the job before, made in the unpacked tree.
    pub previous: Option<std::path::PathBuf>,
}

/// What an unpacked tree is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct UnpackAnswer {
    /// Entries made.
    pub entries: u64,
    /// Bytes on disk, those of packs still to be written included.
    pub disk_bytes: u64,
}

/// `init unpack`: opens as root what the agent may not see, becomes the agent, then unpacks. It answers when the tree is complete and may go on
/// packing blobs after that; whoever waits for it waits for the answer.
pub fn run_unpack() -> u8 {
    let work = |orders: UnpackOrders| -> Result<_> {
        let UnpackOrders { places, options, previous } = orders;
        let failed = |what: &'static str| move |e: io::Error| Error::internal(what).with_source(e);
        let document = File::open(&places.manifest).map_err(failed("open the manifest"))?;
        let manifest = Manifest::read(document, ManifestCaps::default()).map_err(failed("read the manifest"))?;
        let frames = open_frames(&places.frames, &manifest.frames)?;
        let table = File::create(&places.table).map_err(failed("make the stat table"))?;
        let workspace = open_root(&places.workspace).map_err(failed("open the workspace"))?;
        let previous = previous.map(File::open).transpose().map_err(failed("open the changes of the job before"))?;
        if rustix::process::geteuid().is_root() {
            privileges::become_agent(options.agent_uid)?;
        }
        fault::point("part.unpacking");
        let unpacked = unpack::unpack(&workspace, &manifest, &frames, &options).map_err(failed("unpack the workspace"))?;
        state::write_table(table, &unpacked.stamps).map_err(failed("write the stat table"))?;
        fault::point("part.unpacked");
        let mut answer = UnpackAnswer { entries: unpacked.stamps.len() as u64, disk_bytes: unpacked.disk_bytes };
        if let Some(document) = previous {
            let made = super::previous::make(&workspace, &document).map_err(failed("make the changes of the job before"))?;
            unpack::make_subdirectory(&workspace, &options).map_err(failed("make the subdirectory"))?;
            answer.entries = answer.entries.saturating_add(made.entries);
            answer.disk_bytes = answer.disk_bytes.saturating_add(made.disk_bytes);
        }
        Ok((answer, unpacked.later, manifest, frames, options.workers))
    };
    match orders().and_then(work) {
        Ok((done, later, manifest, frames, workers)) => {
            if !answer(Ok(done)) {
                return 1;
            }
            let Some(later) = later else { return 0 };
            // The reader sees the end of the answer only when the last writer has closed it.
            let closed = File::options().write(true).open("/dev/null").and_then(|null| Ok(rustix::stdio::dup2_stdout(null)?));
            u8::from(closed.and_then(|()| later.pack_blobs(&manifest, &frames, workers)).is_err())
        }
        Err(e) => u8::from(!answer::<()>(Err(e))),
    }
}

/// Orders for the sealing part.
#[derive(Debug, Serialize, Deserialize)]
pub struct SealOrders {
    /// Where.
    pub places: Places,
}

/// `init seal`.
pub fn run_seal() -> u8 {
    run(|orders: SealOrders| {
        fault::point("part.sealing");
        let sealed = super::seal::seal(&orders.places, &super::seal::Caps::default());
        fault::point("part.sealed");
        sealed.map_err(|e| Error::internal("seal the workspace").with_source(e))
    })
}

/// Orders for the measuring part.
#[derive(Debug, Serialize, Deserialize)]
pub struct UsageOrders {
    /// Directories whose content counts.
    pub roots: Vec<std::path::PathBuf>,
}

/// `init usage`.
pub fn run_usage() -> u8 {
    run(|orders: UsageOrders| {
        let roots: Vec<&Path> = orders.roots.iter().map(std::path::PathBuf::as_path).collect();
        super::usage::usage(&roots).map_err(|e| Error::internal("measure the volumes").with_source(e))
    })
}

/// Orders for the part that makes room.
#[derive(Debug, Serialize, Deserialize)]
pub struct FreeOrders {
    /// Who owns the files.
    pub agent_uid: u32,
}

/// `init free`: as the agent, removes its repository, which the seal ignores, so that a full disk takes the changes.
pub fn run_free() -> u8 {
    run(|orders: FreeOrders| {
        privileges::become_agent(orders.agent_uid)?;
        let git = Path::new(paths::WORKSPACE).join(".git");
        // Follows no link on the way down.
        std::fs::remove_dir_all(git).map_err(|e| Error::internal("remove the agent's repository").with_source(e))
    })
}

/// Calls a part from PID 1 and waits for its answer.
pub async fn call<O: Serialize, T: serde::de::DeserializeOwned>(reaper: &super::reaper::Reaper, part: &str, orders: &O) -> Result<T> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::unix::pipe;

    let failed = |e: io::Error| Error::internal(format!("run init {part}")).with_source(e);
    let orders = serde_json::to_vec(orders).map_err(|e| failed(e.into()))?;
    let mut command = crate::process::command("/proc/self/exe", Path::new("/"));
    command
        .env_clear()
        .envs(crate::weaken::environment())
        .args(["init", part])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::inherit());
    let (mut child, pid) = reaper.spawn(&mut command).map_err(failed)?;
    if let Some(stdin) = child.stdin.take() {
        let mut stdin = pipe::Sender::from_owned_fd(stdin.into()).map_err(failed)?;
        stdin.write_all(&orders).await.map_err(failed)?;
    }
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let stdout = pipe::Receiver::from_owned_fd(stdout.into()).map_err(failed)?;
        stdout.take(MAX_DOCUMENT).read_to_end(&mut answer).await.map_err(failed)?;
    }
    match serde_json::from_slice(&answer) {
        Ok(Answer::Done(done)) => Ok(done),
        Ok(Answer::Failed(message)) => Err(Error::internal(message)),
        Ok(Answer::NoSpace(message)) => Err(Error::new(Code::OutOfDisk, message)),
        Err(_) => {
            let ended = reaper.wait(pid).await;
            Err(Error::internal(format!("init {part} ended without an answer (code {:?}, signal {:?})", ended.exit_code, ended.signal)))
        }
    }
}
