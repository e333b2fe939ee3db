//! Which directory a call is about: the argument, else the client's first root, else the server's own directory, where client and server share a machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::ProtocolVersion;
use rmcp::service::RequestContext;

use crate::error::{Code, Error, Result};
use crate::weaken;

/// How long a client may take to name its roots.
const ROOTS_TIMEOUT: Duration = Duration::from_secs(5);
/// How many of them are looked at.
const MAX_ROOTS: usize = 64;

/// What the client said about its roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// It did not declare that it has any.
    NotNegotiated,
    /// It declared them, and they could not be asked for (the protocol of 2026-07-28 has no such request).
    ProbeFailed,
    /// Those that are local directories.
    Given(Vec<PathBuf>),
}

impl Roots {
    /// Asks the client, where the protocol lets us.
    #[expect(deprecated, reason = "roots are deprecated, and still what clients of 2025-11-25 send")]
    pub async fn ask(context: &RequestContext<RoleServer>) -> Self {
        if context.client_capabilities().is_none_or(|capabilities| capabilities.roots.is_none()) {
            return Self::NotNegotiated;
        }
        if context.protocol_version().is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str()) {
            return Self::ProbeFailed;
        }
        match tokio::time::timeout(ROOTS_TIMEOUT, context.peer.list_roots()).await {
            Ok(Ok(answer)) => Self::Given(answer.roots.iter().take(MAX_ROOTS).filter_map(|root| local_path(&root.uri)).collect()),
            Ok(Err(_)) | Err(_) => Self::ProbeFailed,
        }
    }

    /// The word of the contract.
    pub fn source(&self) -> &'static str {
        match self {
            Self::NotNegotiated => "not_negotiated",
            Self::ProbeFailed => "probe_failed",
            Self::Given(_) => "client",
        }
    }

    /// The directories, none where the client gave none.
    pub fn directories(&self) -> &[PathBuf] {
        match self {
            Self::Given(directories) => directories,
            Self::NotNegotiated | Self::ProbeFailed => &[],
        }
    }
}

/// The path of a `file:` URI on this machine.
fn local_path(uri: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    let rest = uri.strip_prefix("file://")?;
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if !path.starts_with('/') {
        return None;
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let pair = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    (!bytes.contains(&0)).then(|| std::ffi::OsString::from_vec(bytes).into())
}

/// A directory, and how it was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Absolute, without links.
    pub path: PathBuf,
    /// `param`, `roots` or `cwd`.
    pub source: &'static str,
    /// Why it may not be what the caller meant.
    pub warning: Option<String>,
    /// [`Roots::source`].
    pub roots_source: &'static str,
}

/// Chooses and checks the directory of a call.
///
/// # Errors
///
/// [`Code::InvalidWorkspaceRoot`], [`Code::WorkspaceOutsideRoots`]; [`Code::InvalidArguments`] where nothing says which, and there is no own directory.
pub fn resolve(parameter: Option<&str>, roots: &Roots, own: Option<&Path>) -> Result<Place> {
    let roots_source = roots.source();
    if let Some(text) = parameter {
        let path = directory(Path::new(text))?;
        let allowed: Vec<PathBuf> = roots.directories().iter().filter_map(|root| root.canonicalize().ok()).collect();
        let inside = allowed.iter().any(|root| path.starts_with(root)) || weaken::off("mcp.roots");
        if !roots.directories().is_empty() && !inside {
            let candidates: Vec<String> =
                roots.directories().iter().take(20).map(|root| crate::display::line(root.as_os_str().as_encoded_bytes())).collect();
            return Err(Error::new(Code::WorkspaceOutsideRoots, "workspace_root lies outside of the client's roots")
                .with_hint("use a directory inside one of candidate_roots, or add its root in the client")
                .with_detail("field", "workspace_root")
                .with_detail("candidate_roots", candidates));
        }
        return Ok(Place { path, source: "param", warning: None, roots_source });
    }
    if let Some(root) = roots.directories().first() {
        return Ok(Place { path: directory(root)?, source: "roots", warning: None, roots_source });
    }
    let own = own.ok_or_else(|| {
        Error::new(Code::InvalidArguments, "workspace_root is missing: over HTTP a call must say which directory it means")
            .with_hint("pass workspace_root, the absolute path of a repository on the server's machine")
            .with_detail("field", "workspace_root")
    })?;
    let path = directory(own)?;
    let warning = Some(
        "no workspace_root was passed and the client named no roots: this server's own directory was used; pass workspace_root to be sure".to_owned(),
    );
    Ok(Place { path, source: "cwd", warning, roots_source })
}

/// The same directory without links, for comparisons; as it stands where it is gone.
pub fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn directory(path: &Path) -> Result<PathBuf> {
    let fail = |why: &'static str| {
        Error::new(Code::InvalidWorkspaceRoot, format!("workspace_root {why}"))
            .with_hint("pass the absolute path of an existing directory inside a git repository")
            .with_detail("field", "workspace_root")
            .with_detail("reason", why)
    };
    if !path.is_absolute() {
        return Err(fail("is not an absolute path"));
    }
    let real = path.canonicalize().map_err(|e| match e.kind() {
        std::io::ErrorKind::PermissionDenied => fail("cannot be reached by this server's user"),
        _ => fail("does not exist"),
    })?;
    if real.is_dir() { Ok(real) } else { Err(fail("is not a directory")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_root_must_be_an_absolute_directory_inside_the_roots() {
        let top = tempfile::tempdir().unwrap();
        let inside = top.path().join("in");
        let outside = top.path().join("out");
        std::fs::create_dir(&inside).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(top.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        let none = Roots::NotNegotiated;
        let given = Roots::Given(vec![inside.clone()]);
        let code = |text: &str, roots: &Roots| resolve(Some(text), roots, Some(top.path())).map_err(|e| e.code);
        let at = |path: &Path| path.to_str().unwrap().to_owned();

        assert_eq!(code("in", &none), Err(Code::InvalidWorkspaceRoot));
        assert_eq!(code("", &none), Err(Code::InvalidWorkspaceRoot));
        assert_eq!(code("/a\0b", &none), Err(Code::InvalidWorkspaceRoot));
        assert_eq!(code(&at(&top.path().join("gone")), &none), Err(Code::InvalidWorkspaceRoot));
        assert_eq!(code(&at(&top.path().join("file")), &none), Err(Code::InvalidWorkspaceRoot));
        assert_eq!(code(&at(&outside), &given), Err(Code::WorkspaceOutsideRoots));
        assert_eq!(code(&at(&inside.join("../out")), &given), Err(Code::WorkspaceOutsideRoots));
        assert_eq!(code(&at(&inside.join("link")), &given), Err(Code::WorkspaceOutsideRoots));
        assert_eq!(code(&at(&inside), &given).unwrap().source, "param");
        assert_eq!(code(&at(&outside), &none).unwrap().path, outside.canonicalize().unwrap());
    }

    #[test]
    fn without_one_the_first_root_then_the_own_directory() {
        let top = tempfile::tempdir().unwrap();
        let own = tempfile::tempdir().unwrap();
        let given = Roots::Given(vec![top.path().to_owned()]);
        let place = resolve(None, &given, Some(own.path())).unwrap();
        assert_eq!((place.source, place.warning, place.roots_source), ("roots", None, "client"));
        for (roots, word) in [(Roots::NotNegotiated, "not_negotiated"), (Roots::ProbeFailed, "probe_failed"), (Roots::Given(Vec::new()), "client")] {
            let place = resolve(None, &roots, Some(own.path())).unwrap();
            assert_eq!((place.source, place.roots_source), ("cwd", word));
            assert!(place.warning.is_some());
            assert_eq!(resolve(None, &roots, None).map_err(|e| e.code), Err(Code::InvalidArguments), "a client from elsewhere");
        }
    }

    #[test]
    fn only_file_uris_name_directories() {
        assert_eq!(local_path("file:///tmp/a%20b"), Some(PathBuf::from("/tmp/a b")));
        assert_eq!(local_path("file://localhost/tmp"), Some(PathBuf::from("/tmp")));
        for uri in
            ["https://example.com/tmp", "/tmp", "file://host/tmp", "file:///tmp/%0", "file:///tmp/%zz", "file:///tmp/%00", "file://localhosts/x"]
        {
            assert_eq!(local_path(uri), None, "{uri}");
        }
    }
}
