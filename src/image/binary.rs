//! Our own binary: the one that runs, if it can run in any image.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Code, Error, Result};

/// More program headers than any linker writes.
const HEADERS_MAX: u16 = 128;
const PT_INTERP: u32 = 3;

/// A binary that can go into the image.
#[derive(Debug)]
pub(super) struct Binary {
    /// At its start.
    pub(super) file: File,
    /// Bytes.
    pub(super) size: u64,
    /// SHA-256, hexadecimal.
    pub(super) digest: String,
}

/// Opens the binary for the image, checked: an executable for this architecture that needs no loader.
pub(super) fn open(path: &Path, architecture: &str) -> Result<Binary> {
    let fail = |why: String| Error::new(Code::SetupFailed, format!("use {} as the image's binary: {why}", path.display()));
    let mut file = File::open(path).map_err(|e| fail("it cannot be read".to_owned()).with_source(e))?;
    let size = file.metadata().map_err(|e| fail("it cannot be read".to_owned()).with_source(e))?.len();
    // The headers lie at the very start of an executable.
    let mut head = Vec::new();
    (&mut file).take(64 << 10).read_to_end(&mut head).map_err(|e| fail("it cannot be read".to_owned()).with_source(e))?;
    check(&head, architecture).map_err(|why| {
        fail(why.to_owned())
            .with_hint("use a release binary of Anchorhold for Linux, or build one with `cargo build --release` (it links statically)")
    })?;
    let digest = digest(&mut file).map_err(|e| fail("it cannot be read".to_owned()).with_source(e))?;
    Ok(Binary { file, size, digest })
}

/// Of the whole file, which is at its start afterwards.
fn digest(file: &mut File) -> std::io::Result<String> {
    file.rewind()?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hash.update(buffer.get(..n).unwrap_or_default()),
        }
    }
    file.rewind()?;
    Ok(crate::engine::hex(&hash.finalize()))
}

/// Reads an ELF header and the program headers (System V ABI, 64 bits, little-endian).
fn check(head: &[u8], architecture: &str) -> Result<(), &'static str> {
    const CUT: &str = "its ELF headers are malformed";
    let machine = match architecture {
        "x86_64" => 62,
        "aarch64" => 183,
        _ => return Err("this architecture is not supported"),
    };
    if head.get(..6) != Some(&[0x7f, b'E', b'L', b'F', 2, 1]) {
        return Err("it is not a 64-bit Linux executable");
    }
    if u16_at(head, 18).ok_or(CUT)? != machine {
        return Err("it is for another architecture than the engine's");
    }
    let start = usize::try_from(u64_at(head, 32).ok_or(CUT)?).map_err(|_| CUT)?;
    let (size, count) = (usize::from(u16_at(head, 54).ok_or(CUT)?), u16_at(head, 56).ok_or(CUT)?);
    if count == 0 || count > HEADERS_MAX {
        return Err(CUT);
    }
    for index in 0..usize::from(count) {
        let at = size.checked_mul(index).and_then(|offset| start.checked_add(offset)).ok_or(CUT)?;
        if u32_at(head, at).ok_or(CUT)? == PT_INTERP {
            return Err("it is linked dynamically, so it would not run in every image");
        }
    }
    Ok(())
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header for `machine` with program headers of these types.
    fn elf(machine: u16, types: &[u32]) -> Vec<u8> {
        let mut head = vec![0; 64 + 56 * types.len()];
        head[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        head[18..20].copy_from_slice(&machine.to_le_bytes());
        head[32..40].copy_from_slice(&64u64.to_le_bytes());
        head[54..56].copy_from_slice(&56u16.to_le_bytes());
        head[56..58].copy_from_slice(&u16::try_from(types.len()).unwrap().to_le_bytes());
        for (index, kind) in types.iter().enumerate() {
            head[64 + 56 * index..][..4].copy_from_slice(&kind.to_le_bytes());
        }
        head
    }

    #[test]
    fn a_loader_is_refused() {
        assert_eq!(check(&elf(62, &[6, 1, 2]), "x86_64"), Ok(()));
        assert_eq!(check(&elf(183, &[1]), "aarch64"), Ok(()));
        assert!(check(&elf(62, &[6, PT_INTERP, 1]), "x86_64").unwrap_err().contains("dynamically"));
        assert!(check(&elf(62, &[1]), "aarch64").unwrap_err().contains("architecture"));
        assert!(check(b"\xcf\xfa\xed\xfe", "x86_64").unwrap_err().contains("not a 64-bit Linux"));
        assert!(check(b"#!/bin/sh\n", "x86_64").is_err());
    }

    #[test]
    fn no_cut_or_twisted_header_panics() {
        let whole = elf(62, &[6, 1, 2]);
        for length in 0..whole.len() - 56 {
            assert!(check(&whole[..length], "x86_64").is_err(), "{length}");
        }
        let mut far = whole.clone();
        far[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(check(&far, "x86_64").is_err());
        let mut many = whole;
        many[56..58].copy_from_slice(&u16::MAX.to_le_bytes());
        assert!(check(&many, "x86_64").is_err());
    }

    #[test]
    fn this_very_test_is_static() {
        let me = std::env::current_exe().unwrap();
        let mut binary = open(&me, std::env::consts::ARCH).unwrap();
        let mut all = Vec::new();
        binary.file.read_to_end(&mut all).unwrap();
        assert_eq!((binary.size, binary.digest), (all.len() as u64, crate::engine::hex(&Sha256::digest(&all))));
        assert!(open(Path::new("/nonexistent"), "x86_64").is_err());
    }
}
