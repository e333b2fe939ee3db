//! The synthetic repository in `/workspace/.git`: one commit that holds the delivered tree, so that `git status`, `git diff` and `git log`
//! work for the agent. Written by hand as the agent; the seal ignores it whatever becomes of it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode as FileMode, OFlags, mkdirat, openat};

use super::pack::{Hasher, Kind, PackWriter};
use super::state::Stamp;
use crate::protocol::manifest::{Entry, Manifest, Mode, ObjectFormat, ObjectId};

/// Author of the synthetic commit, and the default identity for the agent's own commits.
const NAME: &str = "Anchorhold";
const EMAIL: &str = "agent@anchorhold.invalid";

/// The `.git` directory, open.
pub struct GitDir {
    dir: OwnedFd,
    packs: OwnedFd,
    format: ObjectFormat,
}

/// What the trees of a manifest are.
pub struct Trees {
    /// Each tree object once: id and content.
    pub objects: Vec<(ObjectId, Vec<u8>)>,
    /// The top.
    pub root: ObjectId,
    /// The index's cache of tree ids (extension `TREE`), with which `git status` need not look at unchanged trees.
    pub cache: Vec<u8>,
}

struct OpenTree {
    /// Length of this directory's path in the current path, with its slash.
    path_len: usize,
    content: Vec<u8>,
    entries: u64,
    subtrees: Vec<Vec<u8>>,
}

fn tree_item(content: &mut Vec<u8>, mode: &str, name: &[u8], id: &ObjectId) {
    content.extend_from_slice(mode.as_bytes());
    content.push(b' ');
    content.extend_from_slice(name);
    content.push(0);
    content.extend_from_slice(id.as_bytes());
}

/// Builds every tree. Entries come in order of their path bytes, which is just the order that git wants within each tree, because a
/// directory counts there as its name with a slash.
pub fn build_trees(manifest: &Manifest) -> Trees {
    let mut seen = HashSet::new();
    let mut objects = Vec::new();
    let mut stack = vec![OpenTree { path_len: 0, content: Vec::new(), entries: 0, subtrees: Vec::new() }];
    let mut current: Vec<u8> = Vec::new();
    let mut close = |stack: &mut Vec<OpenTree>, current: &[u8]| -> Option<(ObjectId, Vec<u8>)> {
        let tree = stack.pop()?;
        let id = manifest.format.hash("tree", &tree.content);
        let from = stack.last().map_or(0, |parent| parent.path_len);
        let name = current.get(from..tree.path_len.saturating_sub(1)).unwrap_or_default();
        let mut cache = name.to_vec();
        cache.push(0);
        cache.extend_from_slice(format!("{} {}\n", tree.entries, tree.subtrees.len()).as_bytes());
        cache.extend_from_slice(id.as_bytes());
        cache.extend(tree.subtrees.into_iter().flatten());
        if let Some(parent) = stack.last_mut() {
            tree_item(&mut parent.content, "40000", name, &id);
            parent.entries += tree.entries;
            parent.subtrees.push(cache.clone());
        }
        if seen.insert(id) {
            objects.push((id, tree.content));
        }
        Some((id, cache))
    };
    for entry in &manifest.entries {
        let path = entry.path.as_bytes();
        let parent = entry.path.parent().map_or(&[][..], |parent| &path[..=parent.len()]);
        while stack.last().is_some_and(|tree| !parent.starts_with(current.get(..tree.path_len).unwrap_or_default())) {
            close(&mut stack, &current);
        }
        let mut at = stack.last().map_or(0, |tree| tree.path_len);
        current.truncate(at);
        while let Some(slash) = parent.get(at..).and_then(|rest| rest.iter().position(|b| *b == b'/')) {
            at += slash + 1;
            stack.push(OpenTree { path_len: at, content: Vec::new(), entries: 0, subtrees: Vec::new() });
        }
        current.clear();
        current.extend_from_slice(parent);
        if let Some(tree) = stack.last_mut() {
            tree_item(&mut tree.content, entry.mode.as_str(), entry.path.file_name(), &entry.id);
            tree.entries += 1;
        }
    }
    while stack.len() > 1 {
        close(&mut stack, &current);
    }
    let (root, cache) = close(&mut stack, &[]).unwrap_or_else(|| (manifest.format.hash("tree", b""), Vec::new()));
    Trees { objects, root, cache }
}

fn put(dir: &OwnedFd, path: &str, content: &[u8]) -> io::Result<()> {
    create(dir, path, 0o644)?.write_all(content)
}

fn create(dir: &OwnedFd, path: &str, mode: u32) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, path, flags, FileMode::from_raw_mode(mode))?.into())
}

fn open_dir(dir: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    Ok(openat(dir, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, FileMode::empty())?)
}

impl GitDir {
    /// Makes the directories and all small files but the branch, which is written last.
    pub fn create(workspace: &OwnedFd, format: ObjectFormat) -> io::Result<Self> {
        mkdirat(workspace, ".git", FileMode::from_raw_mode(0o755))?;
        let dir = open_dir(workspace, ".git")?;
        for name in ["objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags", "info", "hooks"] {
            mkdirat(&dir, name, FileMode::from_raw_mode(0o755))?;
        }
        let (version, extension) = match format {
            ObjectFormat::Sha1 => (0, ""),
            ObjectFormat::Sha256 => (1, "[extensions]\n\tobjectFormat = sha256\n"),
        };
        let config = format!(
            "[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n\tfsmonitor = false\n\
             {extension}[user]\n\tname = {NAME}\n\temail = {EMAIL}\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n[commit]\n\tgpgSign = false\n"
        );
        put(&dir, "config", config.as_bytes())?;
        put(&dir, "HEAD", b"ref: refs/heads/main\n")?;
        put(&dir, "info/exclude", b"")?;
        let packs = open_dir(&dir, "objects/pack")?;
        Ok(Self { dir, packs, format })
    }

    /// Starts a pack; `number` tells concurrent writers apart.
    pub fn pack(&self, number: usize, objects: u32) -> io::Result<PackWriter> {
        Ok(PackWriter::new(create(&self.packs, &format!("tmp_pack_{number}"), 0o444)?, self.format, objects))
    }

    /// Ends a pack and gives its files their names; git looks for the `.idx`, so that comes last.
    pub fn finish_pack(&self, number: usize, writer: PackWriter) -> io::Result<()> {
        let (pack, idx) = (format!("tmp_pack_{number}"), format!("tmp_idx_{number}"));
        let name = writer.finish(create(&self.packs, &idx, 0o444)?)?;
        rustix::fs::renameat(&self.packs, pack, &self.packs, format!("pack-{name}.pack"))?;
        rustix::fs::renameat(&self.packs, idx, &self.packs, format!("pack-{name}.idx"))?;
        Ok(())
    }

    /// Writes the trees and the commit as a pack, and the branch.
    pub fn commit(&self, trees: &Trees, subject: &str, unix_seconds: u64) -> io::Result<()> {
        let subject: String = subject.chars().filter(|c| !c.is_control()).take(500).collect();
        let subject = if subject.trim().is_empty() { "The delivered tree" } else { subject.trim() };
        let commit = format!(
            "tree {}\nauthor {NAME} <{EMAIL}> {unix_seconds} +0000\ncommitter {NAME} <{EMAIL}> {unix_seconds} +0000\n\n{subject}\n",
            trees.root.to_hex()
        );
        let id = self.format.hash("commit", commit.as_bytes());
        let count = u32::try_from(trees.objects.len() + 1).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let mut pack = self.pack(usize::MAX, count)?;
        pack.object(Kind::Commit, id, commit.as_bytes())?;
        for (id, content) in &trees.objects {
            pack.object(Kind::Tree, *id, content)?;
        }
        self.finish_pack(usize::MAX, pack)?;
        put(&self.dir, "refs/heads/main", format!("{}\n", id.to_hex()).as_bytes())
    }

    /// Writes the index with real stat data, so that `git status` reads no file. `gitformat-index`, version 2.
    #[expect(clippy::cast_possible_truncation, reason = "git keeps the low 32 bits of each stat field")]
    pub fn index(&self, manifest: &Manifest, stamps: &[Stamp], dev: u64, owner: u32, cache: &[u8]) -> io::Result<()> {
        let mut out = Vec::with_capacity(manifest.entries.len() * 120 + cache.len() + 64);
        out.extend_from_slice(b"DIRC\0\0\0\x02");
        out.extend_from_slice(&(manifest.entries.len() as u32).to_be_bytes());
        for (at, entry) in manifest.entries.iter().enumerate() {
            let begin = out.len();
            let stamp = stamps.get(at).copied().unwrap_or_default();
            let part = |ns: i64| ((ns / 1_000_000_000) as u32, (ns % 1_000_000_000) as u32);
            let ((ctime, ctime_ns), (mtime, mtime_ns)) = (part(stamp.ctime_ns), part(stamp.mtime_ns));
            // A submodule has no checkout here; git compares no stat data for it.
            let known = entry.mode != Mode::Submodule;
            let words = [ctime, ctime_ns, mtime, mtime_ns, dev as u32, stamp.ino as u32];
            for word in words {
                out.extend_from_slice(&(if known { word } else { 0 }).to_be_bytes());
            }
            let mode = u32::from_str_radix(entry.mode.as_str(), 8).unwrap_or(0);
            for word in [mode, owner, owner, if known { stamp.size as u32 } else { 0 }] {
                out.extend_from_slice(&word.to_be_bytes());
            }
            out.extend_from_slice(entry.id.as_bytes());
            let path = entry.path.as_bytes();
            out.extend_from_slice(&(path.len().min(0xfff) as u16).to_be_bytes());
            out.extend_from_slice(path);
            // One to eight NULs, to a multiple of eight.
            let padding = 8 - (out.len() - begin) % 8;
            out.resize(out.len() + padding, 0);
        }
        if !cache.is_empty() {
            out.extend_from_slice(b"TREE");
            out.extend_from_slice(&(cache.len() as u32).to_be_bytes());
            out.extend_from_slice(cache);
        }
        let mut hash = Hasher::new(self.format);
        hash.update(&out);
        out.extend_from_slice(&hash.finish());
        create(&self.dir, "index", 0o644)?.write_all(&out)
    }

    /// Takes away a repository that could not be finished, so that git does not stumble over half of one.
    pub fn disable(&self) {
        // Without HEAD the directory is no repository. Nothing more can be done about a file that cannot be removed.
        let _ = rustix::fs::unlinkat(&self.dir, "HEAD", AtFlags::empty());
    }
}

/// The entries whose bytes a pack must hold, each content once.
pub fn distinct<'a>(entries: impl Iterator<Item = &'a Entry>) -> HashSet<ObjectId> {
    entries.filter(|entry| entry.mode != Mode::Submodule).map(|entry| entry.id).collect()
}
