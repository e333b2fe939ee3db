//! The manifest: one that is taken is in order, its entries lie within its frames, and it survives being written anew.

use anchorhold::protocol::manifest::{Entry, Frame, Manifest, ManifestCaps, Mode, ObjectFormat};
use anchorhold::protocol::repo_path::RepoPath;

const CAPS: ManifestCaps = ManifestCaps { entries: 5000, bytes: 1 << 20 };

pub fn run(data: &[u8]) {
    let taken = super::within(data.len(), 512 << 10, 8, || Manifest::read(data, CAPS));
    let Ok(manifest) = taken else { return };
    assert!(manifest.entries.windows(2).all(|pair| pair[0].path.as_bytes() < pair[1].path.as_bytes()), "paths ascend");
    for entry in &manifest.entries {
        super::assert_clean_path(entry.path.as_bytes());
        assert_eq!(entry.id.as_bytes().len(), manifest.format.id_len());
        assert_eq!(manifest.find(entry.path.as_bytes()), Some(entry));
        if entry.mode != Mode::Submodule && entry.size > 0 {
            let frame = manifest.frames[entry.frame as usize];
            assert!(u128::from(entry.offset) + u128::from(entry.size) <= u128::from(frame.plain), "an entry outside its frame");
        }
    }
    assert!(Manifest::read(&data[..data.len() - 1], CAPS).is_err(), "a cut document is taken");
    assert!(Manifest::read([data, b"\0"].concat().as_slice(), CAPS).is_err(), "a document with more after its end is taken");
    let written = write(&manifest);
    let again = Manifest::read(written.as_slice(), CAPS).expect("what we write is taken");
    assert_eq!(again, manifest);
    assert_eq!(write(&again), written);
}

fn write(manifest: &Manifest) -> Vec<u8> {
    let mut out = Vec::new();
    manifest.write(&mut out).expect("memory");
    out
}

pub fn seeds() -> Vec<Vec<u8>> {
    let documents = [ObjectFormat::Sha1, ObjectFormat::Sha256].map(|format| {
        let entry = |path: &[u8], mode, content: &[u8], frame, offset| Entry {
            path: RepoPath::parse(path).expect("a path"),
            mode,
            id: format.hash("blob", content),
            size: content.len() as u64,
            frame,
            offset,
        };
        let entries = vec![
            entry(b"a\tb\n", Mode::File, b"abc", 0, 0),
            entry(b"dir/link", Mode::Symlink, b"target", 1, 2),
            entry(b"module", Mode::Submodule, b"", 0, 0),
            entry(b"\xff", Mode::Executable, b"", 1, 8),
        ];
        write(&Manifest { format, frames: vec![Frame { compressed: 20, plain: 9 }, Frame { compressed: 30, plain: 8 }], entries })
    });
    let empty = Manifest { format: ObjectFormat::Sha1, frames: Vec::new(), entries: Vec::new() };
    documents.into_iter().chain([write(&empty)]).collect()
}
