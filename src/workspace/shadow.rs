//! The shadow git directory: ours, with the repository's objects and a copy of its index, and none of its configuration.
//!
//! git run with it sees the user's names and objects, but no hook, filter, alias, include, helper or monitor that the repository configures:
//! the only values taken from the real configuration are the few in [`Facts`], each checked. The real objects come in through
//! `objects/info/alternates`, read only ([`super::objects`]). A snapshot asks them for HEAD's commit and trees alone; only a review takes
//! content from them, and only where they belong to the working tree.

use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::objects::Objects;
use super::refs::{Head, References};
use super::repo::{Repository, open_regular, read_small};
use super::run::{Bounds, run, run_ok, run_ok_within};
use super::scratch::Scratch;
use super::snapshot::over;
use crate::config::WorkspaceSettings;
use crate::error::{Code, Error, Result};
use crate::protocol::manifest::{ObjectFormat, ObjectId};
use crate::weaken;

/// Bytes of an index whatever the caps are, and for each file that they allow: three stages, a long path, cached trees.
const INDEX_BYTES: (u64, u64) = (64 << 20, 1024);
/// Stages of one path at most.
const MAX_STAGES: u64 = 3;
/// For the one commit that is read; a repository on a slow disk needs a second.
const COMMIT_WITHIN: std::time::Duration = std::time::Duration::from_secs(20);
/// Largest list of where a shallow history ends.
const MAX_SHALLOW: u64 = 64 << 20;
/// Largest commit object.
const MAX_COMMIT: u64 = 64 << 20;
/// Largest configuration file that is asked for its format.
const MAX_CONFIG: u64 = 4 << 20;

/// Extensions that do not change what a snapshot reads.
const KNOWN_EXTENSIONS: [&str; 8] =
    ["noop", "noop-v1", "partialclone", "preciousobjects", "worktreeconfig", "relativeworktrees", "compatobjectformat", "submodulepathconfig"];

/// Attributes for everything, above any `.gitattributes`: content is what its bytes are.
pub const NEUTRAL_ATTRIBUTES: &str = "* !diff !text !eol !crlf !filter !ident !working-tree-encoding !merge !whitespace !binary\n";

/// What is taken from the repository's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The hash function.
    pub format: ObjectFormat,
    /// References are kept in a reftable.
    pub reftable: bool,
    /// Executable bits on disk are meant (`core.fileMode`).
    pub file_mode: bool,
    /// Lines for our own configuration on how stat data are compared.
    stat_lines: String,
    /// `core.worktree` as it stands there: a submodule's way back to its working tree. Never followed.
    work_tree: Option<Vec<u8>>,
    /// The whole of the repository's configuration, in a build that is weakened so.
    weakened: Option<Vec<u8>>,
}

/// A shadow git directory; removed when dropped.
pub struct Shadow {
    dir: Scratch,
    /// From the real configuration.
    pub facts: Facts,
    /// Where HEAD stands.
    pub head: Head,
    /// The git directory belongs to this working tree.
    pub own_dir: bool,
    /// So do the objects: what HEAD's commit says is the caller's to hand over.
    pub own: bool,
    /// The git directory does, and the objects do or lie beneath the roots: content of commits is the caller's to hand over.
    pub own_content: bool,
    /// Only part of the history is there.
    pub shallow: bool,
}

/// An empty git directory of ours, mode 0700, with a minimal configuration and neutral attributes.
pub fn bare(facts: &Facts) -> Result<Scratch> {
    let made = || -> std::io::Result<Scratch> {
        let dir = Scratch::new()?;
        let at = dir.path();
        for sub in ["objects/info", "objects/pack", "refs/heads", "info"] {
            std::fs::create_dir_all(at.join(sub))?;
        }
        write_config(at, facts)?;
        std::fs::write(at.join("HEAD"), "ref: refs/heads/none\n")?;
        if !weaken::off("export.attributes") {
            std::fs::write(at.join("info/attributes"), NEUTRAL_ATTRIBUTES)?;
        }
        Ok(dir)
    };
    made().map_err(temporary)
}

pub(super) fn temporary(e: std::io::Error) -> Error {
    Error::new(Code::SetupFailed, "make a temporary git directory")
        .with_hint("see that TMPDIR names a writable directory with free space")
        .with_source(e)
}

fn write_config(at: &Path, facts: &Facts) -> std::io::Result<()> {
    if let Some(theirs) = &facts.weakened {
        return std::fs::write(at.join("config"), theirs);
    }
    let mut text =
        format!("[core]\n\trepositoryformatversion = 1\n\tbare = false\n\tfileMode = {}\n{}[extensions]\n", facts.file_mode, facts.stat_lines);
    if facts.format == ObjectFormat::Sha256 {
        text.push_str("\tobjectformat = sha256\n");
    }
    if facts.reftable {
        text.push_str("\trefstorage = reftable\n");
    }
    std::fs::write(at.join("config"), text)
}

impl Facts {
    /// Those of a store of our own.
    pub fn own(format: ObjectFormat) -> Self {
        Self { format, reftable: false, file_mode: true, stat_lines: String::new(), work_tree: None, weakened: None }
    }
}

impl Shadow {
    /// Makes the shadow of a repository whose parts all lie beneath one of the roots, where there are any. There may be no commit yet.
    pub fn of(repository: &Repository, roots: &[PathBuf], caps: &WorkspaceSettings) -> Result<Self> {
        super::repo::check_roots(roots, &[&repository.top, &repository.git_dir, &repository.common_dir])?;
        let objects = Objects::of(repository, roots)?;
        let dir = bare(&Facts::own(ObjectFormat::Sha1))?;
        let facts = read_facts(dir.path(), repository)?;
        write_config(dir.path(), &facts).map_err(temporary)?;
        let at = dir.path();
        let list = objects.write(at).map_err(temporary)?;
        std::fs::write(at.join("objects/info/alternates"), list).map_err(temporary)?;
        copy_index(repository, at, caps)?;
        let head = References::of(repository, &facts, at)?.head()?;
        // No refs are needed beyond this point: HEAD is the commit itself.
        if !head.unborn {
            std::fs::write(at.join("HEAD"), format!("{}\n", head.id.to_hex())).map_err(temporary)?;
        }
        write_config(at, &Facts { reftable: false, ..facts.clone() }).map_err(temporary)?;
        let shallow = copy_shallow(repository, at, facts.format)?;
        let foreign = weaken::off("export.foreign_git_dir");
        let own_dir = repository.is_own(facts.work_tree.as_deref()) || foreign;
        let own = own_dir && objects.beneath_any(&[&repository.top, &repository.common_dir]) || foreign;
        // Whoever names roots says by it that all beneath them may be read.
        let own_content = own || own_dir && !roots.is_empty();
        Ok(Self { dir, facts, head, own_dir, own, own_content, shallow })
    }

    /// The git directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `git` in the shadow, from a directory outside of the repository.
    pub fn git(&self) -> Command {
        crate::process::git(self.dir.path(), self.dir.path())
    }

    /// Raw content of a commit.
    pub fn commit(&self, id: &ObjectId) -> Result<Vec<u8>> {
        let mut command = self.git();
        command.args(["cat-file", "commit"]).arg(id.to_hex());
        let bounds = Bounds { time: COMMIT_WITHIN, output: MAX_COMMIT, ..Bounds::default() };
        run_ok_within(command, "read the commit", Code::WorktreeError, bounds)
            .map_err(|e| e.with_hint("`git fsck` says what is missing; in a partial clone fetch the history first"))
    }

    /// Paths in which the index or the working tree seem to differ from HEAD, as `git diff-index --raw -z` gives them: an entry whose file was
    /// touched is among them. Submodules are not.
    pub fn touched(&self, top: &Path) -> Result<Vec<u8>> {
        let mut command = self.git();
        command.env("GIT_WORK_TREE", top).args(["diff-index", "--raw", "-z", "--no-abbrev", "--no-renames", "--ignore-submodules=all"]);
        command.arg(self.head.id.to_hex()).arg("--");
        run_ok(command, None, "compare the working tree with HEAD", Code::WorktreeError)
            .map_err(|e| e.with_hint("`git fsck` says what is missing; in a partial clone fetch the history first"))
    }

    /// Whether tracked files differ from HEAD. Submodules are not entered: git would run with *their* configuration.
    pub fn dirty(&self, top: &Path) -> Result<bool> {
        let mut command = self.git();
        command.env("GIT_WORK_TREE", top).args(["diff", "--quiet", "--no-ext-diff", "--no-textconv", "--no-renames"]);
        command.arg(if weaken::off("export.submodules") { "--ignore-submodules=none" } else { "--ignore-submodules=all" });
        command.arg(self.head.id.to_hex()).arg("--");
        // Anything else than 0 and 1 is an object that is not there (partial clone): the file was touched.
        Ok(run(command, None, "compare the working tree with HEAD")?.code() != 0)
    }

    /// How many tracked files differ from HEAD, by content; `None`: an object that is needed to tell is not there.
    pub fn count_changed(&self, top: &Path) -> Result<Option<u64>> {
        let mut command = self.git();
        command.env("GIT_WORK_TREE", top).args(["diff", "--name-only", "-z", "--no-ext-diff", "--no-textconv", "--no-renames"]);
        command.arg("--ignore-submodules=all").arg(self.head.id.to_hex()).arg("--");
        let output = run(command, None, "compare the working tree with HEAD")?;
        Ok((output.code() == 0).then(|| output.stdout.split(|b| *b == 0).filter(|path| !path.is_empty()).count() as u64))
    }
}

/// Reads the few values through git's own parser, without includes and never as configuration in force.
fn read_facts(shadow: &Path, repository: &Repository) -> Result<Facts> {
    let unsupported = |why: String| {
        Error::new(Code::WorktreeError, format!("read the repository: {why}"))
            .with_hint("convert the repository, or delegate from a plain clone of it")
    };
    let config = repository.common_dir.join("config");
    let text = match read_small(&config, MAX_CONFIG) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(unsupported("its configuration file cannot be read".to_owned()).with_source(e)),
    };
    // git reads our copy: what is checked is what was read, and a FIFO has no place here.
    let copy = shadow.join("real-config");
    std::fs::write(&copy, text).map_err(temporary)?;
    let mut command = crate::process::git(shadow, shadow);
    command.args(["config", "--no-includes", "-z", "--list", "--file"]).arg(&copy);
    let listed = run_ok(command, None, "read the repository's configuration", Code::WorktreeError)?;
    let mut facts = Facts::own(ObjectFormat::Sha1);
    let (mut version, mut unknown) = (0, None);
    for item in listed.split(|b| *b == 0) {
        let mut parts = item.splitn(2, |b| *b == b'\n');
        let key = String::from_utf8_lossy(parts.next().unwrap_or_default()).to_ascii_lowercase();
        let bytes = parts.next();
        // A key without a value means true.
        let value = bytes.map_or_else(|| "true".to_owned(), |v| String::from_utf8_lossy(v).to_ascii_lowercase());
        let no = matches!(value.as_str(), "false" | "no" | "off" | "0" | "");
        match key.as_str() {
            "core.filemode" => facts.file_mode = !no,
            "core.trustctime" if no => facts.stat_lines.push_str("\ttrustctime = false\n"),
            "core.checkstat" if value == "minimal" => facts.stat_lines.push_str("\tcheckStat = minimal\n"),
            "core.bare" if !no && repository.git_dir == repository.common_dir => {
                return Err(unsupported("it is bare, there is no working tree".to_owned()));
            }
            "core.repositoryformatversion" => {
                version = match value.as_str() {
                    "0" => 0,
                    "1" => 1,
                    _ => return Err(unsupported("its format version is unknown".to_owned())),
                };
            }
            "core.worktree" => facts.work_tree = bytes.map(<[u8]>::to_vec),
            "extensions.objectformat" => {
                facts.format = match value.as_str() {
                    "sha1" => ObjectFormat::Sha1,
                    "sha256" => ObjectFormat::Sha256,
                    _ => return Err(unsupported("its object format is unknown".to_owned())),
                };
            }
            "extensions.refstorage" => {
                facts.reftable = match value.as_str() {
                    "files" => false,
                    "reftable" => true,
                    _ => return Err(unsupported("its reference storage is unknown".to_owned())),
                };
            }
            _ => {
                if let Some(name) = key.strip_prefix("extensions.")
                    && !KNOWN_EXTENSIONS.contains(&name)
                {
                    unknown = Some(crate::display::line(name.as_bytes()));
                }
            }
        }
    }
    // git's rule: from version 1 on an extension says that the repository means something else without it.
    if let (1, Some(name)) = (version, unknown) {
        return Err(unsupported(format!("its extension {name:?} is unknown")));
    }
    if weaken::off("export.repo_config") {
        facts.weakened = Some(std::fs::read(&copy).map_err(temporary)?);
    }
    Ok(facts)
}

/// The index with its time stamp (git judges by it which entries may have changed within one clock tick), and its shared part.
fn copy_index(repository: &Repository, shadow: &Path, caps: &WorkspaceSettings) -> Result<()> {
    let failed = |e: std::io::Error| Error::new(Code::WorktreeError, "read the repository's index").with_source(e);
    let largest = INDEX_BYTES.0.saturating_add(caps.max_files.saturating_mul(INDEX_BYTES.1));
    let copy = |from: &Path, to: &Path| -> Result<()> {
        let mut source = open_regular(from).map_err(failed)?;
        let meta = source.metadata().map_err(failed)?;
        over("the size of the index", "max_files", largest, meta.len())?;
        let mut header = Vec::with_capacity(12);
        source.by_ref().take(12).read_to_end(&mut header).map_err(failed)?;
        // Asking git would take seconds for millions of entries, and gigabytes.
        let count = header.strip_prefix(b"DIRC").and_then(|rest| rest.get(4..8)?.try_into().ok()).map_or(0, u32::from_be_bytes);
        over("the number of index entries", "max_files", caps.max_files.saturating_mul(MAX_STAGES), count.into())?;
        let mut target = std::fs::File::create(to).map_err(temporary)?;
        std::io::Write::write_all(&mut target, &header).map_err(temporary)?;
        std::io::copy(&mut source.take(largest), &mut target).map_err(|e| {
            // Only what is written can find no room.
            if matches!(e.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) { temporary(e) } else { failed(e) }
        })?;
        target.set_times(std::fs::FileTimes::new().set_modified(meta.modified().map_err(failed)?)).map_err(temporary)
    };
    let index = repository.git_dir.join("index");
    match index.symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        _ => {}
    }
    copy(&index, &shadow.join("index"))?;
    let mut ours = None;
    for entry in std::fs::read_dir(&repository.git_dir).map_err(failed)?.flatten() {
        let name = entry.file_name();
        if let Some(id) = name.as_bytes().strip_prefix(b"sharedindex.").and_then(ObjectId::parse) {
            // Any number of such files may lie there: only the one that the index names is copied.
            if ours.is_none() {
                ours = Some(std::fs::read(shadow.join("index")).map_err(temporary)?);
            }
            if ours.as_deref().is_some_and(|index| shares(index, &id)) {
                return copy(&entry.path(), &shadow.join(name));
            }
        }
    }
    Ok(())
}

/// Whether an index has the extension `link` with this id: name, length, id.
fn shares(index: &[u8], id: &ObjectId) -> bool {
    let id = id.as_bytes();
    memchr::memmem::find_iter(index, b"link").any(|at| index.get(at + 8..at + 8 + id.len()) == Some(id))
}

/// Where a shallow history ends: git must know, or it misses the commits behind.
fn copy_shallow(repository: &Repository, shadow: &Path, format: ObjectFormat) -> Result<bool> {
    let text = match read_small(&repository.common_dir.join("shallow"), MAX_SHALLOW) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(Error::new(Code::WorktreeError, "read where the shallow history ends").with_source(e)),
    };
    let is_id = |line: &[u8]| ObjectId::parse(line).is_some_and(|id| id.as_bytes().len() == format.id_len());
    let lines = text.split(|b| *b == b'\n').filter(|line| is_id(line));
    let copy: Vec<u8> = lines.flat_map(|line| [line, b"\n"].concat()).collect();
    if !copy.is_empty() {
        std::fs::write(shadow.join("shallow"), &copy).map_err(temporary)?;
    }
    Ok(!copy.is_empty())
}
