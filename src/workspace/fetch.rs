//! A job's result as a commit of the user's repository, for those who review with git. Only a person asks for it.
//!
//! Trees and commits are made by git's plumbing in the shadow of the repository, with an index of our own: no checkout, no hook, no filter, and nothing
//! of the repository's configuration is in force. The result's tree is that of the commit from which the job began, with what was sent otherwise and
//! then the changes laid over it, and what git says of their difference must be the changes and nothing else. Where what was sent is not that commit,
//! a commit of its own stands in between, so that the result's own difference is the agent's work alone. What is put into the git directory at the
//! end is one pack and one reference ([`super::deposit`]).

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::Command;

use super::deposit;
use super::refs::References;
use super::repo::{self, Repository};
use super::run::run_ok;
use super::shadow::Shadow;
use super::store::{Objects, write_pack};
use super::{ShownPath, SnapshotSummary};
use crate::config::WorkspaceSettings;
use crate::error::{Code, Error, Result};
use crate::protocol::changes::{Change, Side, side_id};
use crate::protocol::manifest::{Entry, Manifest, Mode, ObjectFormat, ObjectId};

/// Where results go.
const PLACE: &str = "refs/anchorhold/";
/// Author and committer; the user's own name is not asked for, and not put under what an agent made.
const IDENTITY: (&str, &str) = ("Anchorhold", "job@anchorhold.invalid");
/// Bytes of files whose content the repository does not hold.
const MAX_MISSING: u64 = 1 << 30;

/// Into which repository, and what.
pub struct FetchRequest {
    /// A directory of the repository.
    pub directory: PathBuf,
    /// The allowed roots, if there are any.
    pub roots: Vec<PathBuf>,
    /// Caps on what is read.
    pub caps: WorkspaceSettings,
    /// The job's id: the last part of the reference's name.
    pub job: String,
    /// HEAD when the job began.
    pub head: Option<String>,
    /// What was delivered.
    pub manifest: Manifest,
    /// What was sent, and what not.
    pub snapshot: SnapshotSummary,
    /// Unix seconds of the commits; the job's own, so that a second fetch makes the same ones.
    pub unix_seconds: u64,
    /// What the commit says, after our own lines; escaped by the caller.
    pub words: String,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Top of the working tree.
    pub root: PathBuf,
    /// Full name of the reference.
    pub reference: String,
    /// The result's commit.
    pub commit: String,
    /// The commit of what was sent, where that is not HEAD's.
    pub base_commit: Option<String>,
    /// HEAD when the job began.
    pub head: Option<String>,
    /// The reference was there already and says the same.
    pub already_there: bool,
    /// Paths of HEAD that were not sent, and stand in both commits as in HEAD.
    pub not_sent: u64,
    /// Changed files that are not in the commit, because the repository ignores them: they were sent because the caller asked.
    pub ignored: u64,
}

/// A fetch for which content may still be missing.
pub struct Preparation {
    request: FetchRequest,
    repository: Repository,
    shadow: Shadow,
    head: Option<ObjectId>,
    missing: Vec<Entry>,
    excluded: HashSet<Vec<u8>>,
    not_sent: u64,
}

/// A difference between HEAD and what was sent.
struct Difference {
    status: u8,
    old: (Vec<u8>, Vec<u8>),
    path: Vec<u8>,
}

/// Finds the repository and what of the base it does not hold. Blocking.
///
/// Errors: those of a snapshot, `unsafe_repository` where the git directory is not this working tree's own, `worktree_error` where the commit
/// from which the job began is not there.
pub fn prepare(request: FetchRequest) -> Result<Preparation> {
    let asked = repo::check_root(&request.directory)?;
    let repository = repo::find(&asked)?;
    let shadow = Shadow::of(&repository, &request.roots, &request.caps)?;
    if !shadow.own_dir {
        return Err(repo::unsafe_repository("its git directory belongs to another working tree, so nothing is written there")
            .with_hint("name the checkout that the git directory belongs to with --workspace"));
    }
    if shadow.facts.format != request.manifest.format {
        return Err(another_repository("it has another object format"));
    }
    let head = match &request.head {
        Some(text) => {
            let id = ObjectId::parse(text.as_bytes()).filter(|id| id.as_bytes().len() == shadow.facts.format.id_len());
            let id = id.ok_or_else(|| Error::internal("fetch the result: the job names no commit"))?;
            shadow.commit(&id).map_err(|e| another_repository("the commit from which the job began is not there").with_source(e))?;
            Some(id)
        }
        None => None,
    };
    let excluded = excluded(&request.snapshot)?;
    let mut preparation = Preparation { request, repository, shadow, head, missing: Vec::new(), excluded, not_sent: 0 };
    preparation.lay_base()?;
    Ok(preparation)
}

fn another_repository(why: &str) -> Error {
    Error::new(Code::WorktreeError, format!("fetch the result: this is not the repository that the job was started for: {why}"))
        .with_hint("name a checkout of that repository with --workspace; in a shallow or pruned one fetch the commit first, or use `anchorhold diff`")
}

/// Paths that the repository does not track and that were sent all the same.
fn excluded(snapshot: &SnapshotSummary) -> Result<HashSet<Vec<u8>>> {
    let listed = [(&snapshot.included, snapshot.included_count), (&snapshot.untracked, snapshot.untracked_count)];
    if listed.iter().any(|(paths, count)| paths.len() as u64 != *count) {
        return Err(Error::new(Code::Unsupported, "fetch the result: more ignored files were sent with the job than are known by name")
            .with_hint("they must not get into a commit: use `anchorhold apply` or `anchorhold diff`"));
    }
    let bytes = |path: &ShownPath| {
        use base64::Engine as _;
        match &path.path_base64 {
            None => Ok(path.path.clone().into_bytes()),
            Some(coded) => base64::engine::general_purpose::STANDARD.decode(coded),
        }
    };
    let paths: std::result::Result<_, _> = listed.iter().flat_map(|(paths, _)| paths.iter()).map(bytes).collect();
    paths.map_err(|e| Error::new(Code::JobFailed, "fetch the result: the list of what was sent is damaged").with_source(e))
}

impl Preparation {
    /// Entries of the base whose content neither the repository nor, perhaps, the changes hold.
    pub fn missing(&self) -> &[Entry] {
        &self.missing
    }

    fn format(&self) -> ObjectFormat {
        self.request.manifest.format
    }

    /// git in the shadow, with an index of our own.
    fn git(&self) -> Command {
        let mut command = self.shadow.git();
        command.env("GIT_INDEX_FILE", self.shadow.path().join("fetch-index"));
        command.args(["-c", "core.maxTreeDepth=4096", "-c", "pack.writeReverseIndex=false"]);
        command
    }

    fn ok(&self, args: &[&str], input: Option<&[u8]>) -> Result<Vec<u8>> {
        let mut command = self.git();
        command.args(args);
        run_ok(command, input, "fetch the result", Code::WorktreeError)
    }

    fn id(&self, args: &[&str]) -> Result<ObjectId> {
        ObjectId::parse(self.ok(args, None)?.trim_ascii()).ok_or_else(|| Error::internal("fetch the result: git's answer is not understood"))
    }

    /// Makes the index of what was sent, and finds out what of it the repository does not hold.
    fn lay_base(&mut self) -> Result<()> {
        let entries = self.request.manifest.entries.iter().filter(|entry| !self.excluded.contains(entry.path.as_bytes()));
        let lines: Vec<u8> = entries.flat_map(|entry| index_line(entry.mode.as_str(), &entry.id.to_hex(), entry.path.as_bytes())).collect();
        self.ok(&["update-index", "-z", "--index-info"], Some(&lines))?;
        let differences = self.differences()?;
        // Without these every path that is missing was deleted in the working tree.
        let partial = self.request.snapshot.sparse_files > 0 || self.request.snapshot.left_out_count > 0;
        let mut kept = Vec::new();
        let mut wanted: Vec<Entry> = Vec::new();
        for Difference { status, old: (mode, id), path } in differences {
            match status {
                b'D' if partial => {
                    self.not_sent += 1;
                    kept.extend(index_line(&String::from_utf8_lossy(&mode), &String::from_utf8_lossy(&id), &path));
                }
                b'D' => {}
                _ => wanted.extend(self.request.manifest.find(&path).filter(|entry| entry.mode != Mode::Submodule).cloned()),
            }
        }
        self.ok(&["update-index", "-z", "--index-info"], Some(&kept))?;
        let asked: Vec<u8> = wanted.iter().flat_map(|entry| format!("{}\n", entry.id.to_hex()).into_bytes()).collect();
        let answers = self.ok(&["cat-file", "--batch-check"], Some(&asked))?;
        let there: HashSet<&[u8]> = answers
            .split(|b| *b == b'\n')
            .filter_map(|line| {
                let mut words = line.split(|b| *b == b' ');
                let id = words.next()?;
                (words.next() == Some(b"blob")).then_some(id)
            })
            .collect();
        wanted.retain(|entry| !there.contains(entry.id.to_hex().as_bytes()));
        let bytes = wanted.iter().fold(0u64, |sum, entry| sum.saturating_add(entry.size));
        if bytes > MAX_MISSING {
            return Err(Error::new(Code::WorkspaceTooLarge, "fetch the result: the edits that were not committed when the job began are over 1 GiB")
                .with_hint("use `anchorhold apply` or `anchorhold diff`")
                .with_detail("actual", bytes));
        }
        self.missing = wanted;
        Ok(())
    }

    /// What the index holds otherwise than HEAD; all of it, where there is no commit.
    fn differences(&self) -> Result<Vec<Difference>> {
        let from = match self.head {
            Some(head) => head.to_hex(),
            // Written, so that it is there to be compared with.
            None => String::from_utf8_lossy(self.ok(&["hash-object", "-t", "tree", "-w", "--stdin"], Some(b""))?.trim_ascii()).into_owned(),
        };
        let output =
            self.ok(&["diff-index", "--cached", "--raw", "-z", "--no-abbrev", "--no-renames", "--ignore-submodules=none", &from, "--"], None)?;
        raw(&output).ok_or_else(|| Error::internal("fetch the result: git's answer is not understood"))
    }

    /// Makes the commits and puts them into the repository. `contents` holds what was [missing](Self::missing), as far as the changes do not.
    ///
    /// Errors: `job_failed` where content has not the id that it must have, `apply_conflict` where the result cannot be said on this base,
    /// `invalid_arguments` where the reference is there and says something else.
    pub fn finish(self, changes: &[Change], contents: &HashMap<ObjectId, Vec<u8>>) -> Result<Fetched> {
        let format = self.format();
        let (changes, ignored): (Vec<&Change>, Vec<&Change>) =
            changes.iter().filter(|c| c.base != c.new).partition(|c| !self.excluded.contains(c.path.as_bytes()));
        if changes.is_empty() {
            return Err(Error::new(Code::Unsupported, "fetch the result: it changes only files that the repository ignores")
                .with_hint("they must not get into a commit: use `anchorhold apply` or `anchorhold diff`"));
        }
        let bases: HashMap<ObjectId, &[u8]> =
            changes.iter().filter_map(|c| c.base.as_ref()).map(|side| (side_id(side, format), side.bytes.as_slice())).collect();
        let mut objects = Objects::new(format);
        for entry in &self.missing {
            let bytes = bases.get(&entry.id).copied().or_else(|| contents.get(&entry.id).map(Vec::as_slice));
            let bytes = bytes.filter(|bytes| format.hash("blob", bytes) == entry.id);
            let bytes =
                bytes.ok_or_else(|| Error::new(Code::JobFailed, "fetch the result: a file that was sent with the job is not there any more"))?;
            objects.blob(entry.id, bytes);
        }
        for side in changes.iter().filter_map(|c| c.new.as_ref()) {
            objects.blob(side_id(side, format), &side.bytes);
        }
        write_pack(&self.shadow.path().join("objects/pack"), &objects).map_err(super::shadow::temporary)?;

        let base_tree = self.id(&["write-tree", "--missing-ok"])?;
        let head_tree = self.head.map(|head| self.id(&["rev-parse", "--verify", &format!("{}^{{tree}}", head.to_hex())])).transpose()?;
        let base_commit =
            if head_tree == Some(base_tree) { None } else { Some(self.commit(&base_tree, self.head.as_ref(), &self.base_message())?) };
        // What makes room goes first.
        let mut lines: Vec<u8> = Vec::new();
        let none = "0".repeat(format.id_len() * 2);
        for gone in changes.iter().filter(|c| c.new.is_none()) {
            lines.extend(index_line("0", &none, gone.path.as_bytes()));
        }
        for (path, side) in changes.iter().filter_map(|c| Some((&c.path, c.new.as_ref()?))) {
            lines.extend(index_line(side.mode.as_str(), &side_id(side, format).to_hex(), path.as_bytes()));
        }
        self.ok(&["update-index", "-z", "--index-info"], Some(&lines))?;
        let new_tree = self.id(&["write-tree", "--missing-ok"])?;
        self.prove(&base_tree, &new_tree, &changes)?;
        let parent = base_commit.or(self.head);
        let commit = self.commit(&new_tree, parent.as_ref(), &self.message(changes.len()))?;

        let reference = format!("{PLACE}{}", self.request.job);
        let references = References::of(&self.repository, &self.shadow.facts, self.shadow.path())?;
        let there = references.find(&reference)?;
        if there.is_some_and(|there| there != commit) {
            return Err(Error::new(Code::InvalidArguments, "fetch the result: the reference is there already and names another commit")
                .with_hint(format!("look at it; `git update-ref -d {reference}` removes it"))
                .with_detail("reference", reference));
        }
        if there.is_none() {
            let pack = self.pack(&commit)?;
            deposit::pack(&self.repository, &pack)?;
            deposit::reference(&self.repository, &references, &reference, &commit)?;
        }
        Ok(Fetched {
            root: self.repository.top,
            reference,
            commit: commit.to_hex(),
            base_commit: base_commit.map(|id| id.to_hex()),
            head: self.head.map(|id| id.to_hex()),
            already_there: there.is_some(),
            not_sent: self.not_sent,
            ignored: ignored.len() as u64,
        })
    }

    /// git's own word on what lies between the two trees must be the changes.
    fn prove(&self, base: &ObjectId, new: &ObjectId, changes: &[&Change]) -> Result<()> {
        let output = self.ok(&["diff-tree", "-r", "--raw", "-z", "--no-abbrev", "--no-renames", &base.to_hex(), &new.to_hex()], None)?;
        let mut expected: Vec<Vec<u8>> = changes.iter().map(|change| raw_line(change, self.format())).collect();
        let mut found: Vec<Vec<u8>> = without_status(&output).ok_or_else(|| Error::internal("fetch the result: git's answer is not understood"))?;
        expected.sort_unstable();
        found.sort_unstable();
        if expected == found {
            return Ok(());
        }
        Err(Error::new(Code::ApplyConflict, "fetch the result: a change lies where the commit has something that was not sent with the job")
            .with_hint("use `anchorhold apply` or `anchorhold diff`"))
    }

    fn commit(&self, tree: &ObjectId, parent: Option<&ObjectId>, message: &str) -> Result<ObjectId> {
        let mut command = self.git();
        let date = format!("@{} +0000", self.request.unix_seconds);
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), IDENTITY.0).env(format!("GIT_{role}_EMAIL"), IDENTITY.1).env(format!("GIT_{role}_DATE"), &date);
        }
        command.args(["commit-tree", &tree.to_hex()]);
        if let Some(parent) = parent {
            command.args(["-p", &parent.to_hex()]);
        }
        let output = run_ok(command, Some(message.as_bytes()), "fetch the result", Code::WorktreeError)?;
        ObjectId::parse(output.trim_ascii()).ok_or_else(|| Error::internal("fetch the result: git's answer is not understood"))
    }

    fn base_message(&self) -> String {
        format!(
            "What was sent to the Anchorhold job {}\n\nThe tracked files as they lay in the working tree when the job began, with edits that were not\ncommitted. The agent had no part in them.\n",
            self.request.job
        )
    }

    fn message(&self, files: usize) -> String {
        let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
        format!(
            "Result of the Anchorhold job {}: {files}\n\nMade by an agent, and looked at by nobody yet.\n{}",
            self.request.job, self.request.words
        )
    }

    /// All objects that the commit has and HEAD has not, as one pack and its index.
    fn pack(&self, commit: &ObjectId) -> Result<deposit::Pack> {
        let dir = self.shadow.path().join("deposit");
        std::fs::create_dir_all(&dir).map_err(super::shadow::temporary)?;
        let revisions = match self.head {
            Some(head) => format!("{}\n^{}\n", commit.to_hex(), head.to_hex()),
            None => format!("{}\n", commit.to_hex()),
        };
        let mut command = self.git();
        command.args(["pack-objects", "-q", "--revs", "--no-reuse-object"]).arg(dir.join("pack"));
        let output = run_ok(command, Some(revisions.as_bytes()), "fetch the result", Code::WorktreeError)?;
        let name = ObjectId::parse(output.trim_ascii()).ok_or_else(|| Error::internal("fetch the result: git's answer is not understood"))?;
        Ok(deposit::Pack { dir, name: format!("pack-{}", name.to_hex()) })
    }
}

/// A line for `update-index --index-info`; mode 0 removes.
fn index_line(mode: &str, id: &str, path: &[u8]) -> Vec<u8> {
    [mode.as_bytes(), b" ", id.as_bytes(), b"\t", path, b"\0"].concat()
}

/// `:<mode> <mode> <id> <id> <status>\0<path>\0…`
fn raw(output: &[u8]) -> Option<Vec<Difference>> {
    let mut fields = output.split(|b| *b == 0).peekable();
    let mut found = Vec::new();
    while let Some(facts) = fields.next().filter(|facts| !facts.is_empty()) {
        let mut words = facts.strip_prefix(b":")?.split(|b| *b == b' ');
        let (old_mode, _, old_id, _) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let status = *words.next()?.first()?;
        found.push(Difference { status, old: (old_mode.to_vec(), old_id.to_vec()), path: fields.next()?.to_vec() });
    }
    fields.peek().is_none().then_some(found)
}

/// Each record of a raw difference in one piece, without the letter that git gives it.
fn without_status(output: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut fields = output.split(|b| *b == 0);
    let mut found = Vec::new();
    while let Some(facts) = fields.next().filter(|facts| !facts.is_empty()) {
        let end = facts.iter().rposition(|b| *b == b' ')?;
        found.push([facts.get(..end)?, b"\0", fields.next()?].concat());
    }
    Some(found)
}

/// The same for a change.
fn raw_line(change: &Change, format: ObjectFormat) -> Vec<u8> {
    let none = || ("000000", "0".repeat(format.id_len() * 2));
    let side = |side: Option<&Side>| side.map_or_else(none, |side| (side.mode.as_str(), side_id(side, format).to_hex()));
    let ((old_mode, old_id), (new_mode, new_id)) = (side(change.base.as_ref()), side(change.new.as_ref()));
    [format!(":{old_mode} {new_mode} {old_id} {new_id}").as_bytes(), b"\0", change.path.as_bytes()].concat()
}
