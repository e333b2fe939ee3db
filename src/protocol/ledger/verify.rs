//! Reads a ledger from its first line to its last and finds the first place where it is not what was written.
//!
//! The chain has no key: it shows that lines belong together, in this order, with nothing between them missing. Who can write the files can write a
//! whole new chain, or leave out lines at the end. Against that helps a head that was noted elsewhere and earlier, as every attestation of a job
//! notes one: [`Verifier::expect`].

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{CURRENT, GENESIS, Head, KEEP, MAX_LINE, check, first_seq_of};
use crate::protocol::manifest::hex;

/// Most names of unknown fields that are listed.
const MAX_UNKNOWN: usize = 20;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// Not a line as the gateway writes it: not JSON, too long, other spaces, a key twice.
    Unreadable,
    /// The last line of a file has no end.
    Torn,
    /// The number is not the next one: lines are missing, added or in another order.
    Sequence,
    /// `prev` is not the digest of the line before: that line or this one was changed.
    Chain,
    /// A field is missing or has another form.
    Schema,
    /// The file's name and its first line do not belong together.
    FileName,
    /// The first lines are missing, and not because the ledger was full.
    HeadMissing,
    /// The line that was noted as the head earlier is another one.
    OtherHistory,
    /// The ledger ends before the line that was noted as its head.
    TailMissing,
}

/// The first break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Break {
    /// What kind.
    pub wrong: Wrong,
    /// The file that it is in.
    pub file: String,
    /// The line in the file, from 1.
    pub line: u64,
    /// Bytes of the file before that line.
    pub offset: u64,
    /// The number that the line should have.
    pub seq: u64,
    /// One sentence.
    pub message: String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Files that were read.
    pub files: u64,
    /// Lines that hold.
    pub lines: u64,
    /// The first line's number; 0: there is none.
    pub first_seq: u64,
    /// The last line that holds.
    pub head: Head,
    /// Whether the ledger goes back to its first line.
    pub from_the_beginning: bool,
    /// Times at which the gateway could not write, or found half a line of a crash.
    pub gaps: u64,
    /// The digest of the policy that was last in force.
    pub policy_sha256: Option<String>,
    /// Kinds and fields that this version does not know.
    pub unknown: Vec<String>,
    /// The first break; nothing after it was looked at.
    #[serde(rename = "break")]
    pub broken: Option<Break>,
}

/// Reads files in order, in pieces.
pub struct Verifier {
    report: Report,
    expected: Vec<Head>,
    partial: bool,
    file: String,
    /// Of the file: lines and bytes before the buffer.
    line: u64,
    offset: u64,
    full_files: usize,
    buffer: Vec<u8>,
    /// Digest of the last line.
    prev: Option<String>,
}

impl Default for Verifier {
    fn default() -> Self {
        Self {
            report: Report {
                files: 0,
                lines: 0,
                first_seq: 0,
                head: Head::default(),
                from_the_beginning: false,
                gaps: 0,
                policy_sha256: None,
                unknown: Vec::new(),
                broken: None,
            },
            expected: Vec::new(),
            partial: false,
            file: String::new(),
            line: 0,
            offset: 0,
            full_files: 0,
            buffer: Vec::new(),
            prev: None,
        }
    }
}

impl Verifier {
    /// A line that is known from elsewhere and must be there.
    #[must_use]
    pub fn expect(mut self, head: Head) -> Self {
        self.expected.push(head);
        self
    }

    /// The files are some of a ledger's: lines before them may be missing.
    #[must_use]
    pub fn partial(mut self) -> Self {
        self.partial = true;
        self
    }

    /// Begins a file; `name` is without its directory.
    pub fn file(&mut self, name: &str) {
        self.end_of_file();
        name.clone_into(&mut self.file);
        (self.line, self.offset) = (0, 0);
        self.report.files += 1;
        self.full_files += usize::from(name != CURRENT);
    }

    /// The next bytes of the file; `each` gets every line that holds.
    pub fn bytes(&mut self, bytes: &[u8], each: &mut dyn FnMut(&[u8], &Value)) {
        if self.report.broken.is_some() {
            return;
        }
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = buffer.as_slice();
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(at);
            if let Err((wrong, message)) = self.next(line, each) {
                return self.broken(wrong, message);
            }
            self.line += 1;
            self.offset += at as u64 + 1;
            rest = after.get(1..).unwrap_or_default();
        }
        if rest.len() > MAX_LINE {
            return self.broken(Wrong::Unreadable, "a line is longer than 64 KiB".to_owned());
        }
        self.buffer = rest.to_vec();
    }

    fn next(&mut self, line: &[u8], each: &mut dyn FnMut(&[u8], &Value)) -> Result<(), (Wrong, String)> {
        let unreadable = |why: &str| (Wrong::Unreadable, why.to_owned());
        if line.len() > MAX_LINE {
            return Err(unreadable("a line is longer than 64 KiB"));
        }
        let value: Value = serde_json::from_slice(line).map_err(|_| unreadable("a line is not JSON"))?;
        // The gateway writes each value in one way only; another spelling of the same is not its own.
        if value.to_string().as_bytes() != line {
            return Err(unreadable("a line is not written as the gateway writes it"));
        }
        let Value::Object(fields) = &value else { return Err(unreadable("a line is not an object")) };
        let (Some(seq), Some(prev)) = (fields.get("seq").and_then(Value::as_u64), fields.get("prev").and_then(Value::as_str)) else {
            return Err((Wrong::Schema, "a line without its number or its link to the one before".to_owned()));
        };
        match &self.prev {
            Some(digest) => {
                // No gateway lives long enough to count this far; a forged first line may.
                let due = self.report.head.seq.checked_add(1).ok_or_else(|| (Wrong::Sequence, "the numbers have come to their end".to_owned()))?;
                if seq != due {
                    return Err((Wrong::Sequence, format!("line {due} is due, and {seq} is there")));
                }
                if prev != digest {
                    return Err((
                        Wrong::Chain,
                        format!("line {} was changed after it was written, or line {seq} was put in its successor's place", seq - 1),
                    ));
                }
            }
            None => {
                if (seq == 1) != (prev == GENESIS) || seq == 0 {
                    return Err((Wrong::Chain, format!("line {seq} does not begin a ledger")));
                }
                self.report.first_seq = seq;
                self.report.from_the_beginning = seq == 1;
            }
        }
        if self.line == 0
            && let Some(named) = first_seq_of(&self.file)
            && named != seq
        {
            return Err((Wrong::FileName, format!("the file is named after line {named} and begins with line {seq}")));
        }
        let unknown = check(fields).map_err(|message| (Wrong::Schema, message))?;
        let sha256 = hex(&Sha256::digest(line));
        if self.expected.iter().any(|head| head.seq == seq && head.sha256 != sha256) {
            return Err((Wrong::OtherHistory, format!("line {seq} is not the one that was noted as the head")));
        }
        for name in unknown {
            if self.report.unknown.len() < MAX_UNKNOWN && !self.report.unknown.contains(&name) {
                self.report.unknown.push(name);
            }
        }
        match fields.get("kind").and_then(Value::as_str) {
            Some("gap" | "recovered") => self.report.gaps += 1,
            Some("start") => self.report.policy_sha256 = fields.get("policy_sha256").and_then(Value::as_str).map(str::to_owned),
            _ => {}
        }
        each(line, &value);
        self.report.lines += 1;
        self.prev = Some(sha256.clone());
        self.report.head = Head { seq, sha256 };
        Ok(())
    }

    fn end_of_file(&mut self) {
        if self.report.broken.is_none() && !std::mem::take(&mut self.buffer).is_empty() {
            self.broken(Wrong::Torn, "the last line of the file has no end".to_owned());
        }
    }

    /// The end of the last file.
    pub fn finish(mut self) -> Report {
        self.end_of_file();
        if self.report.broken.is_none() {
            let head = self.report.head.seq;
            // Older files go only when there are more full ones than are kept.
            if self.report.first_seq > 1 && !self.partial && self.full_files < KEEP {
                let message =
                    format!("the ledger begins with line {}, and has too few files to have lost those before by its own rule", self.report.first_seq);
                (self.line, self.offset) = (0, 0);
                self.broken(Wrong::HeadMissing, message);
                self.report.broken.iter_mut().for_each(|broken| broken.seq = 1);
            } else if let Some(due) = self.expected.iter().map(|head| head.seq).max().filter(|due| *due > head) {
                self.broken(Wrong::TailMissing, format!("the ledger ends with line {head}, and line {due} was noted as its head"));
            } else if let Some(old) = self.expected.iter().find(|e| e.seq < self.report.first_seq) {
                let name = format!("head {}: older than the first line that is kept", old.seq);
                self.report.unknown.push(name);
            }
        }
        self.report
    }

    fn broken(&mut self, wrong: Wrong, message: String) {
        let (file, seq) = (self.file.clone(), self.report.head.seq.saturating_add(1));
        self.report.broken = Some(Break { wrong, file, line: self.line + 1, offset: self.offset, seq, message });
    }
}
