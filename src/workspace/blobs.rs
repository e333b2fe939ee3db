//! Content of blobs, one after the other, from one `git cat-file --batch` in the shadow.
//!
//! Each blob is hashed on its way: what a repository's pack says of an id is believed only when the bytes have it. Whoever waits for git waits for a
//! bounded time.

use std::io::{self, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use rustix::time::Timespec;
use sha1::Digest as _;

use super::shadow::Shadow;
use crate::error::{Code, Error, Result};
use crate::protocol::manifest::{ObjectFormat, ObjectId, hex};

/// git answers within this, and goes on within this.
const PATIENCE: Timespec = Timespec { tv_sec: 120, tv_nsec: 0 };
/// Memory of git beside the blob itself and what it is a delta of.
const GIT_MEMORY: u64 = 1 << 30;
/// Longest line in front of a blob.
const MAX_HEADER: usize = 256;

/// A reader of blobs; the process ends with it.
pub struct Blobs {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    /// Read from git and not yet taken.
    buffer: Vec<u8>,
    taken: usize,
    format: ObjectFormat,
}

impl Blobs {
    /// Starts git; no blob over `max` bytes will be asked for.
    pub fn new(shadow: &Shadow, max: u64) -> Result<Self> {
        let mut command = shadow.git();
        command.args(["cat-file", "--batch"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|e| failed(e.into()))?;
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let memory = GIT_MEMORY.saturating_add(max.saturating_mul(4));
            let _ = prlimit(Some(pid), Resource::Data, Rlimit { current: Some(memory), maximum: Some(memory) });
        }
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::internal("read objects: git has no pipes"));
        };
        Ok(Self { child, stdin, stdout, buffer: Vec::new(), taken: 0, format: shadow.facts.format })
    }

    /// Appends a blob to `out`.
    pub fn append(&mut self, id: &ObjectId, max: u64, out: &mut Vec<u8>) -> Result<()> {
        self.copy(id, max, &mut |piece| {
            out.extend_from_slice(piece);
            Ok(())
        })
        .map(|_| ())
    }

    /// Hands on a blob in pieces; its size. It must have this id and at most `max` bytes.
    pub fn copy(&mut self, id: &ObjectId, max: u64, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        self.stdin.write_all(format!("{}\n", id.to_hex()).as_bytes()).map_err(|e| failed(e.into()))?;
        let header = self.header()?;
        let size = self.size(&header, id).ok_or_else(|| missing(&header))?;
        if size > max {
            return Err(Error::new(Code::WorkspaceTooLarge, "read an object: it is larger than a file may be").with_detail("actual", size));
        }
        let mut hasher = BlobHasher::new(self.format, size);
        let mut left = size;
        while left > 0 {
            if self.taken >= self.buffer.len() {
                self.fill()?;
            }
            let have = self.buffer.get(self.taken..).unwrap_or_default();
            let piece = have.get(..have.len().min(usize::try_from(left).unwrap_or(usize::MAX))).unwrap_or_default();
            hasher.update(piece);
            sink(piece)?;
            left -= piece.len() as u64;
            self.taken += piece.len();
        }
        if self.byte()? != b'\n' {
            return Err(failed("its answer is not understood".into()));
        }
        if hasher.finish()? != *id {
            return Err(
                Error::new(Code::WorktreeError, "read an object: its content does not have its id").with_hint("`git fsck` says what is damaged")
            );
        }
        Ok(size)
    }

    /// `<id> blob <size>`
    fn size(&self, header: &[u8], id: &ObjectId) -> Option<u64> {
        let text = std::str::from_utf8(header).ok()?;
        text.strip_prefix(&id.to_hex())?.strip_prefix(" blob ")?.parse().ok()
    }

    fn header(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return Ok(line),
                byte if line.len() < MAX_HEADER => line.push(byte),
                _ => return Err(failed("its answer is not understood".into())),
            }
        }
    }

    fn byte(&mut self) -> Result<u8> {
        if self.taken >= self.buffer.len() {
            self.fill()?;
        }
        let byte = self.buffer.get(self.taken).copied().ok_or_else(|| failed("it ended early".into()))?;
        self.taken += 1;
        Ok(byte)
    }

    /// Waits for more, and takes it.
    fn fill(&mut self) -> Result<()> {
        loop {
            match poll(&mut [PollFd::new(&self.stdout, PollFlags::IN)], Some(&PATIENCE)) {
                Ok(0) => return Err(failed("it did not go on in time".into())),
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) => break,
                Err(e) => return Err(failed(e.into())),
            }
        }
        self.buffer.resize(1 << 16, 0);
        self.taken = 0;
        let n = loop {
            match self.stdout.read(&mut self.buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(|e| failed(e.into()))?,
            }
        };
        self.buffer.truncate(n);
        if n == 0 { Err(failed("it ended early".into())) } else { Ok(()) }
    }
}

impl Drop for Blobs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn failed(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::new(Code::WorktreeError, "read the repository's objects with git").with_hint("`git fsck` says what is damaged").with_source(source)
}

/// What a partial clone has not got, or something else than a blob where a tree says that there is one.
fn missing(header: &[u8]) -> Error {
    if header.ends_with(b" missing") {
        return missing_objects();
    }
    Error::new(Code::WorktreeError, "read an object: it is not what the tree says").with_hint("`git fsck` says what is damaged")
}

/// Objects that are not here, and nothing of ours fetches.
pub fn missing_objects() -> Error {
    Error::new(Code::WorktreeError, "read the repository's objects: some are not here, as in a partial clone").with_hint(
        "fetch them first: `git archive COMMIT >/dev/null` for each side fetches what a partial clone lacks; `git fsck` says what is damaged",
    )
}

/// A blob's id, from pieces.
pub enum BlobHasher {
    /// Of a SHA-1 repository.
    Sha1(sha1::Sha1),
    /// Of a SHA-256 repository.
    Sha256(sha2::Sha256),
}

impl BlobHasher {
    /// Of a blob of this size.
    pub fn new(format: ObjectFormat, size: u64) -> Self {
        let header = format!("blob {size}\0");
        match format {
            ObjectFormat::Sha1 => Self::Sha1(sha1::Sha1::new().chain_update(header)),
            ObjectFormat::Sha256 => Self::Sha256(sha2::Sha256::new().chain_update(header)),
        }
    }

    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        match self {
            Self::Sha1(hasher) => hasher.update(piece),
            Self::Sha256(hasher) => hasher.update(piece),
        }
    }

    /// The id.
    pub fn finish(self) -> Result<ObjectId> {
        let digits = match self {
            Self::Sha1(hasher) => hex(&hasher.finalize()),
            Self::Sha256(hasher) => hex(&hasher.finalize()),
        };
        ObjectId::parse(digits.as_bytes()).ok_or_else(|| Error::internal("a digest of the wrong length"))
    }
}
