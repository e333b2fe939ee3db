//! The first child: as the agent, makes the delivered tree and its repository in `/workspace`, and the table of stamps for the seal.
//!
//! Frames are handed out in groups to a few threads. Directories are made on the way, symlinks last: while files are made there is no link
//! that could be followed. Each group becomes one git pack. In a small tree the packs are written while the bytes are at hand; in a large
//! one they would double the time until Codex can start, so they follow at low priority ([`Later`]): `git status` works at once, because
//! index, trees and commit are there, and `git diff` as soon as the packs are.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{AtFlags, Mode as FileMode, OFlags, mkdirat, openat};
use serde::{Deserialize, Serialize};

use super::gitrepo::{self, GitDir};
use super::pack::{Kind, PackWriter};
use super::state::Stamp;
use crate::protocol::manifest::{Entry, Manifest, Mode, ObjectId};
use crate::protocol::repo_path::RepoPath;

/// What the child is told, besides the manifest and the frames.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Options {
    /// The agent's uid and gid.
    pub agent_uid: u32,
    /// Made if the tree does not hold it.
    pub subdirectory: Option<RepoPath>,
    /// Subject of the synthetic commit; `None` makes no repository.
    pub commit_subject: Option<String>,
    /// Time of the synthetic commit.
    pub unix_seconds: u64,
    /// Threads.
    pub workers: usize,
}

/// Read in chunks of this many bytes.
const CHUNK: usize = 1 << 18;
/// Trees with more bytes than this get their blobs packed after Codex was started.
const INLINE_BLOBS: u64 = 24 << 20;
/// Packs get no larger than this, so that offsets stay below 2 GiB.
const MAX_GROUP: u64 = 512 << 20;

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Open directories along the current path.
pub struct Directories {
    root: OwnedFd,
    stack: Vec<(Vec<u8>, OwnedFd)>,
}

impl Directories {
    /// At an open root.
    pub fn new(root: OwnedFd) -> Self {
        Self { root, stack: Vec::new() }
    }

    /// Goes to a directory beneath the root and makes what is missing; follows no link.
    pub fn enter(&mut self, path: &[u8]) -> io::Result<&OwnedFd> {
        let wanted = path.split(|b| *b == b'/').filter(|name| !name.is_empty());
        let shared = wanted.clone().zip(&self.stack).take_while(|(name, (open, _))| *name == open.as_slice()).count();
        self.stack.truncate(shared);
        for name in wanted.skip(shared) {
            let parent = self.stack.last().map_or(&self.root, |(_, fd)| fd);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = match openat(parent, name, flags, FileMode::empty()) {
                Err(rustix::io::Errno::NOENT) => {
                    match mkdirat(parent, name, FileMode::from_raw_mode(0o755)) {
                        // Another thread made it in between.
                        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                        Err(e) => return Err(e.into()),
                    }
                    openat(parent, name, flags, FileMode::empty())?
                }
                other => other?,
            };
            self.stack.push((name.to_vec(), fd));
        }
        Ok(self.stack.last().map_or(&self.root, |(_, fd)| fd))
    }
}

/// A run of frames that one thread unpacks into one pack.
struct Group {
    /// Frame number and its entries, as indices into the manifest, by offset. `None` holds empty files that lie in no frame.
    frames: Vec<(Option<u32>, Vec<usize>)>,
}

fn group_frames(manifest: &Manifest, workers: usize) -> io::Result<Vec<Group>> {
    let mut frames: Vec<Vec<usize>> = vec![Vec::new(); manifest.frames.len()];
    let mut frameless = Vec::new();
    for (at, entry) in manifest.entries.iter().enumerate().filter(|(_, entry)| matches!(entry.mode, Mode::File | Mode::Executable)) {
        match frames.get_mut(entry.frame as usize) {
            Some(frame) => frame.push(at),
            None if entry.size == 0 => frameless.push(at),
            None => return Err(at_path(&invalid("its frame does not exist"), entry)),
        }
    }
    let total: u64 = manifest.frames.iter().map(|frame| frame.plain).sum();
    // Enough groups that the threads end at about the same time, few enough that git finds objects quickly.
    let target = (total / (workers as u64 * 6)).clamp(16 << 20, MAX_GROUP);
    let mut groups = Vec::new();
    let (mut open, mut size) = (Group { frames: vec![(None, frameless)] }, 0u64);
    for (number, mut entries) in (0u32..).zip(frames) {
        let plain = manifest.frames.get(number as usize).map_or(0, |frame| frame.plain);
        if size > 0 && size + plain > target {
            groups.push(std::mem::replace(&mut open, Group { frames: Vec::new() }));
            size = 0;
        }
        entries.sort_by_key(|at| manifest.entries.get(*at).map_or(0, |entry| entry.offset));
        open.frames.push((Some(number), entries));
        size += plain;
    }
    groups.push(open);
    Ok(groups)
}

/// What an unpacked tree is.
pub struct Unpacked {
    /// One stamp an entry.
    pub stamps: Vec<Stamp>,
    /// Bytes on disk, those of packs still to be written included.
    pub disk_bytes: u64,
    /// The rest of the work.
    pub later: Option<Later>,
}

/// Blobs that are still to be packed.
pub struct Later {
    git: GitDir,
}

impl Later {
    /// Packs them, one thread at the lowest priority.
    pub fn pack_blobs(self, manifest: &Manifest, frames: &[File], workers: usize) -> io::Result<()> {
        // Best effort: without it the packs only take more from Codex.
        let _ = rustix::process::nice(19);
        let groups = group_frames(manifest, workers.max(1))?;
        let shared = Shared { manifest, frames, files: None, git: Some(&self.git), next: AtomicUsize::new(0), failed: AtomicBool::new(false) };
        shared.work(&groups, &mut Vec::new()).inspect_err(|_| self.git.disable())
    }
}

/// Unpacks everything beneath `workspace`, which is empty and belongs to this process's user.
pub fn unpack(workspace: &OwnedFd, manifest: &Manifest, frames: &[File], options: &Options) -> io::Result<Unpacked> {
    if frames.len() != manifest.frames.len() {
        return Err(invalid("not as many frames as the manifest says"));
    }
    // Modes are exactly those given below.
    rustix::process::umask(FileMode::empty());
    let git = match &options.commit_subject {
        Some(subject) => Some((GitDir::create(workspace, manifest.format)?, subject)),
        None => None,
    };
    let plain: u64 = manifest.frames.iter().map(|frame| frame.plain).sum();
    let inline = git.as_ref().map(|(dir, _)| dir).filter(|_| plain <= INLINE_BLOBS);
    let groups = group_frames(manifest, options.workers.max(1))?;
    let shared = Shared { manifest, frames, files: Some(workspace), git: inline, next: AtomicUsize::new(0), failed: AtomicBool::new(false) };
    let mut stamps = vec![Stamp::default(); manifest.entries.len()];
    let trees = std::thread::scope(|scope| -> io::Result<_> {
        let mut workers = Vec::new();
        for _ in 0..options.workers.clamp(1, groups.len().max(1)) {
            let (shared, groups) = (&shared, &groups);
            workers.push(scope.spawn(move || -> io::Result<_> {
                let mut stamps = Vec::new();
                let done = shared.work(groups, &mut stamps);
                if done.is_err() {
                    shared.failed.store(true, Ordering::Relaxed);
                }
                done.map(|()| stamps)
            }));
        }
        let trees = match &git {
            Some((dir, subject)) => {
                let trees = gitrepo::build_trees(manifest);
                dir.commit(&trees, subject, options.unix_seconds)?;
                Some(trees)
            }
            None => None,
        };
        for worker in workers {
            for (at, stamp) in worker.join().map_err(|_| io::Error::other("an unpacking thread ended early"))?? {
                if let Some(slot) = stamps.get_mut(at) {
                    *slot = stamp;
                }
            }
        }
        Ok(trees)
    })?;
    links_and_submodules(workspace, manifest, frames, git.as_ref().map(|(dir, _)| dir), &mut stamps)?;
    make_subdirectory(workspace, options)?;
    // A write by the agent must get a later ctime than anything recorded here, and git must not take entries for racily clean.
    pass_clock(stamps.iter().map(|stamp| stamp.ctime_ns).max().unwrap_or(0));
    if let (Some((dir, _)), Some(trees)) = (&git, &trees) {
        let dev = rustix::fs::fstat(workspace)?.st_dev;
        dir.index(manifest, &stamps, dev, options.agent_uid, &trees.cache)?;
    }
    let on_disk: u64 = stamps.iter().map(|stamp| stamp.size.next_multiple_of(4096)).sum();
    let disk_bytes = on_disk + if git.is_some() { plain } else { 0 };
    let later = git.filter(|_| plain > INLINE_BLOBS).map(|(git, _)| Later { git });
    Ok(Unpacked { stamps, disk_bytes, later })
}

/// Where Codex starts is there, whether the tree holds it or not.
pub fn make_subdirectory(workspace: &OwnedFd, options: &Options) -> io::Result<()> {
    if let Some(path) = &options.subdirectory {
        Directories::new(workspace.try_clone()?).enter(path.as_bytes())?;
    }
    Ok(())
}

/// Waits until the kernel's coarse clock, from which timestamps are taken, is past a time.
fn pass_clock(ns: i64) {
    for _ in 0..1000 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        #[expect(clippy::useless_conversion, reason = "the field types differ between architectures")]
        if i64::from(now.tv_sec).saturating_mul(1_000_000_000).saturating_add(i64::from(now.tv_nsec)) > ns {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

struct Shared<'a> {
    manifest: &'a Manifest,
    frames: &'a [File],
    /// Where files are made, if they are.
    files: Option<&'a OwnedFd>,
    /// Where blobs are packed, if they are.
    git: Option<&'a GitDir>,
    next: AtomicUsize,
    failed: AtomicBool,
}

impl Shared<'_> {
    fn work(&self, groups: &[Group], stamps: &mut Vec<(usize, Stamp)>) -> io::Result<()> {
        let mut directories = match self.files {
            Some(root) => Some(Directories::new(root.try_clone()?)),
            None => None,
        };
        let mut buffer = vec![0; CHUNK];
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(group) = groups.get(number) else { return Ok(()) };
            let entries = group.frames.iter().flat_map(|(_, entries)| entries).filter_map(|at| self.manifest.entries.get(*at));
            let mut wanted = if self.git.is_some() { gitrepo::distinct(entries) } else { HashSet::new() };
            let mut pack = match self.git {
                Some(git) if !wanted.is_empty() => {
                    Some(git.pack(number, u32::try_from(wanted.len()).map_err(|_| invalid("too many objects in one pack"))?)?)
                }
                _ => None,
            };
            for (frame, entries) in &group.frames {
                if self.failed.load(Ordering::Relaxed) {
                    return Ok(());
                }
                self.frame(*frame, entries, &mut directories, &mut buffer, &mut pack, &mut wanted, stamps)?;
            }
            if let (Some(git), Some(pack)) = (self.git, pack) {
                git.finish_pack(number, pack)?;
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the buffers of one thread, kept over its frames")]
    fn frame(
        &self,
        number: Option<u32>,
        entries: &[usize],
        directories: &mut Option<Directories>,
        buffer: &mut [u8],
        pack: &mut Option<PackWriter>,
        wanted: &mut HashSet<ObjectId>,
        stamps: &mut Vec<(usize, Stamp)>,
    ) -> io::Result<()> {
        let mut plain = match number {
            Some(number) => Some(FrameReader::new(FromStart::new(self.frames.get(number as usize).ok_or_else(|| invalid("no such frame"))?))?),
            None => None,
        };
        for at in entries {
            let Some(entry) = self.manifest.entries.get(*at) else { continue };
            if let Some(plain) = plain.as_mut().filter(|_| entry.size > 0) {
                plain.skip_to(entry.offset)?;
            }
            let mut file = match directories {
                Some(directories) => Some(create(directories, entry).map_err(|e| at_path(&e, entry))?),
                None => None,
            };
            let mut packed = if wanted.remove(&entry.id) { pack.as_mut() } else { None };
            if let Some(pack) = &mut packed {
                pack.begin(Kind::Blob, entry.id, entry.size)?;
            }
            let mut left = entry.size;
            while left > 0 {
                let part = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                let chunk = buffer.get_mut(..part).unwrap_or_default();
                plain.as_mut().ok_or_else(|| invalid("no such frame"))?.read_exact(chunk)?;
                if let Some(file) = &mut file {
                    file.write_all(chunk).map_err(|e| at_path(&e, entry))?;
                }
                if let Some(pack) = &mut packed {
                    pack.data(chunk)?;
                }
                left -= part as u64;
            }
            if let Some(pack) = packed {
                pack.end()?;
            }
            if let Some(file) = file {
                stamps.push((*at, Stamp::new(&rustix::fs::fstat(file.as_fd())?)));
            }
        }
        if let (Some(plain), Some(frame)) = (&mut plain, number.and_then(|number| self.manifest.frames.get(number as usize))) {
            plain.end_at(frame.plain)?;
        }
        Ok(())
    }
}

fn create(directories: &mut Directories, entry: &Entry) -> io::Result<File> {
    let directory = directories.enter(entry.path.parent().unwrap_or_default())?;
    let mode = if entry.mode == Mode::Executable { 0o755 } else { 0o644 };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(directory, entry.path.file_name(), flags, FileMode::from_raw_mode(mode))?.into())
}

fn at_path(e: &io::Error, entry: &Entry) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", crate::display::line(entry.path.as_bytes())))
}

/// Symlinks and empty directories, after every file: their bytes are few, so they are read again from their frames.
fn links_and_submodules(workspace: &OwnedFd, manifest: &Manifest, frames: &[File], git: Option<&GitDir>, stamps: &mut [Stamp]) -> io::Result<()> {
    let mut directories = Directories::new(workspace.try_clone()?);
    // Submodules first: `enter` would otherwise meet links.
    for (at, entry) in manifest.entries.iter().enumerate().filter(|(_, entry)| entry.mode == Mode::Submodule) {
        let made = directories.enter(entry.path.as_bytes()).map_err(|e| at_path(&e, entry))?;
        if let Some(slot) = stamps.get_mut(at) {
            *slot = Stamp::new(&rustix::fs::fstat(made)?);
        }
    }
    let mut links: Vec<usize> = manifest.entries.iter().enumerate().filter(|(_, entry)| entry.mode == Mode::Symlink).map(|(at, _)| at).collect();
    links.sort_by_key(|at| manifest.entries.get(*at).map(|entry| (entry.frame, entry.offset)));
    let mut targets = Vec::with_capacity(links.len());
    let mut open: Option<(u32, FrameReader<FromStart<'_>>)> = None;
    for at in links {
        let Some(entry) = manifest.entries.get(at) else { continue };
        // The kernel takes no longer target.
        if entry.size == 0 || entry.size > 4095 {
            return Err(at_path(&invalid("a link's target has an impossible length"), entry));
        }
        if open.as_ref().is_none_or(|(frame, _)| *frame != entry.frame) {
            let file = frames.get(entry.frame as usize).ok_or_else(|| invalid("no such frame"))?;
            open = Some((entry.frame, FrameReader::new(FromStart::new(file))?));
        }
        let Some((_, plain)) = &mut open else { continue };
        plain.skip_to(entry.offset)?;
        let mut target = vec![0; usize::try_from(entry.size).unwrap_or(0)];
        plain.read_exact(&mut target)?;
        targets.push((at, entry, target));
    }
    if let Some(git) = git {
        let mut wanted = gitrepo::distinct(targets.iter().map(|(_, entry, _)| *entry));
        if let Ok(count @ 1..) = u32::try_from(wanted.len()) {
            let mut pack = git.pack(usize::MAX - 1, count)?;
            for (_, entry, target) in &targets {
                if wanted.remove(&entry.id) {
                    pack.object(Kind::Blob, entry.id, target)?;
                }
            }
            git.finish_pack(usize::MAX - 1, pack)?;
        }
    }
    // In path order; a link in another entry's way makes `enter` fail, because it follows none.
    targets.sort_by_key(|(at, _, _)| *at);
    for (at, entry, target) in &targets {
        let directory = directories.enter(entry.path.parent().unwrap_or_default()).map_err(|e| at_path(&e, entry))?;
        rustix::fs::symlinkat(target.as_slice(), directory, entry.path.file_name()).map_err(|e| at_path(&e.into(), entry))?;
        if let Some(slot) = stamps.get_mut(*at) {
            *slot = Stamp::new(&rustix::fs::statat(directory, entry.path.file_name(), AtFlags::SYMLINK_NOFOLLOW)?);
        }
    }
    Ok(())
}

/// Reads a frame's plain content forwards.
pub struct FrameReader<R: Read> {
    decoder: zstd::stream::read::Decoder<'static, io::BufReader<R>>,
    position: u64,
}

/// Reads a file from its start, without moving the offset that its descriptor shares.
pub struct FromStart<'a> {
    file: &'a File,
    at: u64,
}

impl<'a> FromStart<'a> {
    /// Of a file.
    pub fn new(file: &'a File) -> Self {
        Self { file, at: 0 }
    }
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = std::os::unix::fs::FileExt::read_at(self.file, buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl<R: Read> FrameReader<R> {
    /// At the frame's start.
    pub fn new(compressed: R) -> io::Result<Self> {
        let mut decoder = zstd::stream::read::Decoder::new(compressed)?;
        // A frame that asks for a larger window than 128 MiB is not ours.
        decoder.window_log_max(27)?;
        Ok(Self { decoder, position: 0 })
    }

    /// Where the next read begins in the plain content.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes forward to an offset.
    pub fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        let Some(gap) = offset.checked_sub(self.position) else { return Err(invalid("entries overlap in their frame")) };
        if gap > 0 && io::copy(&mut self.take(gap), &mut io::sink())? != gap {
            return Err(invalid("a frame is shorter than the manifest says"));
        }
        Ok(())
    }
}

impl<R: Read> FrameReader<R> {
    /// Reads to the end, where the checksum stands.
    fn end_at(&mut self, size: u64) -> io::Result<()> {
        self.skip_to(size)?;
        if self.read(&mut [0])? != 0 {
            return Err(invalid("a frame is longer than the manifest says"));
        }
        Ok(())
    }
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
