//! From a plan to zstd frames and a manifest: read, hash and compress on all cores, deliver in order.

use std::io::{self, Read as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::io::Errno;
use sha1::Digest as _;

use super::SnapshotSummary;
use super::beneath::{self, Cursor};
use super::blobs::{BlobHasher, Blobs};
use super::snapshot::{Plan, Planned, millis, over};
use crate::error::{Error, Result};
use crate::protocol::manifest::{Entry, Frame, Manifest, Mode, hex};
use crate::weaken;

/// Plain bytes after which a frame is closed.
const FRAME_BYTES: u64 = 4 << 20;
/// Plain bytes that a frame may come to when files grow after the plan: a frame is held in memory.
const MAX_FRAME_BYTES: u64 = 4 * FRAME_BYTES;
/// zstd's level. Processor time for 290 MB of source-like text: 1.0 s at level 1 (to 115 MB), 0.6 s at -3 (to 217 MB), 1.4 s at 2 (to 100 MB);
/// what -3 saves here, the upload and the unpacking of twice the bytes cost.
const COMPRESSION_LEVEL: i32 = 1;
/// What a Git LFS pointer begins with; a pointer is less than 1024 bytes.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";

/// What [`pack`] leaves behind.
pub struct Packed {
    /// The manifest document.
    pub manifest: Vec<u8>,
    /// Its SHA-256, hex.
    pub manifest_sha256: String,
    /// What was sent, complete.
    pub summary: SnapshotSummary,
}

/// A frame that is ready.
struct Ready {
    zstd: Vec<u8>,
    plain: u64,
    /// With offsets; frame numbers are given at delivery, since a frame may turn out empty.
    entries: Vec<Entry>,
    left_out: Vec<(Vec<u8>, &'static str)>,
    lfs_pointers: Vec<Vec<u8>>,
}

/// Shared between the workers and the delivery.
struct Board {
    /// Next frame that a worker takes.
    next: usize,
    /// Frames delivered so far.
    delivered: usize,
    ready: std::collections::BTreeMap<usize, Result<Ready>>,
    stop: bool,
}

struct Shared {
    board: Mutex<Board>,
    changed: Condvar,
    bytes: AtomicU64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads, hashes and compresses; gives `sink` each frame (index, zstd file) in order, as soon as it is ready. Blocking, uses threads.
///
/// Memory: at most two frames a thread. A file that vanished, or became something else, is left out and said so. An error of `sink` that
/// wraps an [`Error`] comes back as that error.
#[expect(clippy::needless_pass_by_value, reason = "a plan tells of one moment: it is packed once")]
pub fn pack(plan: Plan, sink: &mut dyn FnMut(u32, Vec<u8>) -> io::Result<()>) -> Result<Packed> {
    let start = Instant::now();
    let jobs = cut(&plan.entries);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len()).max(1);
    let shared = Shared {
        board: Mutex::new(Board { next: 0, delivered: 0, ready: std::collections::BTreeMap::new(), stop: false }),
        changed: Condvar::new(),
        bytes: AtomicU64::new(0),
    };
    let mut summary = SnapshotSummary { files: 0, bytes: 0, ..plan.summary.clone() };
    let mut manifest = Manifest { format: plan.format, frames: Vec::new(), entries: Vec::with_capacity(plan.entries.len()) };
    let outcome = std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&plan, &jobs, threads * 2, &shared));
        }
        let outcome = deliver(jobs.len(), &shared, sink, &mut manifest, &mut summary);
        shared.lock().stop = true;
        shared.changed.notify_all();
        outcome
    });
    outcome?;
    manifest.entries.extend(plan.entries.iter().filter(|e| e.mode == Mode::Submodule).map(|e| Entry {
        path: e.path.clone(),
        mode: Mode::Submodule,
        id: e.id,
        size: 0,
        frame: 0,
        offset: 0,
    }));
    manifest.entries.sort_by(|a, b| a.path.cmp(&b.path));
    let mut document = Vec::with_capacity(manifest.entries.len().saturating_mul(128));
    manifest.write(&mut document).map_err(|e| Error::internal("write the manifest").with_source(e))?;
    let manifest_sha256 = hex(&sha2::Sha256::digest(&document));
    summary.pack_ms = millis(start);
    Ok(Packed { manifest: document, manifest_sha256, summary })
}

/// Cuts the list at file boundaries; a file larger than a frame gets one of its own.
fn cut(entries: &[Planned]) -> Vec<&[Planned]> {
    let mut frames = Vec::new();
    let (mut from, mut bytes) = (0, 0u64);
    for (at, entry) in entries.iter().enumerate() {
        if at > from && (entry.size > FRAME_BYTES || bytes >= FRAME_BYTES) {
            frames.push(&entries[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes = bytes.saturating_add(entry.size);
    }
    if from < entries.len() {
        frames.push(&entries[from..]);
    }
    frames
}

fn deliver(
    count: usize,
    shared: &Shared,
    sink: &mut dyn FnMut(u32, Vec<u8>) -> io::Result<()>,
    manifest: &mut Manifest,
    summary: &mut SnapshotSummary,
) -> Result<()> {
    for at in 0..count {
        let mut board = shared.lock();
        let ready = loop {
            if let Some(ready) = board.ready.remove(&at) {
                break ready?;
            }
            board = shared.changed.wait(board).unwrap_or_else(PoisonError::into_inner);
        };
        board.delivered = at + 1;
        drop(board);
        shared.changed.notify_all();
        for (path, why) in &ready.left_out {
            summary.leave_out(path, why);
        }
        for path in &ready.lfs_pointers {
            summary.add_lfs_pointer(path);
        }
        if ready.entries.is_empty() {
            continue;
        }
        let number = u32::try_from(manifest.frames.len()).map_err(|_| Error::internal("more frames than can be numbered"))?;
        summary.files += ready.entries.len() as u64;
        summary.bytes += ready.entries.iter().map(|e| e.size).sum::<u64>();
        manifest.frames.push(Frame { compressed: ready.zstd.len() as u64, plain: ready.plain });
        manifest.entries.extend(ready.entries.into_iter().map(|entry| Entry { frame: number, ..entry }));
        sink(number, ready.zstd).map_err(|e| match e.downcast::<Error>() {
            Ok(error) => error,
            Err(e) => Error::internal("hand on a frame of the workspace").with_source(e),
        })?;
    }
    Ok(())
}

/// One worker: takes the next frame, but never runs further ahead of the delivery than `ahead` frames.
fn work(plan: &Plan, jobs: &[&[Planned]], ahead: usize, shared: &Shared) {
    let mut packer = Packer { plan, cursor: Cursor::new(&plan.root), blobs: None, plain: Vec::new(), bytes: &shared.bytes };
    loop {
        let mut board = shared.lock();
        let at = loop {
            if board.stop || board.next >= jobs.len() {
                return;
            }
            if board.next < board.delivered + ahead {
                break board.next;
            }
            board = shared.changed.wait(board).unwrap_or_else(PoisonError::into_inner);
        };
        board.next = at + 1;
        drop(board);
        let Some(entries) = jobs.get(at) else { return };
        // A defect here must end the delivery, not let it wait for ever.
        let ready = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| packer.frame(entries)))
            .unwrap_or_else(|_| Err(Error::internal("a thread that packs the workspace ended early")));
        shared.lock().ready.insert(at, ready);
        shared.changed.notify_all();
    }
}

struct Packer<'a> {
    plan: &'a Plan,
    cursor: Cursor<'a>,
    /// Started with the first entry that needs it.
    blobs: Option<Blobs>,
    /// Reused from frame to frame.
    plain: Vec<u8>,
    bytes: &'a AtomicU64,
}

/// What reading one entry gave.
enum Got {
    /// `plain` was extended by the content.
    Content(Mode),
    LeftOut(&'static str),
}

impl Packer<'_> {
    fn frame(&mut self, planned: &[Planned]) -> Result<Ready> {
        let mut ready =
            Ready { zstd: Vec::new(), plain: 0, entries: Vec::with_capacity(planned.len()), left_out: Vec::new(), lfs_pointers: Vec::new() };
        if let [entry] = planned
            && entry.size > 2 * FRAME_BYTES
        {
            if entry.origin.is_committed() {
                self.large_blob(entry, &mut ready)?;
            } else {
                self.large(entry, &mut ready)?;
            }
            return Ok(ready);
        }
        self.plain.clear();
        for entry in planned.iter().filter(|e| e.mode != Mode::Submodule) {
            let offset = self.plain.len();
            let got = if entry.origin.is_committed() { self.read_blob(entry)? } else { self.read(entry) };
            match got {
                Got::LeftOut(why) => {
                    self.plain.truncate(offset);
                    ready.left_out.push((entry.path.as_bytes().to_vec(), why));
                }
                Got::Content(mode) => {
                    let content = self.plain.get(offset..).unwrap_or_default();
                    if content.len() < 1024 && content.starts_with(LFS_POINTER) {
                        ready.lfs_pointers.push(entry.path.as_bytes().to_vec());
                    }
                    let id = self.plan.format.hash("blob", content);
                    let size = content.len() as u64;
                    self.charge(size)?;
                    ready.entries.push(Entry { path: entry.path.clone(), mode, id, size, frame: 0, offset: offset as u64 });
                }
            }
        }
        ready.plain = self.plain.len() as u64;
        if !ready.entries.is_empty() {
            let mut compressor = zstd::bulk::Compressor::new(COMPRESSION_LEVEL).map_err(compress_failed)?;
            // So that a frame that was damaged on its way is noticed when it is unpacked.
            compressor.include_checksum(true).map_err(compress_failed)?;
            ready.zstd = compressor.compress(&self.plain).map_err(compress_failed)?;
        }
        Ok(ready)
    }

    /// Files may grow after the plan: the sum is kept while reading, too.
    fn charge(&self, size: u64) -> Result<()> {
        let total = self.bytes.fetch_add(size, Ordering::Relaxed).saturating_add(size);
        over("the size of all tracked files", "max_bytes", self.plan.caps.max_bytes.0, total)
    }

    fn blobs(&mut self) -> Result<&mut Blobs> {
        if self.blobs.is_none() {
            self.blobs = Some(Blobs::new(&self.plan.shadow, self.plan.caps.max_file.0)?);
        }
        self.blobs.as_mut().ok_or_else(|| Error::internal("read objects: no reader"))
    }

    /// Bytes of a commit: what the tree names, or an error.
    fn read_blob(&mut self, entry: &Planned) -> Result<Got> {
        let mut plain = std::mem::take(&mut self.plain);
        let start = plain.len();
        let read = self.blobs().and_then(|blobs| blobs.append(&entry.id, entry.size, &mut plain));
        self.plain = plain;
        read?;
        let text = self.plain.get(start..).unwrap_or_default();
        Ok(if entry.mode == Mode::Symlink && !is_link_text(text) { Got::LeftOut("refused_link") } else { Got::Content(entry.mode) })
    }

    /// [`Packer::large`] for bytes of a commit.
    fn large_blob(&mut self, entry: &Planned, ready: &mut Ready) -> Result<()> {
        if entry.mode == Mode::Symlink {
            ready.left_out.push((entry.path.as_bytes().to_vec(), "refused_link"));
            return Ok(());
        }
        let mut encoder = encoder(entry.size)?;
        let size = self.blobs()?.copy(&entry.id, entry.size, &mut |piece| io::Write::write_all(&mut encoder, piece).map_err(compress_failed))?;
        self.charge(size)?;
        ready.zstd = encoder.finish().map_err(compress_failed)?;
        ready.plain = size;
        ready.entries.push(Entry { path: entry.path.clone(), mode: entry.mode, id: entry.id, size, frame: 0, offset: 0 });
        Ok(())
    }

    /// Reads what is really there now.
    fn read(&mut self, entry: &Planned) -> Got {
        let mut max = self.plan.caps.max_file.0;
        if !weaken::off("export.announced_size") {
            // As planned all files of a frame have room twice over.
            max = max.min(MAX_FRAME_BYTES.saturating_sub(self.plain.len() as u64));
        }
        let (dir, name) = match self.cursor.at(entry.path.as_bytes()) {
            Ok(at) => at,
            Err(e) => return Got::LeftOut(why(e)),
        };
        // The index's word is the better first guess; the disk decides.
        let first_link = entry.mode == Mode::Symlink && !weaken::off("export.nofollow");
        for link in [first_link, !first_link] {
            if link {
                match beneath::read_link(dir, name) {
                    Ok(text) => {
                        self.plain.extend(text);
                        return Got::Content(Mode::Symlink);
                    }
                    Err(Errno::INVAL) => {}
                    Err(e) => return Got::LeftOut(why(e)),
                }
            } else {
                match beneath::open_file(dir, name) {
                    Ok((file, stat)) => {
                        let start = self.plain.len() as u64;
                        if file.take(max.saturating_add(1)).read_to_end(&mut self.plain).is_err() {
                            return Got::LeftOut("unreadable");
                        }
                        // It grew over what a file or a frame may have since the plan.
                        if self.plain.len() as u64 - start > max {
                            return Got::LeftOut("changed_while_read");
                        }
                        return Got::Content(file_mode(self.plan.file_mode, entry.mode, stat.st_mode));
                    }
                    Err(Errno::LOOP) => {}
                    Err(e) => return Got::LeftOut(why(e)),
                }
            }
        }
        Got::LeftOut("changed_while_read")
    }

    /// A large file is never held whole: it runs through the hash and the compressor in pieces. Its size must be known before the
    /// first byte (git hashes it in front), so one that changes meanwhile is tried again, then left out.
    fn large(&mut self, entry: &Planned, ready: &mut Ready) -> Result<()> {
        for _ in 0..3 {
            let opened = self.cursor.at(entry.path.as_bytes()).and_then(|(dir, name)| beneath::open_file(dir, name));
            let (mut file, stat) = match opened {
                Ok(opened) => opened,
                Err(e) => {
                    ready.left_out.push((entry.path.as_bytes().to_vec(), if e == Errno::LOOP { "changed_while_read" } else { why(e) }));
                    return Ok(());
                }
            };
            let size = beneath::size(&stat);
            // A large one may grow, too: it passes in pieces, but its compressed form is held.
            if size > self.plan.caps.max_file.0 {
                break;
            }
            let mut hasher = BlobHasher::new(self.plan.format, size);
            let mut encoder = encoder(size)?;
            self.plain.resize(1 << 20, 0);
            let mut left = size;
            let unreadable = loop {
                let want = usize::try_from(left.min(1 << 20)).unwrap_or(1 << 20);
                let piece = self.plain.get_mut(..want).unwrap_or_default();
                match file.read(piece) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break true,
                    Ok(0) => break false,
                    Ok(n) => {
                        let piece = piece.get(..n).unwrap_or_default();
                        hasher.update(piece);
                        io::Write::write_all(&mut encoder, piece).map_err(compress_failed)?;
                        left -= n as u64;
                    }
                }
            };
            if unreadable {
                ready.left_out.push((entry.path.as_bytes().to_vec(), "unreadable"));
                return Ok(());
            }
            if left == 0 && matches!(file.read(&mut [0]), Ok(0)) {
                self.charge(size)?;
                ready.zstd = encoder.finish().map_err(compress_failed)?;
                ready.plain = size;
                let mode = file_mode(self.plan.file_mode, entry.mode, stat.st_mode);
                ready.entries.push(Entry { path: entry.path.clone(), mode, id: hasher.finish()?, size, frame: 0, offset: 0 });
                return Ok(());
            }
        }
        ready.left_out.push((entry.path.as_bytes().to_vec(), "changed_while_read"));
        Ok(())
    }
}

/// What the kernel takes for the text of a link.
fn is_link_text(text: &[u8]) -> bool {
    !text.is_empty() && text.len() < crate::protocol::repo_path::MAX_PATH && !text.contains(&0)
}

/// For a frame that holds one large file.
fn encoder(size: u64) -> Result<zstd::stream::Encoder<'static, Vec<u8>>> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), COMPRESSION_LEVEL).map_err(compress_failed)?;
    encoder.include_checksum(true).map_err(compress_failed)?;
    encoder.set_pledged_src_size(Some(size)).map_err(compress_failed)?;
    Ok(encoder)
}

/// The executable bit on disk; where the repository says that the disk's bits mean nothing, the index's.
pub(super) fn file_mode(meant: bool, listed: Mode, st_mode: u32) -> Mode {
    let executable = if meant { st_mode & 0o100 != 0 } else { listed == Mode::Executable };
    if executable { Mode::Executable } else { Mode::File }
}

pub(super) fn why(e: Errno) -> &'static str {
    match e {
        Errno::LOOP => "beyond_symlink",
        Errno::NXIO => "special_file",
        // It was there when the plan was made.
        Errno::NOENT | Errno::NOTDIR | Errno::INVAL => "changed_while_read",
        _ => "unreadable",
    }
}

fn compress_failed(e: io::Error) -> Error {
    Error::internal("compress the workspace").with_source(e)
}
