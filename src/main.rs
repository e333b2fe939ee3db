//! Parse, wire, exit code.
fn main() {}
