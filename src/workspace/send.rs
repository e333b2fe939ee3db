//! The send manifest: what a delivery of a plan would take out of this machine. For dry runs: it reads, and neither writes nor costs anything.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::beneath::{self, Cursor};
use super::blobs::Blobs;
use super::instructions::AtStart;
use super::names::Name;
use super::snapshot::Planned;
use super::{LeftOut, Plan, ShownPath, secrets};
use crate::error::Result;
use crate::protocol::manifest::Mode;

/// Entries that are listed.
const MAX_ENTRIES: usize = 1_000;
/// How many paths the other lists hold; the counts beside them are complete.
const SHOWN: usize = 200;
/// Bytes of one file that are looked at for secrets.
const MAX_FILE_SCANNED: u64 = 256 << 10;
/// Bytes of all files that are.
const MAX_SCANNED: u64 = 256 << 20;
/// Time for that.
const SCAN_TIME: Duration = Duration::from_secs(10);
/// A NUL byte within so many makes content binary, as git judges.
const BINARY_WITHIN: usize = 8000;

/// Where a file of a delivery comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Tracked: bytes of the working tree.
    Tracked,
    /// Untracked, asked for by the caller.
    Untracked,
    /// Ignored or untracked, named by `.worktreeinclude`.
    Included,
    /// Bytes of a commit.
    Commit,
    /// An instruction file as it is in the base of a review.
    Base,
}

impl Origin {
    /// The bytes are those of a commit, not of the working tree.
    pub fn is_committed(self) -> bool {
        matches!(self, Self::Commit | Self::Base)
    }
}

/// One file or link that would be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendEntry {
    /// Which.
    #[serde(flatten)]
    pub path: ShownPath,
    /// Bytes.
    pub bytes: u64,
    /// git's six digits.
    pub mode: String,
    /// From where.
    pub origin: Origin,
}

/// A file that looks as if it held a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretLooking {
    /// Which.
    #[serde(flatten)]
    pub path: ShownPath,
    /// Why, in our words; never the secret.
    pub note: String,
    /// From where.
    pub origin: Origin,
}

/// An instruction file that Codex would meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstructionFile {
    /// Which.
    #[serde(flatten)]
    pub path: ShownPath,
    /// Bytes.
    pub bytes: u64,
    /// Codex loads it when it starts; else the agent may read it when it works in that directory.
    pub at_start: bool,
    /// From where.
    pub origin: Origin,
}

/// What would be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SendManifest {
    /// Files and links.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The first 1,000, by path.
    pub entries: Vec<SendEntry>,
    /// How many there are, submodules' empty directories among them.
    pub entry_count: u64,
    /// What is not sent, and why. The first 200.
    pub left_out: Vec<LeftOut>,
    /// How many there are.
    pub left_out_count: u64,
    /// Ignored files that `.worktreeinclude` names. The first 200.
    pub included: Vec<ShownPath>,
    /// How many there are.
    pub included_count: u64,
    /// Their bytes.
    #[serde(default)]
    pub included_bytes: u64,
    /// Files whose name or content looks like a secret. The first 200.
    pub secret_looking: Vec<SecretLooking>,
    /// How many there are.
    pub secret_looking_count: u64,
    /// All content was looked at for secrets; else only the first part of large files, or not all files: names always are.
    pub secrets_scanned_fully: bool,
    /// Instruction files of Codex. The first 200.
    pub instruction_files: Vec<InstructionFile>,
    /// How many there are.
    pub instruction_file_count: u64,
}

/// What a delivery of this plan would send. Blocking; reads only, within bounds. `fallbacks` are the names that the job's Codex takes for project documents
/// besides its own.
pub fn manifest_of(plan: &Plan, fallbacks: &[String]) -> Result<SendManifest> {
    let summary = plan.summary();
    let mut manifest = SendManifest {
        files: summary.files,
        bytes: summary.bytes,
        entry_count: plan.entries.len() as u64,
        left_out: summary.left_out.clone(),
        left_out_count: summary.left_out_count,
        included: summary.included.clone(),
        included_count: summary.included_count,
        secrets_scanned_fully: true,
        ..SendManifest::default()
    };
    let delivered = |path: &[u8]| plan.entries.binary_search_by(|entry| entry.path.as_bytes().cmp(path)).is_ok();
    let codex = AtStart { directory: plan.subdirectory(), fallbacks, delivered: &delivered };
    let mut scan = Scan { plan, cursor: Cursor::new(&plan.root), blobs: None, left: MAX_SCANNED, until: Instant::now() + SCAN_TIME };
    for entry in &plan.entries {
        let path = entry.path.as_bytes();
        let shown = || ShownPath::new(path);
        if manifest.entries.len() < MAX_ENTRIES {
            let mode = entry.mode.as_str().to_owned();
            manifest.entries.push(SendEntry { path: shown(), bytes: entry.size, mode, origin: entry.origin });
        }
        if entry.mode == Mode::Submodule {
            continue;
        }
        if entry.origin == Origin::Included {
            manifest.included_bytes = manifest.included_bytes.saturating_add(entry.size);
        }
        if codex.is_instruction(path) {
            manifest.instruction_file_count += 1;
            if manifest.instruction_files.len() < SHOWN {
                let at_start = codex.loads(path);
                manifest.instruction_files.push(InstructionFile { path: shown(), bytes: entry.size, at_start, origin: entry.origin });
            }
        }
        let mut notes = Vec::new();
        if Name::new(path).secret() {
            notes.push("a file of this name usually holds a secret".to_owned());
        }
        let mut found = BTreeSet::new();
        manifest.secrets_scanned_fully &= scan.content(entry, &mut found);
        if !found.is_empty() {
            notes.push(format!("its content looks like it holds: {}", found.into_iter().collect::<Vec<_>>().join(", ")));
        }
        if !notes.is_empty() {
            manifest.secret_looking_count += 1;
            if manifest.secret_looking.len() < SHOWN {
                manifest.secret_looking.push(SecretLooking { path: shown(), note: notes.join("; "), origin: entry.origin });
            }
        }
    }
    Ok(manifest)
}

/// Looks into files for forms of credentials, until the bounds are met.
struct Scan<'a> {
    plan: &'a Plan,
    cursor: Cursor<'a>,
    blobs: Option<Blobs>,
    left: u64,
    until: Instant,
}

impl Scan<'_> {
    /// Looks at the start of a file; whether that was all of it. A link has no content of its own.
    fn content(&mut self, entry: &Planned, found: &mut BTreeSet<&'static str>) -> bool {
        if entry.mode == Mode::Symlink || entry.size == 0 {
            return true;
        }
        let want = entry.size.min(MAX_FILE_SCANNED);
        if self.left < want || Instant::now() > self.until {
            return false;
        }
        self.left -= want;
        let Some(content) = self.read(entry, want) else { return false };
        // Forms of credentials are text: binary content is not looked at.
        if !content.iter().take(BINARY_WITHIN).any(|b| *b == 0) {
            for line in content.split(|b| *b == b'\n') {
                secrets::scan(line, found);
            }
        }
        entry.size <= MAX_FILE_SCANNED
    }

    fn read(&mut self, entry: &Planned, want: u64) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        if entry.origin.is_committed() {
            // A blob comes whole or not at all.
            if entry.size > MAX_FILE_SCANNED {
                return None;
            }
            if self.blobs.is_none() {
                self.blobs = Blobs::new(&self.plan.shadow, MAX_FILE_SCANNED).ok();
            }
            if self.blobs.as_mut()?.append(&entry.id, want, &mut content).is_err() {
                self.blobs = None;
                return None;
            }
        } else {
            let (file, _) = self.cursor.at(entry.path.as_bytes()).and_then(|(dir, name)| beneath::open_file(dir, name)).ok()?;
            file.take(want).read_to_end(&mut content).ok()?;
        }
        Some(content)
    }
}
