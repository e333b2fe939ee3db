//! A throw-away object store, written by hand: one pack with the blobs and trees of both sides, and an index of the base tree.
//!
//! Writing the pack ourselves costs no process and knows no quoting: no name and no byte of a job is ever parsed by git as a command.

use std::collections::HashSet;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use rustix::io::Errno;
use sha1::Digest as _;

use super::scratch::Scratch;
use super::shadow::{self, Facts, NEUTRAL_ATTRIBUTES};
use crate::error::{Error, Result};
use crate::protocol::manifest::{Mode, ObjectFormat, ObjectId};
use crate::protocol::repo_path::RepoPath;

/// A file of a tree.
#[derive(Clone, Copy)]
pub struct TreeFile<'a> {
    /// Where.
    pub path: &'a RepoPath,
    /// What kind.
    pub mode: Mode,
    /// Its blob.
    pub id: ObjectId,
}

/// Objects on their way into a store.
pub struct Objects<'a> {
    format: ObjectFormat,
    seen: HashSet<ObjectId>,
    blobs: Vec<(ObjectId, &'a [u8])>,
    trees: Vec<(ObjectId, Vec<u8>)>,
}

impl<'a> Objects<'a> {
    /// None yet.
    pub fn new(format: ObjectFormat) -> Self {
        Self { format, seen: HashSet::new(), blobs: Vec::new(), trees: Vec::new() }
    }

    /// Adds content whose id is known.
    pub fn blob(&mut self, id: ObjectId, bytes: &'a [u8]) {
        if self.seen.insert(id) {
            self.blobs.push((id, bytes));
        }
    }

    /// Adds the tree of files given in ascending order of their path bytes, none beneath another, and returns its id.
    ///
    /// A loop with a stack of open directories: a hostile path may be two thousand levels deep.
    pub fn tree(&mut self, files: &[TreeFile<'_>]) -> ObjectId {
        let mut open: Vec<(&[u8], Vec<TreeEntry>)> = vec![(b"", Vec::new())];
        let mut at: Vec<&[u8]> = Vec::new();
        for file in files {
            let mut parts: Vec<&[u8]> = file.path.as_bytes().split(|b| *b == b'/').collect();
            let name = parts.pop().unwrap_or_default();
            let common = at.iter().zip(&parts).take_while(|(a, b)| a == b).count();
            self.close(&mut open, common);
            for part in parts.get(common..).unwrap_or_default() {
                open.push((part, Vec::new()));
            }
            at = parts;
            if let Some((_, entries)) = open.last_mut() {
                entries.push(TreeEntry { name: name.to_vec(), mode: file.mode.as_str(), directory: false, id: file.id });
            }
        }
        self.close(&mut open, 0);
        let (_, entries) = open.pop().unwrap_or_default();
        self.write_tree(entries)
    }

    /// Closes directories until `depth` of them stay open below the top.
    fn close(&mut self, open: &mut Vec<(&[u8], Vec<TreeEntry>)>, depth: usize) {
        while open.len() > depth + 1 {
            let Some((name, entries)) = open.pop() else { return };
            let id = self.write_tree(entries);
            if let Some((_, above)) = open.last_mut() {
                above.push(TreeEntry { name: name.to_vec(), mode: "40000", directory: true, id });
            }
        }
    }

    fn write_tree(&mut self, mut entries: Vec<TreeEntry>) -> ObjectId {
        // git orders a directory as if its name ended with a slash.
        entries.sort_by(|a, b| a.sort_key().cmp(b.sort_key()));
        let mut bytes = Vec::new();
        for entry in &entries {
            bytes.extend(entry.mode.bytes());
            bytes.push(b' ');
            bytes.extend(&entry.name);
            bytes.push(0);
            bytes.extend(entry.id.as_bytes());
        }
        let id = self.format.hash("tree", &bytes);
        if self.seen.insert(id) {
            self.trees.push((id, bytes));
        }
        id
    }
}

struct TreeEntry {
    name: Vec<u8>,
    mode: &'static str,
    directory: bool,
    id: ObjectId,
}

impl TreeEntry {
    fn sort_key(&self) -> impl Iterator<Item = &u8> {
        self.name.iter().chain(self.directory.then_some(&b'/'))
    }
}

/// A bare git directory with the objects in it; removed when dropped.
pub struct Store {
    dir: Scratch,
}

impl Store {
    /// Writes the objects.
    pub fn new(objects: &Objects<'_>) -> Result<Self> {
        let store = Self { dir: shadow::bare(&Facts::own(objects.format))? };
        write_pack(&store.path().join("objects/pack"), objects).map_err(failed)?;
        Ok(store)
    }

    /// The git directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `git` in the store.
    pub fn git(&self) -> Command {
        let mut command = crate::process::git(self.path(), self.path());
        // Room for a path of two thousand directories.
        command.args(["-c", "core.looseCompression=0", "-c", "core.maxTreeDepth=4096"]);
        command
    }

    /// An error where the file system has no room for so many bytes more.
    pub fn has_room(&self, bytes: u64) -> Result<()> {
        let file = tempfile::tempfile_in(self.path()).map_err(failed)?;
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            Err(e @ (Errno::NOSPC | Errno::DQUOT)) => Err(failed(e.into())),
            // What cannot be tried is not called full.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// From now on git takes all content for binary.
    pub fn all_binary(&self) -> Result<()> {
        std::fs::write(self.path().join("info/attributes"), format!("{NEUTRAL_ATTRIBUTES}* -diff\n")).map_err(failed)
    }

    /// Writes the index of a tree; files ascend by path bytes.
    pub fn write_index(&self, format: ObjectFormat, files: &[TreeFile<'_>]) -> Result<()> {
        let mut out = Hashing::new(BufWriter::new(std::fs::File::create(self.path().join("index")).map_err(failed)?), format);
        let written = || -> io::Result<()> {
            out.write_all(b"DIRC\0\0\0\x02")?;
            out.write_all(&count(files.len())?.to_be_bytes())?;
            for file in files {
                let path = file.path.as_bytes();
                // No stat data: times, device, inode are zero; mode; owner and size are zero.
                let mut entry = vec![0; 24];
                let mode = u32::from_str_radix(file.mode.as_str(), 8).map_err(io::Error::other)?;
                entry.extend(mode.to_be_bytes());
                entry.extend([0; 12]);
                entry.extend(file.id.as_bytes());
                entry.extend(u16::try_from(path.len().min(0xfff)).unwrap_or(0xfff).to_be_bytes());
                entry.extend(path);
                // One to eight NUL bytes up to a multiple of eight.
                entry.resize((entry.len() + 8) & !7, 0);
                out.write_all(&entry)?;
            }
            out.finish()?.0.flush()
        };
        written().map_err(failed)
    }
}

fn failed(e: io::Error) -> Error {
    Error::new(crate::error::Code::SetupFailed, "write a throw-away object store")
        .with_hint("see that TMPDIR names a writable directory with free space")
        .with_source(e)
}

fn count(n: usize) -> io::Result<u32> {
    u32::try_from(n).map_err(io::Error::other)
}

/// Hashes what goes through.
struct Hashing<W> {
    out: W,
    sha1: Option<sha1::Sha1>,
    sha256: Option<sha2::Sha256>,
    written: u64,
}

impl<W: io::Write> Hashing<W> {
    fn new(out: W, format: ObjectFormat) -> Self {
        Self {
            out,
            sha1: (format == ObjectFormat::Sha1).then(sha1::Sha1::new),
            sha256: (format == ObjectFormat::Sha256).then(sha2::Sha256::new),
            written: 0,
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(hasher) = &mut self.sha1 {
            hasher.update(bytes);
        }
        if let Some(hasher) = &mut self.sha256 {
            hasher.update(bytes);
        }
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Writes the digest behind the content and returns it.
    fn finish(mut self) -> io::Result<(W, Vec<u8>)> {
        let digest = match (self.sha1.take(), self.sha256.take()) {
            (Some(hasher), _) => hasher.finalize().to_vec(),
            (_, Some(hasher)) => hasher.finalize().to_vec(),
            _ => Vec::new(),
        };
        self.out.write_all(&digest)?;
        Ok((self.out, digest))
    }
}

/// A pack and its index, version 2 each (git's `gitformat-pack`). Nothing is deltified or compressed: it lives for milliseconds.
pub(super) fn write_pack(dir: &Path, objects: &Objects<'_>) -> io::Result<()> {
    let total = objects.blobs.len() + objects.trees.len();
    let mut out = Hashing::new(BufWriter::with_capacity(1 << 18, std::fs::File::create(dir.join("pack-all.pack"))?), objects.format);
    out.write_all(b"PACK\0\0\0\x02")?;
    out.write_all(&count(total)?.to_be_bytes())?;
    let mut index: Vec<(ObjectId, u32, u32)> = Vec::with_capacity(total);
    let blobs = objects.blobs.iter().map(|(id, bytes)| (id, 3u8, *bytes));
    let trees = objects.trees.iter().map(|(id, bytes)| (id, 2u8, bytes.as_slice()));
    for (id, kind, bytes) in blobs.chain(trees) {
        let offset = u32::try_from(out.written).ok().filter(|o| *o < 1 << 31).ok_or_else(|| io::Error::other("a pack over 2 GiB"))?;
        // Kind and size: four bits of the size beside the kind, then seven bits a byte, lowest first.
        let mut packed = Vec::with_capacity(bytes.len() + bytes.len() / 8192 + 64);
        let mut size = bytes.len();
        let mut byte = kind << 4 | u8::try_from(size & 15).unwrap_or(0);
        size >>= 4;
        while size > 0 {
            packed.push(byte | 0x80);
            byte = u8::try_from(size & 0x7f).unwrap_or(0);
            size >>= 7;
        }
        packed.push(byte);
        let mut zlib = ZlibEncoder::new(packed, Compression::none());
        zlib.write_all(bytes)?;
        let packed = zlib.finish()?;
        index.push((*id, crc32fast::hash(&packed), offset));
        out.write_all(&packed)?;
    }
    let (mut file, digest) = out.finish()?;
    file.flush()?;
    index.sort_unstable_by_key(|(id, ..)| *id);
    let mut out = Hashing::new(BufWriter::new(std::fs::File::create(dir.join("pack-all.idx"))?), objects.format);
    out.write_all(b"\xfftOc\0\0\0\x02")?;
    for first in 0..=255u8 {
        let upto = index.partition_point(|(id, ..)| id.as_bytes().first().is_some_and(|b| *b <= first));
        out.write_all(&count(upto)?.to_be_bytes())?;
    }
    for (id, ..) in &index {
        out.write_all(id.as_bytes())?;
    }
    for (_, crc, _) in &index {
        out.write_all(&crc.to_be_bytes())?;
    }
    for (.., offset) in &index {
        out.write_all(&offset.to_be_bytes())?;
    }
    out.write_all(&digest)?;
    out.finish()?.0.flush()
}
