//! What a review looks at: the change of a scope, shown as a diff, and the new side of it as a workspace.
//!
//! Both sides are read as data: names and bytes of commits through the shadow git directory, bytes of the working tree beneath its root. The diff is made
//! in a throw-away store as a job's patch is, so that no attribute, filter or external program of the repository has a say in what a
//! reviewer sees. Files that tell an agent what to do come from the base ([`super::instructions`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::narrow::Narrow;
use super::repo::unsafe_repository;
use super::revision::DEFAULT_BASE;
use super::scope::{Changed, Loaded, Loader, MAX_FILE, Sides};
use super::send::Origin;
use super::snapshot::{Opened, millis};
use super::{Plan, ShownPath, show};
use crate::config::WorkspaceSettings;
use crate::error::{Code, Error, Result};
use crate::review::{Change, ChangedFile, Coverage, CoverageStatus, ReviewScope};

/// Bytes of a diff, where the request says nothing else.
pub const MAX_DIFF: usize = 4 << 20;
/// How many paths a list holds; the counts beside them are complete.
const SHOWN: usize = 200;

/// What of the untracked files belongs to a change of the working tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Untracked {
    /// Those that `paths` name, each by its own name.
    #[default]
    ExplicitOnly,
    /// All that no ignore rule excludes.
    Include,
    /// None.
    Exclude,
}

impl Untracked {
    /// The stable text form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExplicitOnly => "explicit_only",
            Self::Include => "include",
            Self::Exclude => "exclude",
        }
    }

    /// Parses a caller's word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::ExplicitOnly, Self::Include, Self::Exclude].into_iter().find(|policy| policy.as_str() == text)
    }
}

/// The scope that a caller's words mean: `working_tree`, `branch` with its base or [`DEFAULT_BASE`], `commit` with its commit. Errors: `invalid_scope`, and
/// `invalid_commit` where it is missing.
pub fn scope(word: &str, base: Option<&str>, commit: Option<&str>) -> Result<ReviewScope> {
    let wrong = |code, field: &str, why: &str| Error::new(code, format!("read the scope of the review: {why}")).with_detail("field", field);
    match (word, base, commit) {
        ("working_tree", None, None) => Ok(ReviewScope::WorkingTree),
        ("branch", Some(base), None) => Ok(ReviewScope::Branch { base: base.to_owned() }),
        ("commit", None, Some(commit)) => Ok(ReviewScope::Commit { commit: commit.to_owned() }),
        ("branch", None, None) => Ok(ReviewScope::Branch { base: DEFAULT_BASE.to_owned() }),
        ("commit", None, None) => Err(wrong(Code::InvalidCommit, "commit", "no commit is named").with_hint("pass commit, such as HEAD")),
        ("working_tree" | "branch" | "commit", ..) => Err(wrong(Code::InvalidScope, "scope", "it does not go with base or commit as given")
            .with_hint("base goes with the scope branch alone, commit with the scope commit alone")),
        _ => Err(wrong(Code::InvalidScope, "scope", "it is not a known one").with_hint("use working_tree, branch or commit")),
    }
}

/// What shall be reviewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewRequest {
    /// Which change. Branch: from where HEAD left the base to HEAD's commit. Commit: from its first parent.
    pub scope: ReviewScope,
    /// Narrows what is reviewed, not what is delivered: files and directories, literal, relative to the workspace root. Empty: everything.
    pub paths: Vec<String>,
    /// Untracked files, for the working tree alone.
    pub untracked: Untracked,
    /// Also deliver the ignored files that `.worktreeinclude` names; they are never part of the change.
    pub include_ignored: bool,
    /// Bytes of the diff; files that do not fit are left out whole.
    pub max_diff: usize,
}

impl ReviewRequest {
    /// All of a scope, with the defaults.
    pub fn new(scope: ReviewScope) -> Self {
        Self { scope, paths: Vec::new(), untracked: Untracked::default(), include_ignored: false, max_diff: MAX_DIFF }
    }
}

/// A change ready to be reviewed.
pub struct ReviewPlan {
    /// The new side of the change, for [`super::pack()`]; instruction files as in the base.
    pub plan: Plan,
    /// A unified diff of whole files, exact bytes; empty where there is nothing to show.
    pub diff: Vec<u8>,
    /// What changed.
    pub change: Change,
    /// How much of it the diff shows.
    pub coverage: Coverage,
    /// Changed files that the diff does not show, in the order of their paths. The first 200.
    pub omitted: Vec<Omitted>,
    /// How many there are.
    pub omitted_count: u64,
}

/// A changed file that the diff does not show.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Omitted {
    /// Which.
    #[serde(flatten)]
    pub path: ShownPath,
    /// `binary` (named in the diff, content not shown), `too_large`, `over_limit`, `refused_name`, or why the file could not be read (as in a snapshot).
    pub why: &'static str,
}

impl ReviewPlan {
    /// Nothing changed in this scope and these paths: there is nothing to review.
    pub fn nothing_to_review(&self) -> bool {
        self.change.files.is_empty()
    }
}

/// Finds the change of a scope and plans the delivery of its new side. Blocking; reads only.
///
/// Errors: those of [`super::plan`], and `invalid_scope`, `invalid_base`, `invalid_commit`, `invalid_paths`.
pub fn plan_review(workspace_root: &Path, caps: &WorkspaceSettings, request: &ReviewRequest) -> Result<ReviewPlan> {
    plan_review_within(workspace_root, &[], caps, request)
}

/// Like [`plan_review`]; every part of the repository must lie beneath one of the roots, where there are any.
pub fn plan_review_within(workspace_root: &Path, roots: &[PathBuf], caps: &WorkspaceSettings, request: &ReviewRequest) -> Result<ReviewPlan> {
    let start = Instant::now();
    let opened = Opened::new(workspace_root, roots, caps)?;
    if !opened.shadow.own_content {
        return Err(unsafe_repository("its git directory or its objects lie elsewhere, so no content of its commits is handed over")
            .with_hint("`git repack -a -d` and remove .git/objects/info/alternates, or allow the place under [roots] in the settings"));
    }
    let narrow = Narrow::parse(&request.paths, &opened.repository.top, opened.subdirectory.as_ref())?;
    let mut sides = Sides::of(opened, caps, request, &narrow)?;
    sides.opened.summary.plan_ms = millis(start);
    let held: Vec<&Changed> = sides.changed.iter().filter(|changed| narrow.holds(changed.path.as_bytes())).collect();
    let mut pairs = Vec::with_capacity(held.len());
    let mut omitted: Vec<(Vec<u8>, &'static str)> = Vec::new();
    let mut loader = Loader::new(&sides.opened, caps);
    for changed in &held {
        match loader.pair(changed)? {
            Loaded::Pair(pair) => pairs.push(pair),
            Loaded::Same => {}
            Loaded::Omitted(why) => omitted.push((changed.path.as_bytes().to_vec(), why)),
        }
    }
    drop(loader);
    let mut shown = show::show(sides.opened.shadow.facts.format, &pairs, request.max_diff)?;
    drop(pairs);
    // What was not compared comes after what the diff has.
    shown.files.extend(omitted.iter().map(|(path, _)| ChangedFile {
        path: show::name(path),
        old_path: None,
        shown: Vec::new(),
        added: 0,
        removed: 0,
    }));
    omitted.append(&mut shown.omitted);
    omitted.extend(sides.refused.iter().map(|path| (path.clone(), "refused_name")));
    omitted.sort();
    let untracked = held.iter().filter(|changed| changed.new.as_ref().is_some_and(|new| new.origin == Origin::Untracked)).count() as u64;
    let coverage = coverage(&shown, &omitted, sides.untracked, sides.untracked.saturating_sub(untracked), request.untracked);
    let change = Change {
        scope: sides.base_name.map_or_else(|| request.scope.clone(), |base| ReviewScope::Branch { base }),
        base_commit: sides.base_commit.map(|id| id.to_hex()),
        head_commit: sides.head_commit.map(|id| id.to_hex()),
        files: shown.files,
        instruction_files: sides.instructions.iter().map(|path| show::name(path)).collect(),
    };
    let plan = sides.opened.into_plan(caps, sides.entries, sides.commit.as_deref());
    Ok(ReviewPlan {
        plan,
        diff: shown.diff,
        change,
        coverage,
        omitted_count: omitted.len() as u64,
        omitted: omitted.iter().take(SHOWN).map(|(path, why)| Omitted { path: ShownPath::new(path), why }).collect(),
    })
}

/// What was shown, in sentences.
fn coverage(shown: &show::Shown, omitted: &[(Vec<u8>, &'static str)], detected: u64, left: u64, policy: Untracked) -> Coverage {
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, why) in omitted {
        *kinds.entry(why).or_default() += 1;
    }
    let mut named: Vec<String> = kinds.keys().map(|kind| (*kind).to_owned()).collect();
    let mut reasons: Vec<String> = kinds
        .into_iter()
        .map(|(why, count)| {
            let why = match why {
                "binary" => "binary content is named, not shown".to_owned(),
                "too_large" => format!("a side over {} MiB is not compared", MAX_FILE >> 20),
                "over_limit" => "the diff would be longer than it may be".to_owned(),
                "refused_name" => "a name that no working tree may have".to_owned(),
                other => format!("not read from the working tree ({other})"),
            };
            format!("{count} changed {} not shown: {why}.", if count == 1 { "file is" } else { "files are" })
        })
        .collect();
    if left > 0 {
        let why = match policy {
            Untracked::ExplicitOnly => "only those that paths name are part of the review",
            Untracked::Include => "they could not be read, or are repositories of their own",
            Untracked::Exclude => "they are excluded",
        };
        named.push("untracked".to_owned());
        reasons.push(format!("{left} untracked {} left out: {why}.", if left == 1 { "file is" } else { "files are" }));
    }
    let status = match (reasons.is_empty(), shown.shown) {
        (true, _) => CoverageStatus::Full,
        (false, 0) => CoverageStatus::None,
        (false, _) => CoverageStatus::Partial,
    };
    Coverage { status, untracked_files_detected: detected, untracked_files_omitted: left, omission_reasons: reasons, omission_kinds: named }
}
