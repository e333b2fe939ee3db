//! git packs written by hand: no git is run, because the image may be any image.
//!
//! Blobs are *stored* (zlib without compression): the bytes are in the page cache anyway, and deflating them would cost more than
//! everything else `init` does. Formats: git's `gitformat-pack`.

use std::fs::File;
use std::io::{self, Write};

use sha1::Digest as _;

use crate::protocol::manifest::{ObjectFormat, ObjectId, hex};

/// The repository's hash function as a running digest.
#[derive(Clone)]
pub enum Hasher {
    /// 20 bytes.
    Sha1(sha1::Sha1),
    /// 32 bytes.
    Sha256(sha2::Sha256),
}

impl Hasher {
    /// Starts.
    pub fn new(format: ObjectFormat) -> Self {
        match format {
            ObjectFormat::Sha1 => Self::Sha1(sha1::Sha1::new()),
            ObjectFormat::Sha256 => Self::Sha256(sha2::Sha256::new()),
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(h) => h.update(bytes),
            Self::Sha256(h) => h.update(bytes),
        }
    }

    /// Ends.
    pub fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha1(h) => h.finalize().to_vec(),
            Self::Sha256(h) => h.finalize().to_vec(),
        }
    }
}

/// Kinds of object that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A commit.
    Commit = 1,
    /// A tree.
    Tree = 2,
    /// A file's or link's bytes.
    Blob = 3,
}

const FLUSH: usize = 1 << 18;
const STORED_BLOCK: u64 = 65_535;

/// Writes one pack of a known number of objects.
pub struct PackWriter {
    format: ObjectFormat,
    out: File,
    hash: Hasher,
    buffer: Vec<u8>,
    flushed: u64,
    announced: u32,
    objects: Vec<Packed>,
    open: Option<Open>,
}

struct Packed {
    id: ObjectId,
    crc: u32,
    offset: u64,
}

struct Open {
    id: ObjectId,
    offset: u64,
    left: u64,
    block_left: u64,
    adler: Adler,
    crc: crc32fast::Hasher,
    /// Where in the buffer the part begins that the CRC has not seen.
    crc_from: usize,
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("git pack: {what}"))
}

impl PackWriter {
    /// Starts a pack in an empty file.
    pub fn new(out: File, format: ObjectFormat, objects: u32) -> Self {
        let mut buffer = Vec::with_capacity(FLUSH + FLUSH / 4);
        buffer.extend_from_slice(b"PACK\0\0\0\x02");
        buffer.extend_from_slice(&objects.to_be_bytes());
        let hash = Hasher::new(format);
        Self { format, out, hash, buffer, flushed: 0, announced: objects, objects: Vec::new(), open: None }
    }

    /// Starts an object of just `size` bytes.
    pub fn begin(&mut self, kind: Kind, id: ObjectId, size: u64) -> io::Result<()> {
        self.flush_if_full()?;
        let offset = self.flushed + self.buffer.len() as u64;
        let crc_from = self.buffer.len();
        // Three bits of type and four of size, then seven of size a byte.
        let mut byte = ((kind as u8) << 4) | u8::try_from(size & 15).unwrap_or(0);
        let mut rest = size >> 4;
        while rest > 0 {
            self.buffer.push(byte | 0x80);
            byte = u8::try_from(rest & 127).unwrap_or(0);
            rest >>= 7;
        }
        self.buffer.push(byte);
        self.buffer.extend_from_slice(&[0x78, 0x01]);
        if size == 0 {
            self.buffer.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
        }
        self.open = Some(Open { id, offset, left: size, block_left: 0, adler: Adler::new(), crc: crc32fast::Hasher::new(), crc_from });
        Ok(())
    }

    /// Adds bytes to the object.
    pub fn data(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut open = self.open.take().ok_or_else(|| broken("no object is open"))?;
        if bytes.len() as u64 > open.left {
            return Err(broken("object longer than announced"));
        }
        open.adler.update(bytes);
        while !bytes.is_empty() {
            if open.block_left == 0 {
                let block = open.left.min(STORED_BLOCK);
                let len = u16::try_from(block).unwrap_or(u16::MAX);
                self.buffer.push(u8::from(open.left == block));
                self.buffer.extend_from_slice(&len.to_le_bytes());
                self.buffer.extend_from_slice(&(!len).to_le_bytes());
                open.block_left = block;
            }
            let part = bytes.len().min(usize::try_from(open.block_left).unwrap_or(usize::MAX));
            let (now, later) = bytes.split_at(part);
            self.buffer.extend_from_slice(now);
            open.block_left -= part as u64;
            open.left -= part as u64;
            bytes = later;
            if self.buffer.len() >= FLUSH {
                open.crc.update(self.buffer.get(open.crc_from..).unwrap_or_default());
                open.crc_from = 0;
                self.flush()?;
            }
        }
        self.open = Some(open);
        Ok(())
    }

    /// Ends the object.
    pub fn end(&mut self) -> io::Result<()> {
        let mut open = self.open.take().ok_or_else(|| broken("no object is open"))?;
        if open.left != 0 {
            return Err(broken("object shorter than announced"));
        }
        self.buffer.extend_from_slice(&open.adler.finish().to_be_bytes());
        open.crc.update(self.buffer.get(open.crc_from..).unwrap_or_default());
        self.objects.push(Packed { id: open.id, crc: open.crc.finalize(), offset: open.offset });
        Ok(())
    }

    /// A whole object at once.
    pub fn object(&mut self, kind: Kind, id: ObjectId, bytes: &[u8]) -> io::Result<()> {
        self.begin(kind, id, bytes.len() as u64)?;
        self.data(bytes)?;
        self.end()
    }

    /// Ends the pack, writes its index into `idx`, and returns the hex name that both files get.
    pub fn finish(mut self, idx: File) -> io::Result<String> {
        if self.objects.len() as u64 != u64::from(self.announced) {
            return Err(broken("not the announced number of objects"));
        }
        self.flush()?;
        let checksum = self.hash.clone().finish();
        self.out.write_all(&checksum)?;
        self.write_index(idx, &checksum)?;
        Ok(hex(&checksum))
    }

    fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() >= FLUSH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hash.update(&self.buffer);
        self.out.write_all(&self.buffer)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn write_index(&mut self, mut idx: File, checksum: &[u8]) -> io::Result<()> {
        self.objects.sort_unstable_by_key(|object| object.id);
        let mut out = Vec::with_capacity(self.objects.len() * (self.format.id_len() + 8) + 2048);
        out.extend_from_slice(b"\xfftOc\0\0\0\x02");
        let mut at = 0;
        for first in 0..=u8::MAX {
            at += self.objects.iter().skip(at).take_while(|o| o.id.as_bytes().first().is_some_and(|b| *b <= first)).count();
            out.extend_from_slice(&u32::try_from(at).unwrap_or(u32::MAX).to_be_bytes());
        }
        for object in &self.objects {
            out.extend_from_slice(object.id.as_bytes());
        }
        for object in &self.objects {
            out.extend_from_slice(&object.crc.to_be_bytes());
        }
        for object in &self.objects {
            // Callers keep packs far below 2 GiB, so the table of long offsets is never needed.
            let offset = u32::try_from(object.offset).ok().filter(|offset| *offset < 1 << 31).ok_or_else(|| broken("too large"))?;
            out.extend_from_slice(&offset.to_be_bytes());
        }
        out.extend_from_slice(checksum);
        let mut hash = Hasher::new(self.format);
        hash.update(&out);
        out.extend_from_slice(&hash.finish());
        idx.write_all(&out)
    }
}

/// Adler-32, the checksum of a zlib stream (RFC 1950), in a form that compilers turn into vector code.
struct Adler {
    a: u32,
    b: u32,
}

impl Adler {
    const MODULUS: u32 = 65_521;
    /// Bytes after which the sums must be reduced, a multiple of [`Self::LANES`] not above 5552.
    const RUN: usize = 5536;
    const LANES: usize = 32;

    fn new() -> Self {
        Self { a: 1, b: 0 }
    }

    fn update(&mut self, bytes: &[u8]) {
        for run in bytes.chunks(Self::RUN) {
            let mut blocks = run.chunks_exact(Self::LANES);
            for block in &mut blocks {
                let (mut sum, mut weighted) = (0u32, 0u32);
                for (at, byte) in block.iter().enumerate() {
                    sum += u32::from(*byte);
                    weighted += u32::from(*byte) * (Self::LANES - at) as u32;
                }
                self.b += self.a * Self::LANES as u32 + weighted;
                self.a += sum;
            }
            for byte in blocks.remainder() {
                self.a += u32::from(*byte);
                self.b += self.a;
            }
            self.a %= Self::MODULUS;
            self.b %= Self::MODULUS;
        }
    }

    fn finish(&self) -> u32 {
        (self.b << 16) | self.a
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adler_is_the_known_one() {
        let check = |bytes: &[u8]| {
            let (mut a, mut b) = (1u64, 0u64);
            for byte in bytes {
                a = (a + u64::from(*byte)) % 65_521;
                b = (b + a) % 65_521;
            }
            let mut adler = Adler::new();
            let (one, two) = bytes.split_at(bytes.len() / 3);
            adler.update(one);
            adler.update(two);
            assert_eq!(u64::from(adler.finish()), (b << 16) | a, "{} bytes", bytes.len());
        };
        check(b"");
        check(b"Wikipedia");
        check(&[0xff; 5552 * 7 + 13]);
        check(&(0..70_000u32).map(|i| (i * 7 % 251) as u8).collect::<Vec<_>>());
    }
}
