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
use crate::error::{Error, Result};
use crate::protocol::manifest::{Manifest, ManifestCaps};
use crate::protocol::paths;

/// Longest document in either direction.
pub const MAX_DOCUMENT: u64 = 1 << 20;

/// What a part answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer<T> {
    /// It did its work.
    Done(T),
    /// It did not; in our words.
    Failed(String),
}

/// Runs one part and returns the exit code.
pub fn run<O: serde::de::DeserializeOwned, T: Serialize>(work: impl FnOnce(O) -> Result<T>) -> u8 {
    let answer = match orders().and_then(work) {
        Ok(done) => Answer::Done(done),
        Err(e) => Answer::Failed(e.chain()),
    };
    let written = serde_json::to_vec(&answer).map_err(io::Error::from).and_then(|text| io::stdout().lock().write_all(&text));
    u8::from(written.is_err() || matches!(answer, Answer::Failed(_)))
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
}

/// `init unpack`: opens as root what the agent may not see, becomes the agent, then unpacks.
pub fn unpack(orders: UnpackOrders) -> Result<u64> {
    let UnpackOrders { places, options } = orders;
    let read = |what: &str| {
        let what = what.to_owned();
        move |e: io::Error| Error::internal(what).with_source(e)
    };
    let document = File::open(&places.manifest).map_err(read("open the manifest"))?;
    let manifest = Manifest::read(document, ManifestCaps::default()).map_err(read("read the manifest"))?;
    let frames = open_frames(&places.frames, &manifest.frames)?;
    let table = File::create(&places.table).map_err(read("make the stat table"))?;
    let workspace = open_root(&places.workspace).map_err(read("open the workspace"))?;
    if rustix::process::geteuid().is_root() {
        privileges::become_agent(options.agent_uid)?;
    }
    let stamps = unpack::unpack(&workspace, &manifest, &frames, &options).map_err(read("unpack the workspace"))?;
    state::write_table(table, &stamps).map_err(read("write the stat table"))?;
    Ok(stamps.len() as u64)
}
