//! Gives each build an id: the host and the runtime image must come from the same sources.
//!
//! The id is a hash of what the binary is made from, by name and content, so that it is the same in every checkout, profile and place.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

const INPUTS: [&str; 5] = ["Cargo.lock", "Cargo.toml", "build.rs", "images/runtime", "src"];

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut files = Vec::new();
    for input in INPUTS {
        collect(&root, Path::new(input), &mut files)?;
        println!("cargo::rerun-if-changed={input}");
    }
    files.sort();
    let mut hash = Fnv::new();
    for name in &files {
        let content = fs::read(root.join(name))?;
        // Lengths go first, so that no two sets of files read the same.
        hash.add(&(name.len() as u64).to_le_bytes());
        hash.add(name.as_bytes());
        hash.add(&(content.len() as u64).to_le_bytes());
        hash.add(&content);
    }
    // A binary that can be weakened and a product binary never take each other's image.
    if env::var_os("CARGO_FEATURE_WEAKEN").is_some() {
        hash.add(b"weaken");
    }
    println!("cargo::rustc-env=ANCHORHOLD_BUILD_ID={:032x}", hash.0);
    Ok(())
}

/// Names relative to the root, with forward slashes; what an editor leaves behind does not count.
fn collect(root: &Path, path: &Path, files: &mut Vec<String>) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with('.') || name.ends_with('~') {
        return Ok(());
    }
    if !root.join(path).is_dir() {
        files.push(path.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/"));
        return Ok(());
    }
    for entry in fs::read_dir(root.join(path))? {
        collect(root, &path.join(entry?.file_name()), files)?;
    }
    Ok(())
}

/// FNV-1a with 128 bits: no dependency, and nobody gains by a collision (the image is trusted or the host is lost anyway).
struct Fnv(u128);

impl Fnv {
    fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
}
