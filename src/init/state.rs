//! What `init` remembers over a restart of its container, in `/job/state` (root only).

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::protocol::result::Timings;

/// The stat data that tells whether the agent touched an entry. It can set a file's mtime, but never its ctime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Inode number.
    pub ino: u64,
    /// `st_mode`.
    pub mode: u64,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Nanoseconds since 1970.
    pub ctime_ns: i64,
}

impl Stamp {
    /// From a stat call.
    #[expect(clippy::unnecessary_cast, reason = "the field types differ between architectures")]
    pub fn new(stat: &rustix::fs::Stat) -> Self {
        let ns = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        Self {
            ino: stat.st_ino as u64,
            mode: u64::from(stat.st_mode),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: ns(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime_ns: ns(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

const TABLE_MAGIC: &[u8; 8] = b"AHSTAT1\n";

/// Writes stamps, one for each manifest entry, in manifest order.
pub fn write_table(out: impl Write, stamps: &[Stamp]) -> io::Result<()> {
    let mut out = io::BufWriter::with_capacity(1 << 16, out);
    out.write_all(TABLE_MAGIC)?;
    for stamp in stamps {
        for word in [stamp.ino, stamp.mode, stamp.size, stamp.mtime_ns.cast_unsigned(), stamp.ctime_ns.cast_unsigned()] {
            out.write_all(&word.to_le_bytes())?;
        }
    }
    out.flush()
}

/// Reads stamps in manifest order.
pub struct TableReader<R> {
    input: R,
}

impl<R: Read> TableReader<R> {
    /// Checks the form.
    pub fn new(mut input: R) -> io::Result<Self> {
        let mut magic = [0; 8];
        input.read_exact(&mut magic)?;
        if &magic != TABLE_MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "stat table: unknown form"));
        }
        Ok(Self { input })
    }

    /// The stamp of the next entry.
    pub fn next_stamp(&mut self) -> io::Result<Stamp> {
        let mut words = [0u64; 5];
        for word in &mut words {
            let mut bytes = [0; 8];
            self.input.read_exact(&mut bytes)?;
            *word = u64::from_le_bytes(bytes);
        }
        let [ino, mode, size, mtime, ctime] = words;
        Ok(Stamp { ino, mode, size, mtime_ns: mtime.cast_signed(), ctime_ns: ctime.cast_signed() })
    }
}

/// Facts that outlive a killed `init`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// So far.
    pub timings: Timings,
    /// The workspace was unpacked, so its stat table is complete.
    pub unpacked: bool,
    /// The kernel killed something in the cell for memory.
    pub out_of_memory: bool,
    /// Successful model answers.
    pub answers: u64,
}

/// `/job/state`.
pub struct State {
    dir: PathBuf,
}

impl State {
    /// At a directory.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf() }
    }

    /// The stat table; valid once [`Facts::unpacked`] is set.
    pub fn table(&self) -> PathBuf {
        self.dir.join("table")
    }

    /// Some space that is given back when the disk is full, so that the result can still be written.
    pub fn reserve(&self) -> PathBuf {
        self.dir.join("reserve")
    }

    /// What an earlier start left; `None` at the first start.
    pub fn load(&self) -> io::Result<Option<Facts>> {
        let file = match File::open(self.dir.join("facts.json")) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut text = Vec::new();
        file.take(1 << 16).read_to_end(&mut text)?;
        // A file that a crash cut short still says that there was an earlier start.
        Ok(Some(serde_json::from_slice(&text).unwrap_or_default()))
    }

    /// Replaces the facts, whole or not at all.
    pub fn save(&self, facts: &Facts) -> io::Result<()> {
        let temporary = self.dir.join("facts.tmp");
        std::fs::write(&temporary, serde_json::to_vec(facts)?)?;
        std::fs::rename(temporary, self.dir.join("facts.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_back() {
        let stamps = [
            Stamp { ino: 7, mode: 0o100_644, size: 3, mtime_ns: -1, ctime_ns: i64::MAX },
            Stamp { ino: u64::MAX, mode: 0o120_777, size: 0, mtime_ns: 5, ctime_ns: 6 },
        ];
        let mut bytes = Vec::new();
        write_table(&mut bytes, &stamps).unwrap();
        let mut reader = TableReader::new(bytes.as_slice()).unwrap();
        assert_eq!(reader.next_stamp().unwrap(), stamps[0]);
        assert_eq!(reader.next_stamp().unwrap(), stamps[1]);
        assert!(reader.next_stamp().is_err());
        assert!(TableReader::new(&b"something else"[..]).is_err());
    }

    #[test]
    fn facts_survive_and_a_torn_file_still_tells_of_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::new(dir.path());
        assert_eq!(state.load().unwrap(), None);
        let facts = Facts { unpacked: true, answers: 3, ..Facts::default() };
        state.save(&facts).unwrap();
        assert_eq!(state.load().unwrap(), Some(facts));
        std::fs::write(dir.path().join("facts.json"), b"{\"unp").unwrap();
        assert_eq!(state.load().unwrap(), Some(Facts::default()));
    }
}
