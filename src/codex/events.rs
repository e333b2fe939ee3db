//! Reading `--json` events (`init`).
