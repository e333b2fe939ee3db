//! Where the repository's objects lie: its own directory and, when it has alternates, those.
//!
//! git would follow `objects/info/alternates` by itself, to any place that the file names and from there on. Here each step is ours: the file is
//! read as a small regular file, every directory must belong to the caller and lie beneath the allowed roots, and the shadow gets a list of its
//! own. Objects are all that an alternate gives; nobody's configuration and no reference is read there.

use std::collections::HashSet;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, OFlags};

use super::repo::{Repository, check_owners, check_roots, read_small, unsafe_repository};
use crate::error::{Code, Error, Result};
use crate::weaken;

/// As deep as git goes.
const MAX_DEPTH: usize = 5;
/// Object directories altogether.
const MAX_DIRECTORIES: usize = 64;
const MAX_LIST: u64 = 256 << 10;

/// The object directories of a repository.
pub struct Objects {
    /// Its own comes first. Free of links.
    directories: Vec<PathBuf>,
    /// Some list names more, whether it is there or not.
    listed: bool,
    /// A link stands among the objects: they may be anybody's.
    linked: bool,
}

impl Objects {
    /// Finds them, and refuses those that may not be read.
    pub fn of(repository: &Repository, roots: &[PathBuf]) -> Result<Self> {
        let mut found = Self { directories: Vec::new(), listed: false, linked: false };
        let mut seen = HashSet::new();
        let mut todo = vec![(repository.common_dir.join("objects"), 0)];
        while let Some((directory, depth)) = todo.pop() {
            // One that is not there is passed over, as git does; its own is always there.
            let Ok(real) = directory.canonicalize() else { continue };
            if !real.is_dir() || !seen.insert(real.clone()) {
                continue;
            }
            if found.directories.len() >= MAX_DIRECTORIES {
                return Err(unsafe_repository("it has too many alternate object directories"));
            }
            // The first may be a link, too.
            check_roots(roots, &[&real])?;
            check_owners(&repository.top, &[&real], "its objects belong to another user")?;
            found.linked |= check_kinds(&real)?;
            if found.linked && !roots.is_empty() && !weaken::off("export.roots") {
                return Err(unsafe_repository("links stand among its objects, so that they cannot be kept within the allowed roots"));
            }
            let listed = alternates(&real)?;
            found.listed |= !listed.is_empty();
            if depth < MAX_DEPTH {
                todo.extend(listed.into_iter().map(|listed| (listed, depth + 1)));
            }
            found.directories.push(real);
        }
        Ok(found)
    }

    /// Whether each lies beneath one of these directories.
    pub fn beneath_any(&self, places: &[&Path]) -> bool {
        !self.linked && self.directories.iter().all(|directory| places.iter().any(|place| directory.starts_with(place)))
    }

    /// What the shadow's `objects/info/alternates` says. With alternates it names directories of links that are made in `at`, so that git
    /// meets no list but ours.
    pub fn write(&self, at: &Path) -> std::io::Result<Vec<u8>> {
        if !self.listed {
            return Ok(self.directories.iter().flat_map(|own| quoted(own)).collect());
        }
        let mut list = Vec::new();
        for (number, directory) in self.directories.iter().enumerate() {
            let links = at.join(format!("alternate-{number}"));
            std::fs::create_dir_all(&links)?;
            for entry in std::fs::read_dir(directory)? {
                let name = entry?.file_name();
                if holds_objects(name.as_bytes()) {
                    std::os::unix::fs::symlink(directory.join(&name), links.join(&name))?;
                }
            }
            list.extend(quoted(&links));
        }
        Ok(list)
    }
}

/// `pack`, `00` to `ff`.
fn holds_objects(name: &[u8]) -> bool {
    name == b"pack" || name.len() == 2 && name.iter().all(u8::is_ascii_hexdigit)
}

/// Looks at what stands among the objects, and says whether links do. A FIFO would make git wait, and a device be read: neither has any business
/// there.
fn check_kinds(directory: &Path) -> Result<bool> {
    let failed = |e: std::io::Error| Error::new(Code::WorktreeError, "read the repository's objects").with_source(e);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut linked = false;
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !holds_objects(entry.file_name().as_bytes()) {
            continue;
        }
        linked |= entry.file_type().map_err(failed)?.is_symlink();
        // Not a directory, or one that went away meanwhile: git finds no object there either.
        let Ok(inside) = rustix::fs::open(entry.path(), flags, rustix::fs::Mode::empty()) else { continue };
        let Ok(entries) = rustix::fs::Dir::read_from(&inside) else { continue };
        for entry in entries.flatten() {
            let kind = match entry.file_type() {
                // The file system does not say it in the listing.
                FileType::Unknown => rustix::fs::statat(&inside, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                    .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
                kind => kind,
            };
            linked |= kind == FileType::Symlink;
            let special = matches!(kind, FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice | FileType::Socket);
            if special && !weaken::off("export.object_kinds") {
                return Err(unsafe_repository("a special file lies among its objects"));
            }
        }
    }
    Ok(linked)
}

/// The directories that an object directory's `info/alternates` names.
fn alternates(directory: &Path) -> Result<Vec<PathBuf>> {
    let text = match read_small(&directory.join("info/alternates"), MAX_LIST) {
        Ok(text) => text,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(unsafe_repository("its list of alternate object directories cannot be read").with_source(e)),
    };
    let lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    Ok(lines.map(|line| directory.join(std::ffi::OsString::from_vec(unquoted(line)))).collect())
}

/// A path as `objects/info/alternates` takes it: quoted, because a name may hold a newline or begin with a hash sign.
pub fn quoted(path: &Path) -> Vec<u8> {
    use std::io::Write as _;
    let mut out = vec![b'"'];
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            0x20..=0x7e => out.push(*byte),
            // Writing to a vector cannot fail.
            _ => drop(write!(out, "\\{byte:03o}")),
        }
    }
    out.extend(b"\"\n");
    out
}

/// The path in a line: what git quotes is taken apart, anything else is meant as it stands.
fn unquoted(line: &[u8]) -> Vec<u8> {
    let Some(inner) = line.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else { return line.to_vec() };
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let (value, length) = match rest {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), 3),
            [b'a', ..] => (7, 1),
            [b'b', ..] => (8, 1),
            [b't', ..] => (b'\t', 1),
            [b'n', ..] => (b'\n', 1),
            [b'v', ..] => (11, 1),
            [b'f', ..] => (12, 1),
            [b'r', ..] => (b'\r', 1),
            [other, ..] => (*other, 1),
            [] => return line.to_vec(),
        };
        out.push(value);
        rest = rest.get(length..).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_undone() {
        let all: Vec<u8> = (1..=255).collect();
        let path = PathBuf::from(std::ffi::OsString::from_vec([b"/".as_slice(), &all].concat()));
        let line = quoted(&path);
        assert_eq!(unquoted(line.trim_ascii_end()), path.as_os_str().as_bytes());
        assert_eq!(unquoted(b"/plain"), b"/plain");
        assert_eq!(unquoted(br#""/a\tb\\""#), b"/a\tb\\");
        assert_eq!(unquoted(br#""broken\""#), br#""broken\""#);
    }
}
