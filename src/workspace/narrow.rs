//! Which paths a caller wants to see: literal files and directories, relative to the workspace root.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::error::{Code, Error, Result};
use crate::protocol::repo_path::RepoPath;

/// Most paths.
pub const MAX_PATHS: usize = 1_000;

/// Paths that narrow a review; empty: everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Narrow {
    /// `None`: the top, so everything.
    paths: Vec<Option<RepoPath>>,
}

fn invalid(at: usize, why: &str) -> Error {
    Error::new(Code::InvalidPaths, format!("narrow the review: path {} {why}", at + 1))
        .with_hint("pass files or directories of the repository, relative to the workspace root; patterns are not expanded")
        .with_detail("field", "paths")
        .with_detail("index", at)
}

impl Narrow {
    /// Takes a caller's texts. `directory`: where the workspace root lies below the top.
    pub fn parse(texts: &[String], top: &Path, directory: Option<&RepoPath>) -> Result<Self> {
        if texts.len() > MAX_PATHS {
            return Err(Error::new(Code::InvalidPaths, format!("narrow the review: there are more than {MAX_PATHS} paths"))
                .with_hint("name directories in place of their files")
                .with_detail("field", "paths"));
        }
        let paths = texts.iter().enumerate().map(|(at, text)| one(text, top, directory).map_err(|why| invalid(at, why)));
        Ok(Self { paths: paths.collect::<Result<_>>()? })
    }

    /// Whether a path is to be seen.
    pub fn holds(&self, path: &[u8]) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|narrow| is_within(path, narrow.as_ref()))
    }

    /// Whether a path is named itself, not by a directory above it.
    pub fn names(&self, path: &[u8]) -> bool {
        self.paths.iter().flatten().any(|narrow| narrow.as_bytes() == path)
    }

    /// Refuses a path that nothing is or lies in: a slip of the pen would review nothing.
    pub fn check<'a>(&self, there: impl Iterator<Item = &'a [u8]>) -> Result<()> {
        let mut open: Vec<(usize, &RepoPath)> = self.paths.iter().enumerate().filter_map(|(at, narrow)| Some((at, narrow.as_ref()?))).collect();
        for path in there {
            if open.is_empty() {
                return Ok(());
            }
            open.retain(|(_, narrow)| !is_within(path, Some(narrow)));
        }
        match open.first() {
            Some((at, _)) => Err(invalid(*at, "is on neither side of the change: it is not there, ignored, or untracked and left out")),
            None => Ok(()),
        }
    }
}

fn is_within(path: &[u8], narrow: Option<&RepoPath>) -> bool {
    narrow.is_none_or(|narrow| path.strip_prefix(narrow.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")))
}

fn one(text: &str, top: &Path, directory: Option<&RepoPath>) -> Result<Option<RepoPath>, &'static str> {
    const OUTSIDE: &str = "leaves the repository";
    if text.is_empty() {
        return Err("is empty");
    }
    let below = Path::new(text).strip_prefix(top).map(|below| below.as_os_str().as_bytes());
    let (mut parts, rest): (Vec<&[u8]>, &[u8]) = match (text.starts_with('/'), below) {
        (true, Ok(below)) => (Vec::new(), below),
        (true, Err(_)) => return Err(OUTSIDE),
        (false, _) => (directory.map(|at| at.as_bytes().split(|b| *b == b'/').collect()).unwrap_or_default(), text.as_bytes()),
    };
    for part in rest.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop().ok_or(OUTSIDE)?),
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Ok(None);
    }
    RepoPath::parse(&parts.join(&b'/')).map(Some).map_err(|_| "has a name that no file of a repository may have")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str], directory: Option<&str>) -> Result<Narrow> {
        let directory = directory.map(|at| RepoPath::parse(at.as_bytes()).unwrap());
        Narrow::parse(&texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>(), Path::new("/r"), directory.as_ref())
    }

    #[test]
    fn paths_are_literal_and_relative_to_the_workspace_root() {
        let narrow = parse(&["src/", "./a//b", "*.rs", "/r/abs"], None).unwrap();
        for (path, held) in
            [("src/x", true), ("src", true), ("srcs", false), ("a/b", true), ("x.rs", false), ("*.rs", true), ("abs/x", true), ("a", false)]
        {
            assert_eq!(narrow.holds(path.as_bytes()), held, "{path}");
        }
        assert!(narrow.names(b"a/b") && !narrow.names(b"src/x"));
        let narrow = parse(&["x", "../other"], Some("sub/deep")).unwrap();
        assert!(narrow.holds(b"sub/deep/x") && narrow.holds(b"sub/other/y") && !narrow.holds(b"x"));
        assert!(parse(&[], None).unwrap().holds(b"anything") && parse(&["."], None).unwrap().holds(b"anything"));
        assert!(!parse(&["."], Some("sub")).unwrap().holds(b"anything"));
    }

    #[test]
    fn paths_that_leave_or_lie_are_refused() {
        for text in ["", "..", "a/../../b", "/etc/passwd", "/", "/rr/x", ".git/config", "a\0b", "a/.GIT/x"] {
            let error = parse(&[text], None).unwrap_err();
            assert_eq!(error.code, Code::InvalidPaths, "{text:?}");
            assert!(!error.message.contains("etc"));
        }
        assert!(parse(&vec!["a"; MAX_PATHS + 1], None).is_err());
    }

    #[test]
    fn what_is_not_there_is_told_by_its_place() {
        let narrow = parse(&["src", "typo"], None).unwrap();
        let there: [&[u8]; 2] = [b"src/a", b"b"];
        assert_eq!(narrow.check(there.into_iter()).unwrap_err().details["index"], 1);
        assert!(parse(&["src"], None).unwrap().check(there.into_iter()).is_ok());
    }
}
