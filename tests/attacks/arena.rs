//! Where a case is tried: the product as it is built, or a build with some of its protections taken away.

use std::path::Path;

use crate::case::Weakening;
use crate::support::TestEnv;
use crate::support::weakened::{product_image, weakened_image, weakened_program};

/// A user with a binary, an image that fits it and a gateway.
pub struct Arena {
    pub env: TestEnv,
    variables: Vec<(String, String)>,
    weakened: bool,
}

impl Arena {
    /// The product.
    pub fn product() -> Self {
        // Images of other names come and go here, and each would replace a gateway that others use.
        Self { env: TestEnv::new().with_own_gateway(), variables: Vec::new(), weakened: false }
    }

    /// The binary with the feature `weaken`, its image, and a gateway of its own that is weakened too.
    pub fn weakened(weakening: &Weakening) -> Self {
        let program = weakened_program();
        let mut variables = vec![("ANCHORHOLD_WEAKEN".to_owned(), weakening.points.join(","))];
        for (name, patch) in [("ANCHORHOLD_WEAKEN_JOB", weakening.job), ("ANCHORHOLD_WEAKEN_GATEWAY", weakening.gateway)] {
            if !patch.is_empty() {
                variables.push((name.to_owned(), patch.to_owned()));
            }
        }
        let given: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Self { env: TestEnv::of(&program, &weakened_image(), &given), variables, weakened: true }
    }

    /// The binary under attack.
    pub fn binary(&self) -> &Path {
        self.env.program()
    }

    /// Variables that weaken it, for a process that is started without the environment of [`Self::env`].
    pub fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// Whether protections may be missing here.
    pub fn is_weakened(&self) -> bool {
        self.weakened
    }

    /// The runtime image's name.
    pub fn image(&self) -> String {
        if self.weakened { weakened_image() } else { product_image() }
    }
}
