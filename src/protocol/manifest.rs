//! The manifest: what was delivered, byte for byte. Its SHA-256 is recorded in the gateway's ledger, where no job can reach it.
//!
//! Form:
//! ```text
//! anchorhold-manifest 1 <sha1|sha256> <frames> <entries>\n
//! <compressed bytes> <plain bytes>\n                              (one line a frame)
//! <mode> <object id> <size> <frame> <offset>\t<path>\0            (one an entry, sorted by path bytes)
//! ```
//! A frame is one zstd file in `/job/in/frames` whose plain content is the bytes of its entries one after another, so that `init`
//! unpacks frames in parallel and later reads one file's base bytes without unpacking all. No entry spans two frames.
//! Entries of mode 160000 (submodules) carry no bytes.

use std::io::{self, BufRead, Read, Write};

use super::repo_path::RepoPath;

/// Kinds of entry that a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// 100644.
    File,
    /// 100755.
    Executable,
    /// 120000.
    Symlink,
    /// 160000: an empty directory in the cell.
    Submodule,
}

impl Mode {
    /// git's six digits.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "100644",
            Self::Executable => "100755",
            Self::Symlink => "120000",
            Self::Submodule => "160000",
        }
    }

    /// Parses git's six digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b"100644" => Some(Self::File),
            b"100755" => Some(Self::Executable),
            b"120000" => Some(Self::Symlink),
            b"160000" => Some(Self::Submodule),
            _ => None,
        }
    }
}

impl serde::Serialize for Mode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Mode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(text.as_bytes()).ok_or_else(|| serde::de::Error::custom("unknown mode"))
    }
}

/// The repository's hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectFormat {
    /// 20 bytes.
    Sha1,
    /// 32 bytes.
    Sha256,
}

impl ObjectFormat {
    /// git's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// Bytes of an id.
    pub fn id_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// The object id of `<kind> <len>\0<content>`.
    pub fn hash(self, kind: &str, content: &[u8]) -> ObjectId {
        use sha1::Digest as _;
        let header = format!("{kind} {}\0", content.len());
        match self {
            Self::Sha1 => ObjectId::from_slice(&sha1::Sha1::new().chain_update(header.as_bytes()).chain_update(content).finalize()),
            Self::Sha256 => ObjectId::from_slice(&sha2::Sha256::new().chain_update(header.as_bytes()).chain_update(content).finalize()),
        }
    }
}

/// A git object id of either length.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    bytes: [u8; 32],
    len: u8,
}

impl ObjectId {
    fn from_slice(bytes: &[u8]) -> Self {
        let mut id = Self { bytes: [0; 32], len: u8::try_from(bytes.len()).unwrap_or(32).min(32) };
        let len = usize::from(id.len);
        id.bytes[..len].copy_from_slice(&bytes[..len]);
        id
    }

    /// The id's bytes: 20 or 32.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Lower-case hex.
    pub fn to_hex(&self) -> String {
        hex(self.as_bytes())
    }

    /// Parses 40 or 64 hex digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != 40 && text.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (slot, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |b: u8| char::from(b).to_digit(16);
            *slot = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
        }
        Some(Self { bytes, len: u8::try_from(text.len() / 2).ok()? })
    }
}

impl std::fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// Lower-case hex of bytes.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [char::from(DIGITS[usize::from(b >> 4)]), char::from(DIGITS[usize::from(b & 15)])]).collect()
}

/// One delivered entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub path: RepoPath,
    /// What kind.
    pub mode: Mode,
    /// git's id of the bytes (for a submodule: of its commit).
    pub id: ObjectId,
    /// Bytes.
    pub size: u64,
    /// Which frame.
    pub frame: u32,
    /// Where in the frame's plain content.
    pub offset: u64,
}

/// One frame's sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Size of the zstd file.
    pub compressed: u64,
    /// Size of its plain content.
    pub plain: u64,
}

/// A parsed manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The repository's hash function.
    pub format: ObjectFormat,
    /// The frames in order.
    pub frames: Vec<Frame>,
    /// The entries, strictly ascending by path bytes.
    pub entries: Vec<Entry>,
}

/// Upper bounds of a readable manifest.
#[derive(Debug, Clone, Copy)]
pub struct ManifestCaps {
    /// Entries.
    pub entries: u64,
    /// Bytes of the whole document.
    pub bytes: u64,
}

impl Default for ManifestCaps {
    fn default() -> Self {
        Self { entries: 2_000_000, bytes: 512 << 20 }
    }
}

impl Manifest {
    /// Writes the document.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "anchorhold-manifest 1 {} {} {}", self.format.as_str(), self.frames.len(), self.entries.len())?;
        for frame in &self.frames {
            writeln!(out, "{} {}", frame.compressed, frame.plain)?;
        }
        for entry in &self.entries {
            write!(out, "{} {} {} {} {}\t", entry.mode.as_str(), entry.id.to_hex(), entry.size, entry.frame, entry.offset)?;
            out.write_all(entry.path.as_bytes())?;
            out.write_all(b"\0")?;
        }
        Ok(())
    }

    /// Reads and checks a document: order, ranges, ids of the right length.
    pub fn read(input: impl Read, caps: ManifestCaps) -> io::Result<Self> {
        let mut input = io::BufReader::with_capacity(1 << 16, input.take(caps.bytes));
        let mut header = Header::read(&mut input, caps)?;
        let mut entries = Vec::with_capacity(usize::try_from(header.entries.min(1 << 16)).unwrap_or(0));
        while let Some(entry) = header.next_entry(&mut input)? {
            entries.push(entry);
        }
        Ok(Self { format: header.format, frames: header.frames, entries })
    }

    /// The entry at a path.
    pub fn find(&self, path: &[u8]) -> Option<&Entry> {
        self.entries.binary_search_by(|entry| entry.path.as_bytes().cmp(path)).ok().map(|at| &self.entries[at])
    }
}

/// A manifest read entry by entry, for a reader that must not hold it whole.
pub struct Header {
    /// The repository's hash function.
    pub format: ObjectFormat,
    /// The frames in order.
    pub frames: Vec<Frame>,
    /// How many entries follow.
    pub entries: u64,
    seen: u64,
    last: Vec<u8>,
    buffer: Vec<u8>,
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("manifest: {what}"))
}

impl Header {
    /// Reads up to the first entry.
    pub fn read(input: &mut impl BufRead, caps: ManifestCaps) -> io::Result<Self> {
        let line = read_line(input)?;
        let mut words = line.split(' ');
        if words.next() != Some("anchorhold-manifest") || words.next() != Some("1") {
            return Err(bad("unknown form"));
        }
        let format = match words.next() {
            Some("sha1") => ObjectFormat::Sha1,
            Some("sha256") => ObjectFormat::Sha256,
            _ => return Err(bad("unknown object format")),
        };
        let frame_count: u64 = number(words.next())?;
        let entries: u64 = number(words.next())?;
        if words.next().is_some() || entries > caps.entries || frame_count > entries.max(1) {
            return Err(bad("header out of range"));
        }
        let mut frames = Vec::new();
        for _ in 0..frame_count {
            let line = read_line(input)?;
            let (compressed, plain) = line.split_once(' ').ok_or_else(|| bad("frame line"))?;
            frames.push(Frame { compressed: number(Some(compressed))?, plain: number(Some(plain))? });
        }
        Ok(Self { format, frames, entries, seen: 0, last: Vec::new(), buffer: Vec::new() })
    }

    /// Reads the next entry; `None` after the last, which must be the end of the document.
    pub fn next_entry(&mut self, input: &mut impl BufRead) -> io::Result<Option<Entry>> {
        self.buffer.clear();
        if self.seen == self.entries {
            return if input.fill_buf()?.is_empty() { Ok(None) } else { Err(bad("bytes after the last entry")) };
        }
        // One entry is bounded by its numbers and the longest path.
        input.by_ref().take(super::repo_path::MAX_PATH as u64 + 256).read_until(0, &mut self.buffer)?;
        if self.buffer.pop() != Some(0) {
            return Err(bad("entry without end"));
        }
        let tab = self.buffer.iter().position(|b| *b == b'\t').ok_or_else(|| bad("entry without path"))?;
        let facts = std::str::from_utf8(&self.buffer[..tab]).map_err(|_| bad("entry facts"))?;
        let mut words = facts.split(' ');
        let mode = words.next().and_then(|w| Mode::parse(w.as_bytes())).ok_or_else(|| bad("mode"))?;
        let id = words.next().and_then(|w| ObjectId::parse(w.as_bytes())).ok_or_else(|| bad("object id"))?;
        let size = number(words.next())?;
        let frame = number(words.next())?;
        let offset: u64 = number(words.next())?;
        if words.next().is_some() || id.as_bytes().len() != self.format.id_len() {
            return Err(bad("entry facts"));
        }
        let path = RepoPath::parse(&self.buffer[tab + 1..]).map_err(|e| bad(&e.to_string()))?;
        if self.seen > 0 && path.as_bytes() <= self.last.as_slice() {
            return Err(bad("entries out of order"));
        }
        let frame = u32::try_from(frame).map_err(|_| bad("frame number"))?;
        let fits = match self.frames.get(frame as usize) {
            Some(f) => offset.checked_add(size).is_some_and(|end| end <= f.plain),
            None => false,
        };
        if !(fits || mode == Mode::Submodule || size == 0) {
            return Err(bad("entry outside its frame"));
        }
        self.last.clear();
        self.last.extend_from_slice(path.as_bytes());
        self.seen += 1;
        Ok(Some(Entry { path, mode, id, size, frame, offset }))
    }
}

fn read_line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    input.by_ref().take(256).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(bad("line without end"));
    }
    String::from_utf8(line).map_err(|_| bad("line is not text"))
}

fn number(text: Option<&str>) -> io::Result<u64> {
    // `str::parse` would take a leading plus sign.
    match text {
        Some(t) if !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()) => t.parse().map_err(|_| bad("number")),
        _ => Err(bad("number")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(path: &[u8], mode: Mode, content: &[u8], offset: u64) -> Entry {
        let id = ObjectFormat::Sha1.hash("blob", content);
        Entry { path: RepoPath::parse(path).unwrap(), mode, id, size: content.len() as u64, frame: 0, offset }
    }

    fn sample() -> Manifest {
        Manifest {
            format: ObjectFormat::Sha1,
            frames: vec![Frame { compressed: 20, plain: 9 }],
            entries: vec![
                entry(b"a\tb\n", Mode::File, b"abc", 0),
                entry(b"link", Mode::Symlink, b"target", 3),
                entry(b"module", Mode::Submodule, b"", 0),
                entry(b"\xff", Mode::Executable, b"", 9),
            ],
        }
    }

    fn document(manifest: &Manifest) -> Vec<u8> {
        let mut out = Vec::new();
        manifest.write(&mut out).unwrap();
        out
    }

    fn parse(bytes: &[u8]) -> io::Result<Manifest> {
        Manifest::read(bytes, ManifestCaps::default())
    }

    #[test]
    fn ids_are_those_of_git() {
        assert_eq!(ObjectFormat::Sha1.hash("blob", b"hello\n").to_hex(), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(ObjectFormat::Sha1.hash("tree", b"").to_hex(), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
        let empty = "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321";
        assert_eq!(ObjectFormat::Sha256.hash("tree", b"").to_hex(), empty);
        assert_eq!(ObjectId::parse(empty.as_bytes()).unwrap().to_hex(), empty);
        for bad in [&empty[1..], &empty[..41], "", &"g".repeat(40), &"+1".repeat(20)] {
            assert_eq!(ObjectId::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_document_comes_back_and_finds_its_entries() {
        let manifest = sample();
        let read = parse(&document(&manifest)).unwrap();
        assert_eq!(read, manifest);
        assert_eq!(read.find(b"link").unwrap().offset, 3);
        assert_eq!((read.find(b"lin"), read.find(b"")), (None, None));
        let empty = Manifest { format: ObjectFormat::Sha256, frames: Vec::new(), entries: Vec::new() };
        assert_eq!(parse(&document(&empty)).unwrap(), empty);
    }

    #[test]
    fn a_cut_or_longer_document_is_refused() {
        let whole = document(&sample());
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_err(), "cut at {cut}");
        }
        assert!(parse(&[&whole[..], b"\0"].concat()).is_err());
        assert!(Manifest::read(whole.as_slice(), ManifestCaps { entries: 3, bytes: 1 << 20 }).is_err());
        assert!(Manifest::read(whole.as_slice(), ManifestCaps { entries: 9, bytes: whole.len() as u64 - 1 }).is_err());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let changed = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = sample();
            change(&mut manifest);
            parse(&document(&manifest))
        };
        assert!(changed(&|_| {}).is_ok());
        assert!(changed(&|m| m.entries.swap(0, 1)).is_err());
        assert!(changed(&|m| m.entries[1].path = m.entries[0].path.clone()).is_err());
        assert!(changed(&|m| m.entries[1].frame = 1).is_err());
        assert!(changed(&|m| m.entries[1].size = 7).is_err());
        assert!(changed(&|m| m.entries[1].offset = u64::MAX).is_err());
        assert!(changed(&|m| m.entries[1].id = ObjectFormat::Sha256.hash("blob", b"")).is_err());
        assert!(changed(&|m| m.frames = vec![m.frames[0]; 5]).is_err());
        let text = |from: &str, to: &str| {
            let whole = document(&sample());
            let at = whole.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
            parse(&[&whole[..at], to.as_bytes(), &whole[at + from.len()..]].concat())
        };
        assert!(text("link", "link").is_ok());
        for (from, to) in [
            ("\tlink", "\t../x"),
            ("\tlink", "\t.git"),
            ("100755", "040000"),
            (" 1 4\n", " 1 5\n"),
            (" 1 4\n", " 1 +4\n"),
            (" 1 sha1", " 2 sha1"),
            ("sha1", "md5"),
        ] {
            assert!(text(from, to).is_err(), "{from:?} {to:?}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6)) {
            let mut bytes = document(&sample());
            for (at, byte) in flips {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(manifest) = parse(&bytes) {
                prop_assert_eq!(&parse(&document(&manifest)).unwrap(), &manifest);
                prop_assert!(manifest.entries.is_sorted_by(|a, b| a.path < b.path));
            }
        }
    }
}
