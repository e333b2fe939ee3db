//! The exact command line (`init`).
