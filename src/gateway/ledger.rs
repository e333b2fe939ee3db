//! The ledger: one JSON line for each thing that happened, chained by hash, in the gateway's own volume.
//!
//! Each line carries `seq` (counts from 1 over all files), `time` (RFC 3339), `prev` (SHA-256, hex, of the line before without its newline; 64
//! zeros at the very first) and `kind`. No line holds content of a request, only sizes and a digest. At [`MAX_FILE`] bytes the file is renamed to
//! `ledger.<first seq>.jsonl` and a new one begins whose first line chains on; the newest [`KEEP`] full files stay, so a lost head is seen.
//! `docs/LEDGER.md` and [`crate::protocol::ledger`] describe every line.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::protocol::ledger::{CURRENT, GENESIS, Head, KEEP, LedgerFile, MAX_FILE, first_seq_of, full_name};
use crate::protocol::manifest::hex;

/// How far back the end of the last line is looked for.
const MAX_LINE: u64 = crate::protocol::ledger::MAX_LINE as u64;

/// The open ledger.
pub struct Ledger {
    directory: PathBuf,
    file: File,
    size: u64,
    max_file: u64,
    first_seq: u64,
    next_seq: u64,
    head: String,
}

impl Ledger {
    /// Opens or begins the ledger in `directory`. A last line that was torn by a crash is cut off, and a line says so.
    pub fn open(directory: &Path) -> Result<Self> {
        Self::open_sized(directory, MAX_FILE)
    }

    /// [`Self::open`] with another size at which files are full.
    pub fn open_sized(directory: &Path, max_file: u64) -> Result<Self> {
        let path = directory.join(CURRENT);
        let failed = |e: std::io::Error| Error::internal(format!("cannot open the ledger {}", path.display())).with_source(e);
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let start = size.saturating_sub(MAX_LINE);
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail).map_err(failed)?;
        let whole = tail.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let torn = (tail.len() - whole) as u64;
        let last = tail.get(..whole.saturating_sub(1)).unwrap_or_default().rsplit(|b| *b == b'\n').next().unwrap_or_default();
        let first_seq = first_seq(&mut file).map_err(failed)?;
        let (next_seq, head) = match (last.is_empty(), serde_json::from_slice::<Value>(last).ok().and_then(|v| v.get("seq")?.as_u64())) {
            (false, Some(seq)) => (seq + 1, hex(&Sha256::digest(last))),
            // An empty file after a rotation goes on from the newest full one.
            (true, _) if torn == size => newest_full(directory).unwrap_or((1, GENESIS.to_owned())),
            _ => {
                return Err(Error::internal(format!("the last line of the ledger {} cannot be read", path.display()))
                    .with_hint("move the ledger aside for inspection, then start the gateway again"));
            }
        };
        file.set_len(size - torn).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut ledger =
            Self { directory: directory.to_owned(), file, size: size - torn, max_file, first_seq: first_seq.unwrap_or(next_seq), next_seq, head };
        if torn > 0 {
            let mut fields = Map::new();
            fields.insert("torn_bytes".to_owned(), torn.into());
            ledger.append("recovered", fields)?;
        }
        Ok(ledger)
    }

    /// Appends a line. It has reached the kernel when this returns; [`Self::sync`] makes it reach the disk.
    pub fn append(&mut self, kind: &str, fields: Map<String, Value>) -> Result<()> {
        if self.size >= self.max_file {
            self.rotate()?;
        }
        let mut line = Map::with_capacity(fields.len() + 4);
        line.insert("seq".to_owned(), self.next_seq.into());
        line.insert("time".to_owned(), jiff::Timestamp::now().to_string().into());
        let prev = if crate::weaken::off("gateway.chain") { GENESIS.to_owned() } else { self.head.clone() };
        line.insert("prev".to_owned(), prev.into());
        line.insert("kind".to_owned(), kind.into());
        line.extend(fields);
        let mut bytes = Value::Object(line).to_string().into_bytes();
        let head = hex(&Sha256::digest(&bytes));
        bytes.push(b'\n');
        if let Err(e) = self.file.write_all(&bytes) {
            // Half a line would break the chain for everything after it.
            let _ = self.file.set_len(self.size);
            let _ = self.file.seek(SeekFrom::Start(self.size));
            return Err(Error::internal("cannot write to the ledger").with_source(e));
        }
        self.size += bytes.len() as u64;
        self.next_seq += 1;
        self.head = head;
        Ok(())
    }

    /// Makes what was appended reach the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::internal("cannot write to the ledger").with_source(e))
    }

    /// The last line.
    pub fn head(&self) -> Head {
        Head { seq: self.next_seq - 1, sha256: self.head.clone() }
    }

    /// The files, oldest first, as large as they are now.
    pub fn files(&self) -> Vec<LedgerFile> {
        let full = full_files(&self.directory).into_iter().filter_map(|path| {
            let first_seq = first_seq_of(path.file_name()?.to_str()?)?;
            Some(LedgerFile { first_seq, size: path.metadata().ok()?.len() })
        });
        full.chain([LedgerFile { first_seq: self.first_seq, size: self.size }]).collect()
    }

    /// A piece of a file; `None` if there is no such file (any more).
    pub fn read(&self, first_seq: u64, offset: u64, most: u64) -> std::io::Result<Option<Vec<u8>>> {
        // The current one may be named like a full one after a rotation that was not finished, but never the other way round.
        let name = if first_seq == self.first_seq { CURRENT.to_owned() } else { full_name(first_seq) };
        let mut file = match File::open(self.directory.join(name)) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        file.seek(SeekFrom::Start(offset))?;
        let mut piece = Vec::new();
        file.take(most).read_to_end(&mut piece)?;
        Ok(Some(piece))
    }

    fn rotate(&mut self) -> Result<()> {
        let failed = |e: std::io::Error| Error::internal("cannot begin a new ledger file").with_source(e);
        self.file.sync_data().map_err(failed)?;
        let current = self.directory.join(CURRENT);
        std::fs::rename(&current, self.directory.join(full_name(self.first_seq))).map_err(failed)?;
        self.file = OpenOptions::new().create_new(true).read(true).write(true).mode(0o600).open(&current).map_err(failed)?;
        self.size = 0;
        self.first_seq = self.next_seq;
        let mut full = full_files(&self.directory);
        while full.len() > KEEP {
            let _ = std::fs::remove_file(full.remove(0));
        }
        Ok(())
    }
}

/// The full files, oldest first.
fn full_files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut full: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| first_seq_of(n).is_some()))
        .collect();
    full.sort();
    full
}

fn first_seq(file: &mut File) -> std::io::Result<Option<u64>> {
    file.seek(SeekFrom::Start(0))?;
    let mut start = Vec::new();
    file.take(MAX_LINE).read_to_end(&mut start)?;
    let Some(end) = start.iter().position(|b| *b == b'\n') else { return Ok(None) };
    Ok(serde_json::from_slice::<Value>(start.get(..end).unwrap_or_default()).ok().and_then(|v| v.get("seq")?.as_u64()))
}

fn newest_full(directory: &Path) -> Option<(u64, String)> {
    let mut file = File::open(full_files(directory).pop()?).ok()?;
    let size = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(MAX_LINE))).ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    let last = tail.strip_suffix(b"\n")?.rsplit(|b| *b == b'\n').next()?;
    let seq = serde_json::from_slice::<Value>(last).ok()?.get("seq")?.as_u64()?;
    Some((seq + 1, hex(&Sha256::digest(last))))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::protocol::ledger::verify::Verifier;

    /// Reads all files as an auditor does; the lines.
    pub(in crate::gateway) fn verify(directory: &Path) -> Vec<Value> {
        let mut verifier = Verifier::default();
        let mut lines = Vec::new();
        let mut files = full_files(directory);
        files.push(directory.join(CURRENT));
        for file in files {
            verifier.file(file.file_name().unwrap().to_str().unwrap());
            verifier.bytes(&std::fs::read(file).unwrap(), &mut |_, value| lines.push(value.clone()));
        }
        let report = verifier.finish();
        assert_eq!(report.broken, None);
        // A field that `KINDS` does not describe is a field that nobody can rely on.
        let unknown: Vec<&String> = report.unknown.iter().filter(|name| *name != "kind x").collect();
        assert!(unknown.is_empty(), "add to protocol::ledger::KINDS and docs/LEDGER.md: {unknown:?}");
        lines
    }

    fn field(n: u64) -> Map<String, Value> {
        Map::from_iter([("n".to_owned(), Value::from(n))])
    }

    #[test]
    fn the_chain_holds_over_reopening_and_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..3 {
            Ledger::open(dir.path()).unwrap().append("x", field(n)).unwrap();
        }
        let path = dir.path().join("ledger.jsonl");
        let mut text = std::fs::read(&path).unwrap();
        text.extend_from_slice(br#"{"seq":4,"time":"20"#);
        std::fs::write(&path, text).unwrap();
        Ledger::open(dir.path()).unwrap().append("x", field(3)).unwrap();
        let lines = verify(dir.path());
        assert_eq!(lines[0]["prev"], GENESIS);
        assert_eq!(lines.iter().map(|l| l["kind"].as_str().unwrap()).collect::<Vec<_>>(), ["x", "x", "x", "recovered", "x"]);
        assert_eq!(lines[3]["torn_bytes"], 19);
    }

    #[test]
    fn a_file_that_is_only_a_torn_line_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ledger.jsonl"), b"{\"se").unwrap();
        Ledger::open(dir.path()).unwrap();
        assert_eq!(verify(dir.path())[0]["kind"], "recovered");
    }

    #[test]
    fn full_files_are_rotated_and_bounded_and_the_chain_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open_sized(dir.path(), 1000).unwrap();
        for n in 0..200 {
            ledger.append("x", field(n)).unwrap();
            if n % 37 == 0 {
                ledger = Ledger::open_sized(dir.path(), 1000).unwrap();
            }
        }
        assert_eq!(full_files(dir.path()).len(), KEEP);
        let lines = verify(dir.path());
        assert_eq!(lines.last().unwrap()["seq"], 200);
        assert!(lines.len() < 200 && lines.len() > KEEP);
        // A crash between the rename and the first line.
        let name = full_name(ledger.first_seq);
        drop(ledger);
        std::fs::rename(dir.path().join(CURRENT), dir.path().join(name)).unwrap();
        Ledger::open_sized(dir.path(), 1000).unwrap().append("x", field(0)).unwrap();
        assert_eq!(verify(dir.path()).last().unwrap()["seq"], 201);
    }

    #[test]
    fn a_last_line_that_is_no_ledger_line_is_not_built_upon() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ledger.jsonl"), b"garbage\n").unwrap();
        assert!(Ledger::open(dir.path()).is_err());
    }
}
