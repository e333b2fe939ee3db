//! A path inside a repository: bytes, relative, safe by construction.

use std::fmt;

use base64::Engine as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::weaken;

/// Longest path in bytes, as Linux's `PATH_MAX`.
pub const MAX_PATH: usize = 4095;
/// Longest component in bytes, as `NAME_MAX`.
pub const MAX_COMPONENT: usize = 255;

/// A relative path of bytes with no empty, `.`, `..` or `.git`-like component and no NUL.
///
/// Parsing is the only way in. On the wire it is base64, because names need not be UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoPath(Box<[u8]>);

/// Why bytes are not a [`RepoPath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RepoPathError {
    /// Nothing there.
    #[error("empty path")]
    Empty,
    /// Longer than [`MAX_PATH`] or a component longer than [`MAX_COMPONENT`].
    #[error("path too long")]
    TooLong,
    /// Absolute, or with an empty, `.` or `..` component.
    #[error("path leaves the repository")]
    NotRelative,
    /// Holds a NUL byte.
    #[error("path holds a NUL byte")]
    Nul,
    /// A component that some file system takes for `.git`.
    #[error("path names a git directory")]
    GitDirectory,
}

impl RepoPath {
    /// Parses bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, RepoPathError> {
        // What git refuses in an index is also stopped by the proof of the patch; long names are stopped here alone.
        if weaken::off("collect.names") && !bytes.is_empty() {
            return Ok(Self(bytes.into()));
        }
        if bytes.is_empty() {
            return Err(RepoPathError::Empty);
        }
        if bytes.len() > MAX_PATH {
            return Err(RepoPathError::TooLong);
        }
        if bytes.contains(&0) {
            return Err(RepoPathError::Nul);
        }
        for component in bytes.split(|b| *b == b'/') {
            match component {
                b"" | b"." | b".." => return Err(RepoPathError::NotRelative),
                c if c.len() > MAX_COMPONENT => return Err(RepoPathError::TooLong),
                c if is_dot_git(c) && !crate::weaken::off("export.names") => return Err(RepoPathError::GitDirectory),
                _ => {}
            }
        }
        Ok(Self(bytes.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As an operating system path, relative.
    pub fn to_path(&self) -> std::path::PathBuf {
        use std::os::unix::ffi::OsStrExt as _;
        std::ffi::OsStr::from_bytes(&self.0).into()
    }

    /// The last component.
    pub fn file_name(&self) -> &[u8] {
        self.0.rsplit(|b| *b == b'/').next().unwrap_or_default()
    }

    /// Everything before the last component; `None` at the top.
    pub fn parent(&self) -> Option<&[u8]> {
        self.0.iter().rposition(|b| *b == b'/').map(|at| &self.0[..at])
    }
}

/// Whether a file system may take this component, or a part of it behind a backslash, for `.git`: case, HFS+ ignorable code points, NTFS short
/// names, trailing dots and spaces, streams. The cases are those of git's own `verify_path` (`is_hfs_dotgit`, `is_ntfs_dotgit`).
pub fn is_dot_git(component: &[u8]) -> bool {
    if weaken::off("collect.git_names") {
        return false;
    }
    component.split(|b| *b == b'\\').any(|part| matches!(ntfs_stem(part).as_slice(), b".git" | b"git~1") || is_hfs(part, ".git"))
}

/// Whether a file system may take this component, or a part of it behind a backslash, for `.gitmodules`, which git refuses as a symbolic link.
pub fn is_dot_gitmodules(component: &[u8]) -> bool {
    component.split(|b| *b == b'\\').any(|part| {
        let stem = ntfs_stem(part);
        stem == b".gitmodules" || stem.contains(&b'~') && (stem.starts_with(b"gitmod~") || stem.starts_with(b"gi7eb")) || is_hfs(part, ".gitmodules")
    })
}

/// A name as NTFS takes it: without a stream, trailing dots and spaces, in lower case.
fn ntfs_stem(name: &[u8]) -> Vec<u8> {
    let mut stem = name.split(|b| *b == b':').next().unwrap_or_default();
    while let [rest @ .., b'.' | b' '] = stem {
        stem = rest;
    }
    stem.to_ascii_lowercase()
}

/// Whether HFS+, which ignores some code points, takes a name for this one.
fn is_hfs(name: &[u8], what: &str) -> bool {
    let ignored = |c: char| matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    std::str::from_utf8(name).is_ok_and(|text| text.chars().filter(|c| !ignored(*c)).collect::<String>().eq_ignore_ascii_case(what))
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.escape_ascii().to_string())
    }
}

impl Serialize for RepoPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for RepoPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text.as_bytes()).map_err(serde::de::Error::custom)?;
        Self::parse(&bytes).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_and_odd_names_are_taken() {
        let long = vec![b'n'; MAX_COMPONENT];
        let deep = [b"d/".repeat(2047).as_slice(), b"f"].concat();
        let names: [&[u8]; 13] =
            [b"a", b"a/b", b"-rf", b" ", b"new\nline", b"\xff", b".github/x", b".gitignore", b"...", b"a..b/.c.", b"git~2", &long, &deep];
        for name in names {
            assert_eq!(RepoPath::parse(name).unwrap().as_bytes(), name);
        }
    }

    #[test]
    fn paths_that_leave_or_lie_are_refused() {
        use RepoPathError::{Empty, GitDirectory, NotRelative, Nul, TooLong};
        let long = vec![b'n'; MAX_COMPONENT + 1];
        let deep = b"d/".repeat(2048);
        let cases: [(&[u8], RepoPathError); 31] = [
            (b"", Empty),
            (b"/", NotRelative),
            (b"/etc/passwd", NotRelative),
            (b"a/", NotRelative),
            (b"a//b", NotRelative),
            (b".", NotRelative),
            (b"./a", NotRelative),
            (b"..", NotRelative),
            (b"a/../../b", NotRelative),
            (b"a\0b", Nul),
            (&long, TooLong),
            (&deep, TooLong),
            (b".git", GitDirectory),
            (b".git/config", GitDirectory),
            (b"sub/.git/hooks/x", GitDirectory),
            (b".GIT", GitDirectory),
            (b".gIt/x", GitDirectory),
            (b".git.", GitDirectory),
            (b".git ", GitDirectory),
            (b".git. . ./x", GitDirectory),
            (b".git::$INDEX_ALLOCATION/x", GitDirectory),
            (b".git\\config", GitDirectory),
            (b"a\\.git", GitDirectory),
            (b"d/a\\b\\.GIT . \\c/x", GitDirectory),
            (b"a\\git~1:x", GitDirectory),
            ("a\\.g\u{200c}it".as_bytes(), GitDirectory),
            (b"git~1/x", GitDirectory),
            (b"GIT~1", GitDirectory),
            (".g\u{200c}it/x".as_bytes(), GitDirectory),
            ("\u{feff}.git".as_bytes(), GitDirectory),
            (".gi\u{202e}T".as_bytes(), GitDirectory),
        ];
        for (path, why) in cases {
            assert_eq!(RepoPath::parse(path), Err(why), "{}", path.escape_ascii());
        }
    }

    #[test]
    fn parts_of_a_path() {
        let path = RepoPath::parse(b"a/b/c").unwrap();
        assert_eq!((path.file_name(), path.parent()), (&b"c"[..], Some(&b"a/b"[..])));
        let top = RepoPath::parse(b"a").unwrap();
        assert_eq!((top.file_name(), top.parent()), (&b"a"[..], None));
    }

    proptest! {
        #[test]
        fn what_parses_stays_below_and_survives_the_wire(bytes in proptest::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), Just(b'g'), any::<u8>()], 0..40)) {
            if let Ok(path) = RepoPath::parse(&bytes) {
                prop_assert!(path.to_path().components().all(|c| matches!(c, std::path::Component::Normal(_))));
                let text = serde_json::to_string(&path).unwrap();
                prop_assert_eq!(serde_json::from_str::<RepoPath>(&text).unwrap(), path);
            }
        }
    }
}
