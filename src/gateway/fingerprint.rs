//! Which policy is in force: a digest of the sources that decide what may pass, in both directions.

use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

use crate::protocol::manifest::hex;

/// Every source file of the policy, by name; a test sees that none is left out.
const SOURCES: &[(&str, &[u8])] = &[
    ("failure.rs", include_bytes!("failure.rs")),
    ("json.rs", include_bytes!("json.rs")),
    ("policy/forms.rs", include_bytes!("policy/forms.rs")),
    ("policy/input.rs", include_bytes!("policy/input.rs")),
    ("policy/mod.rs", include_bytes!("policy/mod.rs")),
    ("policy/rules.rs", include_bytes!("policy/rules.rs")),
    ("policy/tools.rs", include_bytes!("policy/tools.rs")),
    ("seal.rs", include_bytes!("seal.rs")),
    ("sse/events.rs", include_bytes!("sse/events.rs")),
    ("sse/frame.rs", include_bytes!("sse/frame.rs")),
    ("sse/guard.rs", include_bytes!("sse/guard.rs")),
    ("sse/items.rs", include_bytes!("sse/items.rs")),
    ("sse/mod.rs", include_bytes!("sse/mod.rs")),
];

/// SHA-256, hex. Binaries with the same digest let the same requests and answers pass.
pub fn policy_sha256() -> &'static str {
    static DIGEST: OnceLock<String> = OnceLock::new();
    DIGEST.get_or_init(|| {
        let mut hash = Sha256::new();
        for (name, text) in SOURCES {
            // Lengths go first, so that no two sets of files read the same.
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        if cfg!(feature = "weaken") {
            hash.update("weaken");
        }
        hex(&hash.finalize())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_of_the_policy_counts() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gateway");
        for directory in ["policy", "sse"] {
            for entry in std::fs::read_dir(root.join(directory)).unwrap() {
                let name = format!("{directory}/{}", entry.unwrap().file_name().to_string_lossy());
                let listed = SOURCES.iter().any(|(known, _)| *known == name);
                assert!(listed || name.ends_with("/tests.rs"), "{name} decides what may pass and does not count");
            }
        }
        assert_eq!(policy_sha256().len(), 64);
    }
}
