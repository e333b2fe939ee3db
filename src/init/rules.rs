//! What the base's own ignore rules exclude: every `.gitignore` as it was delivered, and nothing else.
//!
//! The agent cannot change a rule: contents come from the delivered frames, names from the manifest. A repository can bring any rules, so there are bounds
//! on their size, number and time; over one of them nothing more is ignored, and [`Rules::stopped`] says so. Too little ignored makes a large patch, too
//! much would lose work. Nothing is read before the first path that asks, so that a seal without new paths pays nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::Path;
use std::time::{Duration, Instant};

use regex::bytes::{RegexSet, RegexSetBuilder};

use self::pattern::Rule;
use super::part::Places;
use super::seal::Frames;
use crate::protocol::manifest::{Entry, Header, ManifestCaps, Mode};

pub mod pattern;

/// Bounds of the rules that are used.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// Bytes of all files that are read.
    pub bytes: u64,
    /// Rules in all of them.
    pub rules: usize,
    /// Files that there may be.
    pub files: usize,
    /// Files that apply to one path: each holds its automaton.
    pub nested: usize,
    /// Bytes of one file's automaton, and as much again for its states.
    pub automaton: usize,
    /// For reading, compiling and matching together.
    pub time: Duration,
}

impl Default for Caps {
    fn default() -> Self {
        Self { bytes: 1 << 20, rules: 20_000, files: 20_000, nested: 32, automaton: 8 << 20, time: Duration::from_secs(20) }
    }
}

/// The rules of a base.
pub struct Rules<'a> {
    caps: Caps,
    places: &'a Places,
    frames: Frames<'a>,
    /// By directory (empty, or with a slash at the end); `None` before the first question.
    files: Option<BTreeMap<Vec<u8>, Entry>>,
    /// The files that apply where the last path lay, outermost first.
    in_force: Vec<(Vec<u8>, Set)>,
    bytes: u64,
    rules: usize,
    spent: Duration,
    stopped: Option<&'static str>,
}

/// One file's rules. The last one that matches decides.
struct Set {
    matcher: RegexSet,
    rules: Vec<(bool, bool)>,
}

impl Set {
    /// Whether the file excludes the path (relative to it), takes it back, or says nothing.
    fn verdict(&self, path: &[u8], is_directory: bool) -> Option<bool> {
        let matches = self.matcher.matches(path);
        let mut deciding = matches.iter().rev().filter_map(|at| self.rules.get(at));
        deciding.find(|(_, directories_only)| is_directory || !directories_only).map(|(negative, _)| !negative)
    }
}

/// Why no more is ignored.
enum Stop {
    Because(&'static str),
    Unreadable,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Unreadable
    }
}

impl<'a> Rules<'a> {
    /// Of a delivery.
    pub fn new(places: &'a Places, caps: Caps) -> Self {
        let frames = Frames::new(&places.frames);
        Self { caps, places, frames, files: None, in_force: Vec::new(), bytes: 0, rules: 0, spent: Duration::ZERO, stopped: None }
    }

    /// Why rules were left unused from some path on: `too_large`, `too_many`, `too_complex`, `too_slow`, `unreadable`.
    pub fn stopped(&self) -> Option<&'static str> {
        self.stopped
    }

    /// Whether the rules exclude this path, whose parent directories they do not exclude. Paths come in the order of a walk.
    pub fn exclude(&mut self, path: &[u8], is_directory: bool) -> bool {
        if self.stopped.is_some() {
            return false;
        }
        let begun = Instant::now();
        let verdict = self.ask(path, is_directory);
        self.spent += begun.elapsed();
        let verdict = match verdict {
            Ok(_) if self.spent > self.caps.time => Err(Stop::Because("too_slow")),
            other => other,
        };
        match verdict {
            Ok(excluded) => excluded,
            Err(stop) => {
                self.stopped = Some(match stop {
                    Stop::Because(why) => why,
                    Stop::Unreadable => "unreadable",
                });
                self.in_force = Vec::new();
                self.files = None;
                false
            }
        }
    }

    fn ask(&mut self, path: &[u8], is_directory: bool) -> Result<bool, Stop> {
        self.enter(path)?;
        let verdicts = self.in_force.iter().rev().map(|(dir, set)| set.verdict(path.get(dir.len()..).unwrap_or_default(), is_directory));
        Ok(verdicts.flatten().next().unwrap_or(false))
    }

    /// Brings into force what applies to a path, and forgets what does not.
    fn enter(&mut self, path: &[u8]) -> Result<(), Stop> {
        while self.in_force.last().is_some_and(|(dir, _)| !path.starts_with(dir)) {
            self.in_force.pop();
        }
        let mut files = match self.files.take() {
            Some(files) => files,
            None => find(&self.places.manifest, self.caps.files)?,
        };
        // A file that was read is needed no more once its directory is left.
        let ends = std::iter::once(0).chain(path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at + 1));
        for dir in ends.map(|end| path.get(..end).unwrap_or_default()) {
            if let Some(entry) = files.remove(dir) {
                if self.in_force.len() >= self.caps.nested {
                    return Err(Stop::Because("too_many"));
                }
                let set = self.load(&entry)?;
                self.in_force.push((dir.to_vec(), set));
            }
        }
        self.files = Some(files);
        Ok(())
    }

    fn load(&mut self, entry: &Entry) -> Result<Set, Stop> {
        self.bytes = self.bytes.saturating_add(entry.size);
        if self.bytes > self.caps.bytes {
            return Err(Stop::Because("too_large"));
        }
        let mut content = vec![0; usize::try_from(entry.size).unwrap_or(0)];
        if entry.size > 0 {
            self.frames.at(entry)?.read_exact(&mut content)?;
        }
        let rules: Vec<Rule> = pattern::lines(&content).filter_map(Rule::parse).take(self.caps.rules.saturating_add(1)).collect();
        self.rules = self.rules.saturating_add(rules.len());
        if self.rules > self.caps.rules {
            return Err(Stop::Because("too_many"));
        }
        let matcher = RegexSetBuilder::new(rules.iter().map(|rule| rule.regex.as_str()))
            .unicode(false)
            .dot_matches_new_line(true)
            .size_limit(self.caps.automaton)
            .dfa_size_limit(self.caps.automaton)
            .build()
            .map_err(|_| Stop::Because("too_complex"))?;
        Ok(Set { matcher, rules: rules.iter().map(|rule| (rule.negative, rule.directories_only)).collect() })
    }
}

/// The `.gitignore` files of a manifest. git follows no link to one.
fn find(manifest: &Path, most: usize) -> Result<BTreeMap<Vec<u8>, Entry>, Stop> {
    let mut manifest = BufReader::with_capacity(1 << 16, File::open(manifest)?);
    let mut header = Header::read(&mut manifest, ManifestCaps::default())?;
    let mut files = BTreeMap::new();
    while let Some(entry) = header.next_entry(&mut manifest)? {
        if entry.path.file_name() == b".gitignore" && matches!(entry.mode, Mode::File | Mode::Executable) {
            if files.len() >= most {
                return Err(Stop::Because("too_many"));
            }
            let dir = entry.path.parent().map(|dir| [dir, b"/"].concat()).unwrap_or_default();
            files.insert(dir, entry);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
