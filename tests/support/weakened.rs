//! The build with the feature `weaken`: protections can be taken away in it, and it can die at named steps.

use std::path::PathBuf;

/// The runtime image that fits the product's binary.
pub fn product_image() -> String {
    std::env::var("ANCHORHOLD_IMAGE_NAME").unwrap_or_else(|_| concat!("anchorhold/runtime:", env!("CARGO_PKG_VERSION")).to_owned())
}

/// The image of the weakened build: beside the product's, under a name of its own.
pub fn weakened_image() -> String {
    std::env::var("ANCHORHOLD_TEST_WEAKENED_IMAGE").unwrap_or_else(|_| format!("{}-weakened", product_image()))
}

/// Its binary.
pub fn weakened_program() -> PathBuf {
    let program = std::env::var_os("ANCHORHOLD_TEST_WEAKENED")
        .map(PathBuf::from)
        .expect("set ANCHORHOLD_TEST_WEAKENED to a binary built with `--features weaken` (`make weakened`, `make test` do)");
    assert!(program.is_absolute() && program.is_file(), "ANCHORHOLD_TEST_WEAKENED: {} is no absolute path of a file", program.display());
    program
}
