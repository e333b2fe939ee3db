//! What HEAD and other references say. They are read by hand: no reference of the repository is shown to git, but where a reftable holds them.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::repo::{Repository, read_small};
use super::run::{Bounds, Output, run_within};
use super::scratch::Scratch;
use super::shadow::{self, Facts};
use crate::error::{Code, Error, Result};
use crate::protocol::manifest::{ObjectFormat, ObjectId};

/// Largest packed-refs that is read.
const MAX_REFS: u64 = 256 << 20;
/// Largest file that holds one reference.
const MAX_REF: u64 = 4096;
/// `FETCH_HEAD` has a line for each reference that was fetched; the first is the one that counts.
const MAX_FETCH_HEAD: u64 = 4 << 20;
/// References that name references, one after the other.
const MAX_STEPS: usize = 5;

/// What HEAD says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The commit; the empty tree where there is none yet.
    pub id: ObjectId,
    /// Short branch name; `None` when detached.
    pub branch: Option<String>,
    /// There is no commit yet.
    pub unborn: bool,
}

/// The references of a repository.
pub struct References<'a> {
    repository: &'a Repository,
    format: ObjectFormat,
    /// Where git may look into the tables, if they are kept in some.
    tables: Option<Scratch>,
}

/// What a reference's file or packed line says.
enum Said {
    /// Another reference.
    Name(Vec<u8>),
    Id(ObjectId),
    Nothing,
}

impl<'a> References<'a> {
    /// Those of a repository; `shadow` has its list of objects.
    pub fn of(repository: &'a Repository, facts: &Facts, shadow: &Path) -> Result<Self> {
        let tables = if facts.reftable { Some(lay_tables(repository, facts, shadow)?) } else { None };
        Ok(Self { repository, format: facts.format, tables })
    }

    /// Where HEAD stands.
    pub fn head(&self) -> Result<Head> {
        match &self.tables {
            Some(tables) => self.head_of_tables(tables.path()),
            None => self.head_of_files(),
        }
    }

    fn unborn(&self, branch: Option<String>) -> Head {
        Head { id: self.format.hash("tree", b""), branch, unborn: true }
    }

    fn head_of_files(&self) -> Result<Head> {
        let text = read_small(&self.repository.git_dir.join("HEAD"), MAX_REF).map_err(|e| broken().with_source(e))?;
        let mut said = self.parse(&text).ok_or_else(broken)?;
        let mut branch = None;
        for _ in 0..MAX_STEPS {
            match said {
                Said::Id(id) => return Ok(Head { id, branch, unborn: false }),
                Said::Nothing => return Ok(self.unborn(branch)),
                Said::Name(name) => {
                    if branch.is_none() {
                        branch = Some(short(&name));
                    }
                    said = self.read(&name)?;
                }
            }
        }
        Err(broken())
    }

    fn head_of_tables(&self, tables: &Path) -> Result<Head> {
        let name = ask(tables, &["symbolic-ref", "--quiet", "HEAD"], "read the branch")?;
        let branch = name.status.success().then(|| short(name.stdout.strip_suffix(b"\n").unwrap_or(&name.stdout)));
        let output = ask(tables, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"], "read HEAD")?;
        match ObjectId::parse(output.stdout.trim_ascii()).filter(|_| output.status.success()) {
            Some(id) => Ok(Head { id, branch, unborn: false }),
            None => Ok(self.unborn(branch)),
        }
    }

    /// The object that a full name stands for: `refs/…`, or a name such as `HEAD` that stands beside them. `None`: there is no such reference.
    pub fn find(&self, name: &str) -> Result<Option<ObjectId>> {
        // Lines of what was fetched, in any kind of repository.
        if name == "FETCH_HEAD" {
            let text = read_small(&self.repository.git_dir.join(name), MAX_FETCH_HEAD).unwrap_or_default();
            return Ok(self.id(text.split(|b| matches!(b, b'\t' | b'\n')).next().unwrap_or_default()));
        }
        if let Some(tables) = &self.tables {
            let output = ask(tables.path(), &["rev-parse", "--verify", "--quiet", "--end-of-options", name], "read a reference")?;
            return Ok(self.id(&output.stdout).filter(|_| output.status.success()));
        }
        let mut name = name.as_bytes().to_vec();
        for _ in 0..MAX_STEPS {
            match self.read(&name)? {
                Said::Id(id) => return Ok(Some(id)),
                Said::Nothing => return Ok(None),
                Said::Name(next) => name = next,
            }
        }
        Ok(None)
    }

    /// Makes a reference that is not there yet, where they are kept in tables; `None`: they are files.
    pub fn create_in_tables(&self, name: &str, id: &ObjectId) -> Option<Result<()>> {
        let tables = self.tables.as_ref()?;
        let nothing = "0".repeat(self.format.id_len() * 2);
        let made = ask(tables.path(), &["update-ref", "--no-deref", name, &id.to_hex(), &nothing], "write the reference");
        Some(made.and_then(|output| {
            if output.status.success() {
                return Ok(());
            }
            Err(Error::new(Code::WorktreeError, format!("write the reference: git ended with {}", output.status))
                .with_hint("see that the git directory is writable, has free space and is not locked, and try again")
                .with_detail("untrusted_git_stderr", output.stderr))
        }))
    }

    fn id(&self, text: &[u8]) -> Option<ObjectId> {
        ObjectId::parse(text.trim_ascii()).filter(|id| id.as_bytes().len() == self.format.id_len())
    }

    /// `None`: it is neither a reference nor an id.
    fn parse(&self, text: &[u8]) -> Option<Said> {
        match text.strip_prefix(b"ref:").map(<[u8]>::trim_ascii) {
            Some(name) if is_full_name(name) => Some(Said::Name(name.to_vec())),
            Some(_) => None,
            None => self.id(text).map(Said::Id),
        }
    }

    /// A reference: its own file, else its packed line.
    fn read(&self, name: &[u8]) -> Result<Said> {
        let own =
            !name.starts_with(b"refs/") || [&b"refs/bisect/"[..], b"refs/worktree/", b"refs/rewritten/"].iter().any(|own| name.starts_with(own));
        let dir = if own { &self.repository.git_dir } else { &self.repository.common_dir };
        match read_small(&dir.join(std::ffi::OsStr::from_bytes(name)), MAX_REF) {
            Ok(text) => self.parse(&text).ok_or_else(broken),
            Err(e) if is_absent(&e) => Ok(match self.packed(name)? {
                Some(text) => self.id(&text).map(Said::Id).ok_or_else(broken)?,
                None => Said::Nothing,
            }),
            Err(e) => Err(broken().with_source(e)),
        }
    }

    /// A reference in packed-refs: `<id> <name>` lines.
    fn packed(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let text = match read_small(&self.repository.common_dir.join("packed-refs"), MAX_REFS) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::new(Code::WorktreeError, "read packed-refs").with_source(e)),
        };
        Ok(text.split(|b| *b == b'\n').find_map(|line| {
            let at = line.iter().position(|b| *b == b' ')?;
            (line.get(at + 1..)? == name).then(|| line.get(..at).map(<[u8]>::to_vec))?
        }))
    }
}

/// Not there, or not a file (a directory of references has the name of one that is gone). A FIFO counts as well: it is never opened.
fn is_absent(e: &std::io::Error) -> bool {
    matches!(
        e.kind(),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory | std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidFilename
    )
}

fn is_full_name(name: &[u8]) -> bool {
    name.starts_with(b"refs/") && !name.split(|b| *b == b'/').any(|part| part.is_empty() || part.starts_with(b".")) && !name.contains(&0)
}

fn short(name: &[u8]) -> String {
    crate::display::line(name.strip_prefix(b"refs/heads/").unwrap_or(name))
}

fn broken() -> Error {
    Error::new(Code::WorktreeError, "read HEAD: it names neither a branch nor a commit").with_hint("`git fsck` says what is wrong")
}

fn ask(tables: &Path, args: &[&str], what: &str) -> Result<Output> {
    let mut command = crate::process::git(tables, tables);
    command.args(args);
    run_within(command, None, what, Bounds::default())
}

/// The reftable backend: git reads the tables through links, in a directory that has the real one's layout.
fn lay_tables(repository: &Repository, facts: &Facts, shadow: &Path) -> Result<Scratch> {
    let tables = shadow::bare(facts)?;
    let at = tables.path();
    let lay = || -> std::io::Result<()> {
        let link = |from: &Path, to: &Path| std::os::unix::fs::symlink(from.join("reftable"), to.join("reftable"));
        std::fs::copy(shadow.join("objects/info/alternates"), at.join("objects/info/alternates"))?;
        std::fs::write(at.join("HEAD"), "ref: refs/heads/.invalid\n")?;
        if repository.git_dir == repository.common_dir {
            return link(&repository.common_dir, at);
        }
        // A linked worktree has a table of its own for HEAD.
        let common = at.join("common");
        for sub in ["objects/info", "refs/heads"] {
            std::fs::create_dir_all(common.join(sub))?;
        }
        for file in ["config", "objects/info/alternates", "HEAD"] {
            std::fs::copy(at.join(file), common.join(file))?;
        }
        link(&repository.common_dir, &common)?;
        link(&repository.git_dir, at)?;
        std::fs::write(at.join("commondir"), "common\n")
    };
    lay().map_err(shadow::temporary)?;
    Ok(tables)
}
