//! The sealed changes: base and new bytes of each changed path, length-framed, no archive.
//!
//! Form: `AHCHG1\n`, then records. A record is a big-endian `u32` (length of the header), the header as JSON, the base
//! bytes, the new bytes. Paths ascend strictly by bytes. The last record is `{"end":{"records":N}}`; anything after it, or its absence,
//! makes the document invalid. A path that the seal left out is not here but in [`super::result::Seal::refused`].

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::manifest::{Mode, ObjectId};
use super::repo_path::RepoPath;

const MAGIC: &[u8] = b"AHCHG1\n";
const MAX_HEADER: u32 = 16 << 10;

/// One side of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// What kind: file, executable or symlink.
    pub mode: Mode,
    /// The whole content (of a link: its target).
    pub bytes: Vec<u8>,
}

/// A changed path: both sides differ, at least one is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: RepoPath,
    /// Before; `None`: did not exist.
    pub base: Option<Side>,
    /// After; `None`: deleted.
    pub new: Option<Side>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SideHeader {
    mode: Mode,
    size: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, untagged)]
enum Record {
    End { end: End },
    Change { path: RepoPath, base: Option<SideHeader>, new: Option<SideHeader> },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    records: u64,
}

/// Upper bounds that a reader enforces before it allocates.
#[derive(Debug, Clone, Copy)]
pub struct ChangesCaps {
    /// Records.
    pub records: u64,
    /// Bytes of one side.
    pub side_bytes: u64,
    /// Bytes of all sides together.
    pub total_bytes: u64,
}

impl Default for ChangesCaps {
    fn default() -> Self {
        Self { records: 200_000, side_bytes: 256 << 20, total_bytes: 1 << 30 }
    }
}

/// Writes the document; side contents are streamed.
pub struct Writer<W> {
    out: W,
    records: u64,
}

impl<W: Write> Writer<W> {
    /// Starts the document.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        Ok(Self { out, records: 0 })
    }

    /// Writes one change. Each side is its mode, its exact size and a reader of just that many bytes.
    pub fn change<'a>(
        &mut self,
        path: &RepoPath,
        base: Option<(Mode, u64, &'a mut (dyn Read + 'a))>,
        new: Option<(Mode, u64, &'a mut (dyn Read + 'a))>,
    ) -> io::Result<()> {
        let side = |s: &Option<(Mode, u64, &'a mut (dyn Read + 'a))>| s.as_ref().map(|(mode, size, _)| SideHeader { mode: *mode, size: *size });
        self.record(&Record::Change { path: path.clone(), base: side(&base), new: side(&new) })?;
        for (_, size, reader) in [base, new].into_iter().flatten() {
            let copied = io::copy(&mut reader.take(size), &mut self.out)?;
            if copied != size {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a side is shorter than announced"));
            }
        }
        self.records += 1;
        Ok(())
    }

    /// Ends the document and returns the writer beneath and the number of records.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        self.record(&Record::End { end: End { records: self.records } })?;
        self.out.flush()?;
        Ok((self.out, self.records))
    }

    fn record(&mut self, record: &Record) -> io::Result<()> {
        let header = serde_json::to_vec(record)?;
        let len = u32::try_from(header.len()).ok().filter(|len| *len <= MAX_HEADER).ok_or_else(|| bad("header too long"))?;
        self.out.write_all(&len.to_be_bytes())?;
        self.out.write_all(&header)
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("sealed changes: {what}"))
}

/// Reads and checks a whole document; the input is hostile.
pub fn read(mut input: impl Read, caps: ChangesCaps) -> io::Result<Vec<Change>> {
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(bad("unknown form"));
    }
    let mut changes: Vec<Change> = Vec::new();
    let mut total = 0u64;
    loop {
        let mut len = [0; 4];
        input.read_exact(&mut len)?;
        let len = u32::from_be_bytes(len);
        if len > MAX_HEADER {
            return Err(bad("header too long"));
        }
        let mut header = vec![0; len as usize];
        input.read_exact(&mut header)?;
        match serde_json::from_slice(&header).map_err(|_| bad("header"))? {
            Record::End { end } => {
                if end.records != changes.len() as u64 || input.read(&mut [0])? != 0 {
                    return Err(bad("end does not fit"));
                }
                return Ok(changes);
            }
            Record::Change { path, base, new } => {
                if changes.len() as u64 >= caps.records {
                    return Err(bad("too many records"));
                }
                if changes.last().is_some_and(|last| last.path >= path) || (base.is_none() && new.is_none()) {
                    return Err(bad("records out of order"));
                }
                let mut side = |header: Option<SideHeader>| -> io::Result<Option<Side>> {
                    let Some(SideHeader { mode, size }) = header else { return Ok(None) };
                    total = total.saturating_add(size);
                    if mode == Mode::Submodule || size > caps.side_bytes || total > caps.total_bytes {
                        return Err(bad("side out of range"));
                    }
                    // Grows as bytes really arrive: an announced size alone allocates nothing.
                    let mut bytes = Vec::new();
                    input.by_ref().take(size).read_to_end(&mut bytes)?;
                    if bytes.len() as u64 != size {
                        return Err(bad("cut"));
                    }
                    Ok(Some(Side { mode, bytes }))
                };
                let base = side(base)?;
                let new = side(new)?;
                if base == new {
                    return Err(bad("a record without a change"));
                }
                changes.push(Change { path, base, new });
            }
        }
    }
}

/// The object id of a side.
pub fn side_id(side: &Side, format: super::manifest::ObjectFormat) -> ObjectId {
    format.hash("blob", &side.bytes)
}
