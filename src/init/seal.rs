//! The last child: walks the workspace after every process of the agent is dead, compares it with the manifest, and writes `changes`.
//!
//! It runs as root with the right to read everything and to write only what root owns, so nothing in the workspace can be changed by it. No link is
//! followed. The walk goes in order of path bytes, so that it merges with the manifest and with the stat table without holding either.
//!
//! What is new and excluded by the base's own ignore rules ([`super::rules`]) is left out and reported, directories as a whole. What was delivered is
//! compared whatever the rules say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode as FileMode, OFlags, openat, readlinkat, statat};
use sha2::Digest as _;

use super::pack::Hasher;
use super::part::Places;
use super::rules::{self, Rules};
use super::state::{Stamp, TableReader};
use super::unpack::FrameReader;
use crate::protocol::changes::{ChangesCaps, Writer, new_directories};
use crate::protocol::manifest::{Entry, Header, ManifestCaps, Mode, ObjectFormat, hex};
use crate::protocol::repo_path::{RepoPath, RepoPathError, is_dot_git};
use crate::protocol::result::{Seal, encoded_path, refused};
use crate::weaken;

/// Bounds of the walk. What goes beyond is reported, and the seal is not called complete where something was not looked at.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// Of the document.
    pub changes: ChangesCaps,
    /// Names in one directory.
    pub names: usize,
    /// Entries walked in all.
    pub entries: u64,
    /// Refused paths that are listed.
    pub listed: usize,
    /// Ignored paths that are listed, and altered ones.
    pub ignored: usize,
    /// Of the base's ignore rules.
    pub rules: rules::Caps,
}

impl Default for Caps {
    fn default() -> Self {
        Self { changes: ChangesCaps::default(), names: 1_000_000, entries: 5_000_000, listed: 200, ignored: 100, rules: rules::Caps::default() }
    }
}

/// Compares the workspace with what was delivered, and writes the changes to `changes` in the output directory.
pub fn seal(places: &Places, caps: &Caps) -> io::Result<Seal> {
    super::privileges::raise_descriptor_limit();
    let mut manifest = BufReader::with_capacity(1 << 16, File::open(&places.manifest)?);
    let header = Header::read(&mut manifest, ManifestCaps::default())?;
    let table = TableReader::new(BufReader::with_capacity(1 << 16, File::open(&places.table)?))?;
    let out = Digesting {
        out: io::BufWriter::with_capacity(1 << 16, File::create(places.out.join(crate::protocol::paths::out::CHANGES))?),
        digest: sha2::Sha256::new(),
    };
    let format = header.format;
    let mut sealer = Sealer {
        base: Base { header, manifest, table, next: None },
        frames: Frames::new(&places.frames),
        rules: Rules::new(places, caps.rules),
        format,
        writer: Writer::new(out)?,
        caps,
        submodules: BTreeMap::new(),
        unread: Vec::new(),
        total: 0,
        last: None,
        directories: 0,
        seal: Seal { complete: true, ..Seal::default() },
    };
    sealer.base.advance()?;
    sealer.walk(&places.workspace)?;
    sealer.deleted_before(None)?;
    sealer.missing_submodules();
    let Sealer { writer, mut seal, rules, .. } = sealer;
    seal.rules_stopped = rules.stopped().map(str::to_owned);
    let (out, records) = writer.finish()?;
    out.out.into_inner().map_err(io::IntoInnerError::into_error)?;
    seal.changed = records;
    seal.changes_sha256 = hex(&out.digest.finalize());
    Ok(seal)
}

struct Digesting<W> {
    out: W,
    digest: sha2::Sha256,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.digest.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Manifest and stat table, one entry at a time.
struct Base {
    header: Header,
    manifest: BufReader<File>,
    table: TableReader<BufReader<File>>,
    next: Option<(Entry, Stamp)>,
}

impl Base {
    /// Takes the entry at hand and reads the one after it.
    fn advance(&mut self) -> io::Result<Option<(Entry, Stamp)>> {
        let next = match self.header.next_entry(&mut self.manifest)? {
            Some(entry) => Some((entry, self.table.next_stamp()?)),
            None => None,
        };
        Ok(std::mem::replace(&mut self.next, next))
    }
}

/// Base bytes out of the frames. Changes come in path order, and so do frames: mostly the frame at hand goes on.
pub(super) struct Frames<'a> {
    dir: &'a Path,
    open: Option<(u32, FrameReader<File>)>,
}

impl<'a> Frames<'a> {
    pub(super) fn new(dir: &'a Path) -> Self {
        Self { dir, open: None }
    }

    /// Ready to read an entry's bytes.
    pub(super) fn at(&mut self, entry: &Entry) -> io::Result<&mut FrameReader<File>> {
        if !self.open.as_ref().is_some_and(|(number, reader)| *number == entry.frame && reader.position() <= entry.offset) {
            let file = File::open(self.dir.join(format!("{:05}.zst", entry.frame)))?;
            self.open = Some((entry.frame, FrameReader::new(file)?));
        }
        let (_, reader) = self.open.as_mut().ok_or_else(|| io::Error::other("no frame is open"))?;
        reader.skip_to(entry.offset)?;
        Ok(reader)
    }
}

type Names = std::vec::IntoIter<(Box<[u8]>, FileType)>;

/// A directory that is being walked: what is left of its names, in order.
struct Level {
    fd: OwnedFd,
    names: Names,
    path_len: usize,
    /// Excluded by the base's rules, but something in it was delivered.
    ignored: bool,
}

struct Sealer<'a> {
    base: Base,
    frames: Frames<'a>,
    rules: Rules<'a>,
    format: ObjectFormat,
    writer: Writer<Digesting<io::BufWriter<File>>>,
    caps: &'a Caps,
    /// Submodules that the merge has passed, and whether their directories are there.
    submodules: BTreeMap<Vec<u8>, bool>,
    /// Directories that could not be read, with a slash: nothing is said about what lies beneath.
    unread: Vec<Vec<u8>>,
    total: u64,
    /// The path of the last record, and the directories that all of them lie in.
    last: Option<RepoPath>,
    directories: u64,
    seal: Seal,
}

enum Content {
    File(File),
    Link(Vec<u8>),
}

impl Sealer<'_> {
    fn refuse(&mut self, path: &[u8], kind: FileType, why: &str) {
        if weaken::off("collect.report") {
            return;
        }
        self.seal.refused_count += 1;
        if self.seal.refused.len() < self.caps.listed {
            self.seal.refused.push(refused(path, word(kind), why));
        }
    }

    /// Its content is told, but not this of it.
    fn alter(&mut self, path: &[u8], why: &str) {
        self.seal.altered_count += 1;
        if self.seal.altered.len() < self.caps.ignored {
            self.seal.altered.push(refused(path, "file", why));
        }
    }

    /// New, and excluded by the base's own rules.
    fn ignore(&mut self, path: &[u8]) {
        self.seal.ignored_count += 1;
        if self.seal.ignored.len() < self.caps.ignored {
            self.seal.ignored.push(encoded_path(path));
        }
    }

    /// A directory about whose content nothing can be said.
    fn leave_unread(&mut self, path: &[u8], why: &str) {
        self.refuse(path, FileType::Directory, why);
        self.seal.complete = false;
        self.unread.push([path, b"/"].concat());
    }

    fn walk(&mut self, workspace: &Path) -> io::Result<()> {
        let root = super::part::open_root(workspace)?;
        let Some(names) = self.names(&root)? else {
            self.seal.complete = false;
            self.refuse(b"", FileType::Directory, "too_many");
            self.unread.push(Vec::new());
            return Ok(());
        };
        let mut path: Vec<u8> = Vec::new();
        let mut levels = vec![Level { fd: root, names, path_len: 0, ignored: false }];
        let mut walked = 0u64;
        while let Some(level) = levels.last_mut() {
            let Some((name, kind)) = level.names.next() else {
                levels.pop();
                continue;
            };
            path.truncate(level.path_len);
            path.extend_from_slice(&name);
            walked += 1;
            if walked > self.caps.entries {
                // The rest of the tree is unknown: nothing that follows is said to be deleted.
                self.seal.complete = false;
                self.refuse(&path, kind, "too_many");
                self.unread.push(Vec::new());
                return Ok(());
            }
            // The synthetic repository, or what became of it. Anything else that git could take for one is not carried.
            if path == b".git" {
                continue;
            }
            if is_dot_git(&name) {
                self.refuse(&path, kind, "git_directory");
                continue;
            }
            if kind != FileType::Directory {
                self.entry(&level.fd, &name, kind, &path, level.ignored)?;
                continue;
            }
            match RepoPath::parse(&path) {
                Ok(_) => {}
                Err(RepoPathError::TooLong) => {
                    self.refuse(&path, kind, "path_too_long");
                    continue;
                }
                Err(_) => {
                    self.refuse(&path, kind, "refused_name");
                    continue;
                }
            }
            path.push(b'/');
            // Nothing before the directory's content can come any more.
            self.deleted_before(Some(&path))?;
            let delivered = self.base.next.as_ref().is_some_and(|(entry, _)| entry.path.as_bytes().starts_with(&path));
            let submodule = self.inside_submodule(&path);
            path.pop();
            if let Some(found) = self.submodules.get_mut(&path) {
                *found = true;
            }
            let ignored = !submodule && (level.ignored || self.rules.exclude(&path, true));
            if ignored && !delivered {
                self.ignore(&[&path, b"/".as_slice()].concat());
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = openat(&level.fd, &*name, flags, FileMode::empty()).map_err(io::Error::from);
            match opened.and_then(|fd| self.names(&fd).map(|names| (fd, names))) {
                Ok((fd, Some(names))) => {
                    path.push(b'/');
                    levels.push(Level { fd, names, path_len: path.len(), ignored });
                }
                Ok((_, None)) => self.leave_unread(&path, "too_many"),
                Err(_) => self.leave_unread(&path, "unreadable"),
            }
        }
        Ok(())
    }

    /// The names of a directory in order of path bytes: a directory counts as its name with a slash. `None`: too many.
    fn names(&self, dir: &OwnedFd) -> io::Result<Option<Names>> {
        let mut names: Vec<(Box<[u8]>, FileType)> = Vec::new();
        for item in Dir::read_from(dir)? {
            let item = item?;
            let name = item.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if names.len() >= self.caps.names {
                return Ok(None);
            }
            let kind = match item.file_type() {
                FileType::Unknown => FileType::from_raw_mode(statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
                known => known,
            };
            names.push((name.into(), kind));
        }
        names.sort_unstable_by(|(a, a_kind), (b, b_kind)| {
            let key = |kind: &FileType| (*kind == FileType::Directory).then_some(&b'/');
            a.iter().chain(key(a_kind)).cmp(b.iter().chain(key(b_kind)))
        });
        Ok(Some(names.into_iter()))
    }

    /// Everything that the manifest has before `path` (`None`: at all) is gone from the workspace.
    fn deleted_before(&mut self, path: Option<&[u8]>) -> io::Result<()> {
        while self.base.next.as_ref().is_some_and(|(entry, _)| path.is_none_or(|path| entry.path.as_bytes() < path)) {
            let Some((entry, _)) = self.base.advance()? else { return Ok(()) };
            if entry.mode == Mode::Submodule {
                self.submodules.insert(entry.path.as_bytes().to_vec(), false);
            } else if !self.unread.iter().any(|dir| entry.path.as_bytes().starts_with(dir)) {
                self.change(&entry.path, Some(&entry), None)?;
            }
        }
        Ok(())
    }

    /// Their bytes were never here, so no patch can take them away; but it is said.
    fn missing_submodules(&mut self) {
        for (path, found) in std::mem::take(&mut self.submodules) {
            if !found && !self.unread.iter().any(|dir| path.starts_with(dir)) {
                self.refuse(&path, FileType::Directory, "submodule_removed");
            }
        }
    }

    /// Something that is no directory. `ignored`: its directory is.
    fn entry(&mut self, dir: &OwnedFd, name: &[u8], kind: FileType, path: &[u8], ignored: bool) -> io::Result<()> {
        let repo_path = match RepoPath::parse(path) {
            Ok(repo_path) => repo_path,
            Err(e) => {
                self.refuse(path, kind, if e == RepoPathError::TooLong { "path_too_long" } else { "refused_name" });
                return Ok(());
            }
        };
        self.deleted_before(Some(path))?;
        let known = match &self.base.next {
            Some((entry, _)) if entry.path.as_bytes() == path => self.base.advance()?,
            _ => None,
        };
        let submodule = known.as_ref().is_some_and(|(entry, _)| entry.mode == Mode::Submodule) || self.inside_submodule(path);
        if known.is_none() && !submodule && (ignored || self.rules.exclude(path, false)) {
            self.ignore(path);
            return Ok(());
        }
        let Ok(stat) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
            self.refuse(path, kind, "unreadable");
            return Ok(());
        };
        let stamp = Stamp::new(&stat);
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::Symlink) {
            self.refuse(path, kind, "special_file");
            return Ok(());
        }
        self.seal.files += 1;
        if submodule {
            self.refuse(path, kind, "inside_submodule");
            return Ok(());
        }
        if known.as_ref().is_some_and(|(_, delivered)| *delivered == stamp) {
            return Ok(());
        }
        if kind == FileType::RegularFile {
            for (bit, why) in [(0o4000, "setuid_bit"), (0o2000, "setgid_bit"), (0o1000, "sticky_bit")] {
                if stat.st_mode & bit != 0 {
                    self.alter(path, why);
                }
            }
        }
        let mode = match kind {
            FileType::Symlink => Mode::Symlink,
            _ if stat.st_mode & 0o100 != 0 => Mode::Executable,
            _ => Mode::File,
        };
        if stamp.size > self.caps.changes.side_bytes {
            self.refuse(path, kind, "file_too_large");
            return Ok(());
        }
        let Ok(content) = open(dir, name, mode) else {
            self.refuse(path, kind, "unreadable");
            return Ok(());
        };
        let known = known.map(|(entry, _)| entry);
        if let Some(entry) = &known
            && entry.mode == mode
            && entry.size == stamp.size
        {
            match self.id(&content, stamp.size) {
                Ok(id) if id == entry.id.as_bytes() => return Ok(()),
                Ok(_) => {}
                Err(e) => {
                    self.refuse(path, kind, if e.kind() == io::ErrorKind::UnexpectedEof { "changing" } else { "unreadable" });
                    return Ok(());
                }
            }
        }
        if kind == FileType::RegularFile && stat.st_nlink > 1 {
            self.alter(path, "hard_link");
        }
        self.change(&repo_path, known.as_ref(), Some((mode, stamp.size, content)))
    }

    fn inside_submodule(&self, path: &[u8]) -> bool {
        !self.submodules.is_empty()
            && path.iter().enumerate().filter(|(_, b)| **b == b'/').any(|(at, _)| self.submodules.contains_key(path.get(..at).unwrap_or_default()))
    }

    /// git's id of a content of this size.
    fn id(&self, content: &Content, size: u64) -> io::Result<Vec<u8>> {
        let mut hash = Hasher::new(self.format);
        hash.update(format!("blob {size}\0").as_bytes());
        match content {
            Content::Link(target) => hash.update(target),
            Content::File(file) => {
                let mut file = file;
                let mut left = size;
                let mut buffer = vec![0; 1 << 16];
                while left > 0 {
                    let part = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let chunk = buffer.get_mut(..part).unwrap_or_default();
                    file.read_exact(chunk)?;
                    hash.update(chunk);
                    left -= part as u64;
                }
                file.rewind()?;
            }
        }
        Ok(hash.finish())
    }

    fn change(&mut self, path: &RepoPath, base: Option<&Entry>, new: Option<(Mode, u64, Content)>) -> io::Result<()> {
        let sizes = [base.map_or(0, |entry| entry.size), new.as_ref().map_or(0, |(_, size, _)| *size)];
        let total = sizes.iter().fold(self.total, |sum, size| sum.saturating_add(*size));
        let directories = self.directories.saturating_add(new_directories(self.last.as_ref(), path));
        let why = if sizes.iter().any(|size| *size > self.caps.changes.side_bytes) {
            Some("file_too_large")
        } else if total > self.caps.changes.total_bytes {
            Some("total_too_large")
        } else if self.seal.changed >= self.caps.changes.records || directories > self.caps.changes.directories {
            Some("too_many")
        } else {
            None
        };
        if let Some(why) = why {
            let mode = new.as_ref().map(|(mode, ..)| *mode).or_else(|| base.map(|entry| entry.mode));
            let kind = if mode == Some(Mode::Symlink) { FileType::Symlink } else { FileType::RegularFile };
            self.refuse(path.as_bytes(), kind, why);
            return Ok(());
        }
        (self.total, self.directories, self.last) = (total, directories, Some(path.clone()));
        self.seal.changed += 1;
        let mut nothing = io::empty();
        let base = match base {
            Some(entry) if entry.size > 0 => Some((entry.mode, entry.size, self.frames.at(entry)? as &mut dyn Read)),
            Some(entry) => Some((entry.mode, 0, &mut nothing as &mut dyn Read)),
            None => None,
        };
        match new {
            Some((mode, size, Content::File(mut file))) => self.writer.change(path, base, Some((mode, size, &mut file))),
            Some((mode, size, Content::Link(target))) => self.writer.change(path, base, Some((mode, size, &mut target.as_slice()))),
            None => self.writer.change(path, base, None),
        }
    }
}

/// A kind's word in the result.
fn word(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character_device",
        FileType::BlockDevice => "block_device",
        FileType::Unknown => "other",
    }
}

/// Opens what was just looked at; nothing runs that could exchange it, but that is checked and not assumed.
fn open(dir: &OwnedFd, name: &[u8], mode: Mode) -> io::Result<Content> {
    if mode == Mode::Symlink {
        return Ok(Content::Link(readlinkat(dir, name, Vec::new())?.into_bytes()));
    }
    let file = openat(dir, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, FileMode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(file.as_fd())?.st_mode) != FileType::RegularFile {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    Ok(Content::File(file.into()))
}

#[cfg(test)]
mod tests;
