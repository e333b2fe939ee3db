//! The sealed changes: base and new bytes of each changed path, length-framed, no archive.
//!
//! Form: `AHCHG1\n`, then records. A record is a big-endian `u32` (length of the header), the header as JSON, the base
//! bytes, the new bytes. Paths ascend strictly by bytes. The last record is `{"end":{"records":N}}`; anything after it, or its absence,
//! makes the document invalid. A path that the seal left out is not here but in [`super::result::Seal::refused`].

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::manifest::{Mode, ObjectId};
use super::repo_path::RepoPath;
use crate::weaken;

const MAGIC: &[u8] = b"AHCHG1\n";
const MAX_HEADER: u32 = 16 << 10;

/// One side of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// What kind: file, executable or symlink.
    pub mode: Mode,
    /// The whole content (of a link: its target).
    pub bytes: Vec<u8>,
}

/// A changed path: both sides differ, at least one is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: RepoPath,
    /// Before; `None`: did not exist.
    pub base: Option<Side>,
    /// After; `None`: deleted.
    pub new: Option<Side>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SideHeader {
    mode: Mode,
    size: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, untagged)]
enum Record {
    End { end: End },
    Change { path: RepoPath, base: Option<SideHeader>, new: Option<SideHeader> },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    records: u64,
}

/// Upper bounds that a reader enforces before it allocates.
#[derive(Debug, Clone, Copy)]
pub struct ChangesCaps {
    /// Records.
    pub records: u64,
    /// Bytes of one side.
    pub side_bytes: u64,
    /// Bytes of all sides together.
    pub total_bytes: u64,
    /// Directories that all paths together lie in: each becomes an object on the host.
    pub directories: u64,
}

impl Default for ChangesCaps {
    fn default() -> Self {
        Self { records: 200_000, side_bytes: 256 << 20, total_bytes: 1 << 30, directories: 1_000_000 }
    }
}

/// How many directories a path lies in that the path before it, in order, does not.
pub fn new_directories(before: Option<&RepoPath>, path: &RepoPath) -> u64 {
    let (before, path) = (before.map(RepoPath::as_bytes).unwrap_or_default(), path.as_bytes());
    let common = before.iter().zip(path).take_while(|(a, b)| a == b).count();
    path.iter().skip(common).filter(|b| **b == b'/').count() as u64
}

/// Writes the document; side contents are streamed.
pub struct Writer<W> {
    out: W,
    records: u64,
}

impl<W: Write> Writer<W> {
    /// Starts the document.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        Ok(Self { out, records: 0 })
    }

    /// Writes one change. Each side is its mode, its exact size and a reader of just that many bytes.
    pub fn change<'a>(
        &mut self,
        path: &RepoPath,
        base: Option<(Mode, u64, &'a mut (dyn Read + 'a))>,
        new: Option<(Mode, u64, &'a mut (dyn Read + 'a))>,
    ) -> io::Result<()> {
        let side = |s: &Option<(Mode, u64, &'a mut (dyn Read + 'a))>| s.as_ref().map(|(mode, size, _)| SideHeader { mode: *mode, size: *size });
        self.record(&Record::Change { path: path.clone(), base: side(&base), new: side(&new) })?;
        for (_, size, reader) in [base, new].into_iter().flatten() {
            let copied = io::copy(&mut reader.take(size), &mut self.out)?;
            if copied != size {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a side is shorter than announced"));
            }
        }
        self.records += 1;
        Ok(())
    }

    /// Ends the document and returns the writer beneath and the number of records.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        self.record(&Record::End { end: End { records: self.records } })?;
        self.out.flush()?;
        Ok((self.out, self.records))
    }

    fn record(&mut self, record: &Record) -> io::Result<()> {
        let header = serde_json::to_vec(record)?;
        let len = u32::try_from(header.len()).ok().filter(|len| *len <= MAX_HEADER).ok_or_else(|| bad("header too long"))?;
        self.out.write_all(&len.to_be_bytes())?;
        self.out.write_all(&header)
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("sealed changes: {what}"))
}

/// Mode and size of a side.
pub type SideFacts = (Mode, u64);

/// Reads and checks a whole document; the input is hostile.
pub fn read(input: impl Read, caps: ChangesCaps) -> io::Result<Vec<Change>> {
    let mut changes: Vec<Change> = Vec::new();
    each(input, caps, &mut |path, base, new, content| {
        let mut side = |facts: Option<SideFacts>| -> io::Result<Option<Side>> {
            let Some((mode, size)) = facts else { return Ok(None) };
            // Grows as bytes really arrive: an announced size alone allocates nothing.
            let mut bytes = Vec::new();
            content.take(size).read_to_end(&mut bytes)?;
            if bytes.len() as u64 != size {
                return Err(bad("cut"));
            }
            Ok(Some(Side { mode, bytes }))
        };
        let base = side(base)?;
        let new = side(new)?;
        if base == new {
            return Err(bad("a record without a change"));
        }
        changes.push(Change { path, base, new });
        Ok(())
    })?;
    Ok(changes)
}

/// What is given each record: the path, both sides, and a reader of the base bytes and then the new ones.
pub type Sink<'a> = dyn FnMut(RepoPath, Option<SideFacts>, Option<SideFacts>, &mut dyn Read) -> io::Result<()> + 'a;

/// Reads and checks a document record by record, holding none; how many there were. What of a record is not read is passed over.
pub fn each(mut input: impl Read, caps: ChangesCaps, sink: &mut Sink<'_>) -> io::Result<u64> {
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(bad("unknown form"));
    }
    let (mut records, mut total, mut directories) = (0u64, 0u64, 0u64);
    let mut last: Option<RepoPath> = None;
    let capped = !weaken::off("collect.caps");
    loop {
        let mut len = [0; 4];
        input.read_exact(&mut len)?;
        let len = u32::from_be_bytes(len);
        if len > MAX_HEADER && capped {
            return Err(bad("header too long"));
        }
        let mut header = vec![0; len as usize];
        input.read_exact(&mut header)?;
        match serde_json::from_slice(&header).map_err(|_| bad("header"))? {
            Record::End { end } => {
                if end.records != records || input.read(&mut [0])? != 0 {
                    return Err(bad("end does not fit"));
                }
                return Ok(records);
            }
            Record::Change { path, base, new } => {
                directories = directories.saturating_add(new_directories(last.as_ref(), &path));
                if capped && (records >= caps.records || directories > caps.directories) {
                    return Err(bad("too many records"));
                }
                if last.as_ref().is_some_and(|last| *last >= path) || (base.is_none() && new.is_none()) {
                    return Err(bad("records out of order"));
                }
                let mut bytes = 0u64;
                for SideHeader { mode, size } in [&base, &new].into_iter().flatten() {
                    total = total.saturating_add(*size);
                    bytes = bytes.saturating_add(*size);
                    if *mode == Mode::Submodule && !weaken::off("collect.types") {
                        return Err(bad("a submodule has no content"));
                    }
                    if capped && (*size > caps.side_bytes || total > caps.total_bytes) {
                        return Err(bad("side out of range"));
                    }
                }
                let facts = |side: Option<SideHeader>| side.map(|SideHeader { mode, size }| (mode, size));
                let mut content = input.by_ref().take(bytes);
                sink(path.clone(), facts(base), facts(new), &mut content)?;
                let left = content.limit();
                if io::copy(&mut content, &mut io::sink())? != left {
                    return Err(bad("cut"));
                }
                (records, last) = (records + 1, Some(path));
            }
        }
    }
}

/// Writes a whole document.
pub fn write(changes: &[Change]) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new())?;
    for change in changes {
        let (mut base, mut new) =
            (change.base.as_ref().map(|s| (s.mode, s.bytes.as_slice())), change.new.as_ref().map(|s| (s.mode, s.bytes.as_slice())));
        let base = base.as_mut().map(|(mode, bytes)| (*mode, bytes.len() as u64, bytes as &mut dyn Read));
        let new = new.as_mut().map(|(mode, bytes)| (*mode, bytes.len() as u64, bytes as &mut dyn Read));
        writer.change(&change.path, base, new)?;
    }
    Ok(writer.finish()?.0)
}

/// The object id of a side.
pub fn side_id(side: &Side, format: super::manifest::ObjectFormat) -> ObjectId {
    format.hash("blob", &side.bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change(path: &[u8], base: Option<&[u8]>, new: Option<&[u8]>) -> Change {
        let side = |bytes: &[u8]| Side { mode: Mode::File, bytes: bytes.to_vec() };
        Change { path: RepoPath::parse(path).unwrap(), base: base.map(side), new: new.map(side) }
    }

    fn written(changes: &[Change]) -> Vec<u8> {
        write(changes).unwrap()
    }

    #[test]
    fn every_kind_of_change_comes_back() {
        let mut changes = [
            change(b"\xff\n", Some(b"old"), Some(b"")),
            change(b"added", None, Some(b"AHCHG1\n")),
            change(b"deleted", Some(b"x"), None),
            change(b"link", None, Some(b"target")),
        ];
        changes[3].new.as_mut().unwrap().mode = Mode::Symlink;
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        assert_eq!(read(written(&changes).as_slice(), ChangesCaps::default()).unwrap(), changes);
        assert_eq!(read(written(&[]).as_slice(), ChangesCaps::default()).unwrap(), []);
    }

    #[test]
    fn what_of_a_record_nobody_reads_is_passed_over() {
        let document = written(&[change(b"a", Some(b"base"), Some(b"new")), change(b"b", None, Some(b"2"))]);
        let mut seen = Vec::new();
        let mut sink = |path: RepoPath, base: Option<SideFacts>, new: Option<SideFacts>, content: &mut dyn Read| {
            let mut first = [0; 2];
            if base.is_some() {
                content.read_exact(&mut first)?;
            }
            seen.push((path.as_bytes().to_vec(), first, new));
            Ok(())
        };
        assert_eq!(each(document.as_slice(), ChangesCaps::default(), &mut sink).unwrap(), 2);
        assert_eq!(seen, [(b"a".to_vec(), *b"ba", Some((Mode::File, 3))), (b"b".to_vec(), [0; 2], Some((Mode::File, 1)))]);
    }

    #[test]
    fn a_short_side_is_not_written_as_if_it_were_whole() {
        let mut writer = Writer::new(Vec::new()).unwrap();
        let path = RepoPath::parse(b"a").unwrap();
        assert!(writer.change(&path, None, Some((Mode::File, 9, &mut &b"short"[..]))).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let good = written(&[change(b"a", None, Some(b"1")), change(b"b", None, Some(b"2"))]);
        assert!(read(good.as_slice(), ChangesCaps::default()).is_ok());
        for cut in 0..good.len() {
            assert!(read(&good[..cut], ChangesCaps::default()).is_err(), "cut at {cut}");
        }
        assert!(read([&good[..], b"x"].concat().as_slice(), ChangesCaps::default()).is_err());
        let caps = ChangesCaps::default();
        assert!(read(good.as_slice(), ChangesCaps { records: 1, ..caps }).is_err());
        assert!(read(good.as_slice(), ChangesCaps { side_bytes: 0, ..caps }).is_err());
        assert!(read(good.as_slice(), ChangesCaps { total_bytes: 1, ..caps }).is_err());
        let deep = written(&[change(b"a/b/c", None, Some(b"1")), change(b"a/d/e/f", None, Some(b"2")), change(b"a/d/e/g", None, Some(b"2"))]);
        assert!(read(deep.as_slice(), ChangesCaps { directories: 4, ..caps }).is_ok());
        assert!(read(deep.as_slice(), ChangesCaps { directories: 3, ..caps }).is_err());
        for bad in [
            vec![change(b"b", None, Some(b"2")), change(b"a", None, Some(b"1"))],
            vec![change(b"a", None, Some(b"1")), change(b"a", None, Some(b"1"))],
            vec![change(b"a", Some(b"1"), Some(b"1"))],
            vec![change(b"a", None, None)],
        ] {
            assert!(read(written(&bad).as_slice(), caps).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_announced_size_alone_allocates_nothing() {
        let header = br#"{"path":"YQ==","base":null,"new":{"mode":"100644","size":200000000}}"#;
        let mut document = MAGIC.to_vec();
        document.extend(u32::try_from(header.len()).unwrap().to_be_bytes());
        document.extend(header);
        assert!(read(document.as_slice(), ChangesCaps::default()).is_err());
        let mut document = MAGIC.to_vec();
        document.extend(u32::MAX.to_be_bytes());
        assert!(read(document.as_slice(), ChangesCaps::default()).is_err());
    }

    #[test]
    fn headers_with_anything_unknown_are_refused() {
        for header in [
            r#"{"path":"Li4vYQ==","base":null,"new":{"mode":"100644","size":0}}"#,
            r#"{"path":"YQ==","base":null,"new":{"mode":"160000","size":0}}"#,
            r#"{"path":"YQ==","base":null,"new":{"mode":"100666","size":0}}"#,
            r#"{"path":"YQ==","base":null,"new":{"mode":"100644","size":0},"more":1}"#,
            r#"{"path":"YQ==","base":null,"new":{"mode":"100644","size":-1}}"#,
            r#"{"end":{"records":0},"more":1}"#,
        ] {
            let mut document = MAGIC.to_vec();
            document.extend(u32::try_from(header.len()).unwrap().to_be_bytes());
            document.extend(header.as_bytes());
            let end = br#"{"end":{"records":1}}"#;
            document.extend(u32::try_from(end.len()).unwrap().to_be_bytes());
            document.extend(end);
            assert!(read(document.as_slice(), ChangesCaps::default()).is_err(), "{header}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6)) {
            let mut document = written(&[change(b"a", Some(b"0"), Some(b"1")), change(b"b", None, Some(b"22"))]);
            for (at, byte) in flips {
                let at = at.index(document.len());
                document[at] = byte;
            }
            if let Ok(changes) = read(document.as_slice(), ChangesCaps { records: 10, side_bytes: 1 << 20, total_bytes: 1 << 20, directories: 10 }) {
                prop_assert!(changes.is_sorted_by(|a, b| a.path < b.path));
            }
        }
    }
}
