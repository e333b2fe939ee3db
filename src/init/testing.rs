//! For tests: a delivery made from a list of entries, as the workspace module would make it.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::protocol::manifest::{Entry, Frame, Manifest, Mode, ObjectFormat, ObjectId, hex};
use crate::protocol::repo_path::RepoPath;

/// Paths, modes and bytes.
pub type Items = Vec<(Vec<u8>, Mode, Vec<u8>)>;

/// A regular file.
pub fn file(path: &str, content: impl AsRef<[u8]>) -> (Vec<u8>, Mode, Vec<u8>) {
    (path.into(), Mode::File, content.as_ref().to_vec())
}

/// Packs items into frames of about `frame` bytes beneath `dir` (`frames/00000.zst` …, `facts/manifest`).
pub fn deliver(dir: &Path, mut items: Items, format: ObjectFormat, frame: usize) -> Manifest {
    items.sort_by(|a, b| a.0.cmp(&b.0));
    std::fs::create_dir_all(dir.join("frames")).unwrap();
    std::fs::create_dir_all(dir.join("facts")).unwrap();
    let mut manifest = Manifest { format, frames: Vec::new(), entries: Vec::new() };
    let mut plain = Vec::new();
    let flush = |plain: &mut Vec<u8>, frames: &mut Vec<Frame>| {
        let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
        compressor.include_checksum(true).unwrap();
        let compressed = compressor.compress(plain).unwrap();
        std::fs::write(dir.join(format!("frames/{:05}.zst", frames.len())), &compressed).unwrap();
        frames.push(Frame { compressed: compressed.len() as u64, plain: plain.len() as u64 });
        plain.clear();
    };
    for (path, mode, content) in items {
        if plain.len() >= frame {
            flush(&mut plain, &mut manifest.frames);
        }
        let id = match mode {
            Mode::Submodule => ObjectId::parse(hex(&vec![0x5a; format.id_len()]).as_bytes()).unwrap(),
            _ => format.hash("blob", &content),
        };
        let size = if mode == Mode::Submodule { 0 } else { content.len() as u64 };
        let (frame, offset) = if mode == Mode::Submodule { (0, 0) } else { (manifest.frames.len() as u32, plain.len() as u64) };
        manifest.entries.push(Entry { path: RepoPath::parse(&path).unwrap(), mode, id, size, frame, offset });
        if mode != Mode::Submodule {
            plain.extend_from_slice(&content);
        }
    }
    if !plain.is_empty() {
        flush(&mut plain, &mut manifest.frames);
    }
    // Empty files at the very end may name a frame that was never cut.
    let last = manifest.frames.len() as u32;
    for entry in &mut manifest.entries {
        if entry.frame >= last {
            (entry.frame, entry.offset) = (0, 0);
        }
    }
    manifest.write(&mut File::create(dir.join("facts/manifest")).unwrap()).unwrap();
    manifest
}

/// The frame files of a delivery.
pub fn frames(dir: &Path, manifest: &Manifest) -> Vec<File> {
    (0..manifest.frames.len()).map(|number| File::open(frame_path(dir, number)).unwrap()).collect()
}

fn frame_path(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("frames/{number:05}.zst"))
}
