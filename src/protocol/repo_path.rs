//! A path inside a repository: bytes, relative, safe by construction.

use std::fmt;

use base64::Engine as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

/// Whether a file system may take this component for `.git`: case, HFS+ ignorable code points, NTFS short names,
/// trailing dots and spaces, streams. The cases are those of git's own `verify_path` (`is_hfs_dotgit`, `is_ntfs_dotgit`).
pub fn is_dot_git(component: &[u8]) -> bool {
    let lower: Vec<u8> = component.to_ascii_lowercase();
    // NTFS: a name ends at ':' (stream) or '\' (separator); trailing dots and spaces do not count.
    let end = lower.iter().position(|b| *b == b':' || *b == b'\\').unwrap_or(lower.len());
    let mut ntfs = &lower[..end];
    while let [rest @ .., b'.' | b' '] = ntfs {
        ntfs = rest;
    }
    if ntfs == b".git" || ntfs == b"git~1" {
        return true;
    }
    // HFS+: some code points are ignored in names.
    let Ok(text) = std::str::from_utf8(component) else { return false };
    let visible: String =
        text.chars().filter(|c| !matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')).collect();
    visible.eq_ignore_ascii_case(".git")
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
        let cases: [(&[u8], RepoPathError); 27] = [
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
