//! Reading what the engine sends of a job's directory: a tar stream from which only the expected plain files are taken.
//!
//! Nothing is unpacked: each file goes to memory or, when large, to an unnamed temporary file, never under a name from the archive.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use sha2::Digest as _;
use tempfile::SpooledTempFile;
use tokio::sync::mpsc;

use super::service::Core;
use crate::engine::{ContainerRef, engine_is_away};
use crate::error::{Code, Error, Result};

/// What is kept in memory of one file.
const IN_MEMORY: usize = 4 << 20;
/// Entries that one archive may have.
const MAX_ENTRIES: u32 = 256;
/// Bytes of headers and padding beside the files.
const OVERHEAD: u64 = 1 << 20;
const CHUNKS_IN_FLIGHT: usize = 8;
/// Before the second and the third try of a download that broke off.
const AGAIN: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// A file that may be in the archive.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Its plain name, at the top of the directory.
    pub name: &'static str,
    /// Bytes that are taken.
    pub max: u64,
    /// More than that is cut off; otherwise it is an error.
    pub cut: bool,
}

/// A file that was there.
#[derive(Debug)]
pub struct Piece {
    data: SpooledTempFile,
    /// SHA-256 of the bytes, hex.
    pub sha256: String,
}

impl Piece {
    /// A reader from the start.
    pub fn reader(&mut self) -> io::Result<&mut SpooledTempFile> {
        self.data.seek(SeekFrom::Start(0))?;
        Ok(&mut self.data)
    }

    /// The same, for one who keeps it.
    pub fn into_reader(mut self) -> io::Result<SpooledTempFile> {
        self.data.seek(SeekFrom::Start(0))?;
        Ok(self.data)
    }

    /// All bytes.
    pub fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.reader()?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// What was there, by name.
pub type Pieces = BTreeMap<&'static str, Piece>;

/// Downloads a directory; `None`: there is none. A download that breaks off begins again, twice at most.
pub(super) async fn directory(core: &Core, container: &ContainerRef, path: &str, expected: &'static [Expected]) -> Result<Option<Pieces>> {
    patiently(core, container, path, move |chunks| read(chunks, expected)).await
}

/// Downloads one file of at most so many bytes, with the same patience; `None`: there is none.
pub(super) async fn file(core: &Core, container: &ContainerRef, path: &str, max: u64) -> Result<Option<Piece>> {
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    patiently(core, container, path, move |chunks| read_one(chunks, name.as_bytes(), max)).await
}

async fn patiently<T: Send + 'static>(
    core: &Core,
    container: &ContainerRef,
    path: &str,
    read: impl Fn(ChunkReader) -> io::Result<T> + Clone + Send + 'static,
) -> Result<Option<T>> {
    for pause in AGAIN {
        match once(core, container, path, read.clone()).await {
            Err(e) if engine_is_away(&e) => {
                tracing::debug!(path, error = e.chain(), "a download broke off");
                tokio::time::sleep(pause).await;
            }
            done => return done,
        }
    }
    once(core, container, path, read).await
}

async fn once<T: Send + 'static>(
    core: &Core,
    container: &ContainerRef,
    path: &str,
    read: impl Fn(ChunkReader) -> io::Result<T> + Send + 'static,
) -> Result<Option<T>> {
    let Some(mut stream) = core.engine().await?.download(container, path).await? else { return Ok(None) };
    let (chunks, receiver) = mpsc::channel::<Bytes>(CHUNKS_IN_FLIGHT);
    let reading = core.tasks.spawn_blocking(move || read(ChunkReader { receiver, current: Bytes::new() }));
    let mut broken = None;
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => {
                if chunks.send(chunk).await.is_err() {
                    break;
                }
            }
            Err(e) => {
                broken = Some(e);
                break;
            }
        }
    }
    drop(chunks);
    let taken = reading.await.map_err(|e| Error::internal("read a download").with_source(e))?;
    match (broken, taken) {
        (Some(e), _) => Err(e),
        (None, Ok(taken)) => Ok(Some(taken)),
        (None, Err(e)) => Err(unread(path, e)),
    }
}

/// Why a download could not be read: for want of room here, which says nothing about the job, or because it is not what a job's directory holds.
fn unread(path: &str, e: io::Error) -> Error {
    if e.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<NotKept>) {
        return Error::new(Code::SetupFailed, format!("keep {path} of the job for as long as it is looked at"))
            .with_source(e)
            .with_hint("the job is unharmed; see that TMPDIR names a writable directory with free space, and ask again");
    }
    Error::new(Code::JobFailed, format!("read {path} of the job")).with_source(e).with_hint("the job's files are damaged; start a new job")
}

/// A temporary file of ours took no more.
#[derive(Debug, thiserror::Error)]
#[error("a temporary file could not be written: {0}")]
struct NotKept(io::Error);

/// The async stream's bytes for a blocking reader. A stream that broke looks ended here; the sender knows better.
struct ChunkReader {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.current = chunk,
                None => return Ok(0),
            }
        }
        let n = self.current.len().min(buffer.len());
        let part = self.current.split_to(n);
        if let Some(target) = buffer.get_mut(..n) {
            target.copy_from_slice(&part);
        }
        Ok(n)
    }
}

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Reads an archive; blocking.
pub fn read(input: impl Read, expected: &[Expected]) -> io::Result<Pieces> {
    // What is cut or skipped still passes through, so the bound leaves room for one excess of each file.
    let total = expected.iter().fold(OVERHEAD, |sum, file| sum.saturating_add(file.max.saturating_mul(2)));
    let mut archive = tar::Archive::new(input.take(total));
    let mut pieces = Pieces::new();
    let mut seen = 0;
    // Raw: long names and extended headers would be read into memory at the size that they claim. Our names need neither.
    // What the archive's reader says quotes the archive, and names in it may be a job's words.
    let foreign = |e: io::Error| if e.kind() == io::ErrorKind::UnexpectedEof { bad("the archive is cut") } else { bad("no archive of ours") };
    for entry in archive.entries().map_err(foreign)?.raw(true) {
        let entry = entry.map_err(foreign)?;
        seen += 1;
        if seen > MAX_ENTRIES {
            return Err(bad("too many entries"));
        }
        let Some(file) = plain_name(&entry.path_bytes()).and_then(|name| expected.iter().find(|file| file.name.as_bytes() == name)) else {
            continue;
        };
        let header = entry.header();
        if header.entry_type() != tar::EntryType::Regular {
            return Err(bad(format!("{} is not a regular file", file.name)));
        }
        let size = header.entry_size().map_err(foreign)?;
        if size > file.max && !file.cut {
            return Err(bad(format!("{} has {size} bytes, {} are allowed", file.name, file.max)));
        }
        let piece = take(entry, size.min(file.max))?;
        if pieces.insert(file.name, piece).is_some() {
            return Err(bad(format!("{} is there twice", file.name)));
        }
    }
    Ok(pieces)
}

/// Reads an archive of one file, with this name and at most so many bytes; blocking.
pub fn read_one(input: impl Read, name: &[u8], max: u64) -> io::Result<Piece> {
    let mut archive = tar::Archive::new(input.take(max.saturating_add(OVERHEAD)));
    let foreign = |e: io::Error| if e.kind() == io::ErrorKind::UnexpectedEof { bad("the archive is cut") } else { bad("no archive of ours") };
    let entry = archive.entries().map_err(foreign)?.raw(true).next().ok_or_else(|| bad("the archive is empty"))?.map_err(foreign)?;
    if plain_name(&entry.path_bytes()) != Some(name) || entry.header().entry_type() != tar::EntryType::Regular {
        return Err(bad("the archive holds something else than the file"));
    }
    let size = entry.header().entry_size().map_err(foreign)?;
    if size > max {
        return Err(bad(format!("the file has {size} bytes, {max} are allowed")));
    }
    take(entry, size)
}

/// `directory/name` or `./name` or `name`: the plain name; `None` for anything deeper or odd.
fn plain_name(path: &[u8]) -> Option<&[u8]> {
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    match parts.as_slice() {
        [name] | [_, name] if !parts.contains(&&b".."[..]) => Some(name),
        _ => None,
    }
}

fn take(input: impl Read, size: u64) -> io::Result<Piece> {
    let mut data = SpooledTempFile::new(IN_MEMORY);
    let sha256 = keep(input, size, &mut data)?;
    Ok(Piece { data, sha256 })
}

/// Copies so many bytes, no fewer, and gives their digest.
fn keep(input: impl Read, size: u64, data: &mut impl io::Write) -> io::Result<String> {
    let mut hash = sha2::Sha256::new();
    let mut input = input.take(size);
    let mut buffer = vec![0; 64 << 10];
    let mut taken = 0u64;
    loop {
        let n = input.read(&mut buffer)?;
        let Some(part) = buffer.get(..n).filter(|part| !part.is_empty()) else { break };
        hash.update(part);
        data.write_all(part).map_err(|e| io::Error::other(NotKept(e)))?;
        taken += n as u64;
    }
    if taken != size {
        return Err(bad("the archive is cut"));
    }
    Ok(crate::protocol::manifest::hex(&hash.finalize()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A piece as if it had been downloaded.
    pub(in crate::job) fn piece(bytes: &[u8]) -> Piece {
        take(bytes, bytes.len() as u64).unwrap()
    }

    const EXPECTED: &[Expected] = &[Expected { name: "result.json", max: 1000, cut: false }, Expected { name: "events.jsonl", max: 1000, cut: true }];

    fn header(name: &[u8], kind: tar::EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o600);
        header.set_cksum();
        header
    }

    fn archive(entries: &[(&[u8], tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, kind, content) in entries {
            out.extend_from_slice(header(name, *kind, content.len() as u64).as_bytes());
            out.extend_from_slice(content);
            out.resize(out.len().next_multiple_of(512), 0);
        }
        out.resize(out.len() + 1024, 0);
        out
    }

    fn check(bytes: &[u8]) -> io::Result<Vec<(&'static str, Vec<u8>)>> {
        let pieces = read(bytes, EXPECTED)?;
        Ok(pieces.into_iter().map(|(name, mut piece)| (name, piece.bytes().unwrap())).collect())
    }

    use tar::EntryType as T;

    #[test]
    fn only_expected_plain_files_are_taken() {
        let bytes = archive(&[
            (b"out/", T::Directory, b""),
            (b"out/result.json", T::Regular, b"{}"),
            (b"out/events.jsonl", T::Regular, b"e"),
            (b"out/surprise", T::Regular, &[1; 3000]),
            (b"out/deeper/result.json", T::Regular, b"no"),
            (b"../result.json", T::Regular, b"no"),
            (b"/etc/result.json/x", T::Regular, b"no"),
            (b"out/link", T::Symlink, b""),
        ]);
        assert_eq!(check(&bytes).unwrap(), [("events.jsonl", b"e".to_vec()), ("result.json", b"{}".to_vec())]);
        assert_eq!(check(&archive(&[(b"./result.json", T::Regular, b"{}")])).unwrap().len(), 1);
        assert!(check(&archive(&[])).unwrap().is_empty());
    }

    #[test]
    fn hashes_are_of_the_bytes_taken() {
        let bytes = archive(&[(b"out/result.json", T::Regular, b"abc")]);
        let pieces = read(bytes.as_slice(), EXPECTED).unwrap();
        assert_eq!(pieces["result.json"].sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_full_disk_here_is_no_damage_of_the_job() {
        let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let here = unread("/job/out", keep(&b"abc"[..], 3, &mut full).unwrap_err());
        assert!(here.code == Code::SetupFailed && here.hint.is_some_and(|hint| hint.contains("TMPDIR") && hint.contains("unharmed")));
        let there = unread("/job/out", keep(&b"abc"[..], 4, &mut Vec::new()).unwrap_err());
        assert_eq!(there.code, Code::JobFailed);
    }

    #[test]
    fn links_devices_doubles_and_giants_are_refused() {
        for kind in [T::Symlink, T::Link, T::Char, T::Block, T::Fifo, T::Directory, T::GNUSparse, T::Continuous] {
            assert!(check(&archive(&[(b"out/result.json", kind, b"")])).is_err(), "{kind:?}");
        }
        assert!(check(&archive(&[(b"out/result.json", T::Regular, b"1"), (b"other/result.json", T::Regular, b"2")])).is_err());
        assert!(check(&archive(&[(b"out/result.json", T::Regular, &[0; 1001])])).is_err());
        assert_eq!(check(&archive(&[(b"out/events.jsonl", T::Regular, &[7; 1500])])).unwrap()[0].1.len(), 1000);
    }

    #[test]
    fn announced_sizes_allocate_nothing_and_cut_archives_are_errors() {
        let mut cut = archive(&[(b"out/result.json", T::Regular, &[7; 900])]);
        cut.truncate(700);
        assert!(check(&cut).is_err());
        // Claims far more than follows: as our own file, as something to skip, as a long name and as an extended header.
        for (name, kind) in
            [(&b"out/result.json"[..], T::Regular), (b"out/other", T::Regular), (b"././@LongLink", T::GNULongName), (b"x", T::XHeader)]
        {
            let mut bytes = header(name, kind, 1 << 40).as_bytes().to_vec();
            bytes.resize(bytes.len() + 2048, 0);
            assert!(!check(&bytes).is_ok_and(|taken| !taken.is_empty()), "{kind:?}");
        }
        let many: Vec<_> = (0..MAX_ENTRIES + 1).map(|_| (&b"out/x"[..], T::Regular, &b""[..])).collect();
        assert!(check(&archive(&many)).is_err());
        assert!(check(&[0xff; 2048]).is_err());
    }

    #[test]
    fn one_file_is_taken_by_its_name_kind_and_size() {
        let one =
            |entries: &[(&[u8], tar::EntryType, &[u8])], max| read_one(archive(entries).as_slice(), b"00001.zst", max).and_then(|mut p| p.bytes());
        assert_eq!(one(&[(b"00001.zst", T::Regular, b"abc")], 3).unwrap(), b"abc");
        assert!(one(&[(b"00001.zst", T::Regular, b"abc")], 2).is_err());
        assert!(one(&[(b"00002.zst", T::Regular, b"abc")], 9).is_err());
        assert!(one(&[(b"00001.zst", T::Symlink, b"")], 9).is_err());
        assert!(one(&[(b"x", T::Regular, b""), (b"00001.zst", T::Regular, b"abc")], 9).is_err());
        assert!(one(&[], 9).is_err());
    }

    #[test]
    fn a_long_name_does_not_rename_the_next_entry() {
        let bytes = archive(&[(b"././@LongLink", T::GNULongName, b"out/result.json\0"), (b"out/innocent", T::Regular, b"x")]);
        assert!(check(&bytes).unwrap().is_empty());
    }
}
