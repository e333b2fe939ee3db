//! The engine's archive of a job's directory, or of one file: only expected plain files are taken, none over its bound, each with its own digest.

use anchorhold::job::readers::{Expected, Piece, read_download, read_one_file};
use sha2::Digest as _;

const EXPECTED: &[Expected] = &[
    Expected { name: "result.json", max: 600, cut: false },
    Expected { name: "events.jsonl", max: 700, cut: true },
    Expected { name: "changes", max: 2000, cut: false },
];

pub fn run(data: &[u8]) {
    for expected in EXPECTED {
        let one = super::within(data.len(), 512 << 10, 8, || read_one_file(data, expected.name.as_bytes(), expected.max));
        if let Ok(piece) = one {
            check(expected, piece, data);
        }
    }
    let taken = super::within(data.len(), 512 << 10, 8, || read_download(data, EXPECTED));
    let Ok(pieces) = taken else { return };
    for (name, piece) in pieces {
        let expected = EXPECTED.iter().find(|e| e.name == name).expect("an expected file");
        check(expected, piece, data);
    }
}

fn check(expected: &Expected, mut piece: Piece, data: &[u8]) {
    let bytes = piece.bytes().expect("memory");
    assert!(bytes.len() as u64 <= expected.max, "{} has {} bytes", expected.name, bytes.len());
    assert!(bytes.is_empty() || data.windows(bytes.len()).any(|w| w == bytes), "bytes that nobody sent");
    assert_eq!(piece.sha256, anchorhold::protocol::manifest::hex(&sha2::Sha256::digest(&bytes)));
    assert!(data.windows(expected.name.len()).any(|w| w == expected.name.as_bytes()), "a name that nobody sent");
}

pub fn seeds() -> Vec<Vec<u8>> {
    use tar::EntryType as T;
    let archive = |entries: &[(&str, T, &[u8], u64)]| {
        let mut out = Vec::new();
        for (name, kind, content, size) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(*size);
            header.set_mode(0o600);
            header.set_cksum();
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(content);
            out.resize(out.len().next_multiple_of(512), 0);
        }
        out.resize(out.len() + 1024, 0);
        out
    };
    vec![
        archive(&[("out/", T::Directory, b"", 0), ("out/result.json", T::Regular, b"{}", 2), ("out/changes", T::Regular, b"AHCHG1\n", 7)]),
        archive(&[("out/events.jsonl", T::Regular, &[7; 900], 900), ("../changes", T::Regular, b"no", 2)]),
        archive(&[("././@LongLink", T::GNULongName, b"out/result.json\0", 16), ("out/x", T::Regular, b"x", 1), ("out/changes", T::Symlink, b"", 0)]),
        archive(&[("changes", T::Regular, b"AHCHG1\n", 7)]),
        archive(&[("x", T::XHeader, b"21 path=out/changes\n", 1 << 40), ("out/changes", T::GNUSparse, b"", 5)]),
    ]
}
