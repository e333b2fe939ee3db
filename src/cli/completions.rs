//! `completions`: a script for a shell.

use clap::CommandFactory as _;
use serde_json::json;

use super::args::Cli;
use super::output::Output;
use crate::error::Result;

/// `anchorhold completions bash > /etc/bash_completion.d/anchorhold`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which shell
    shell: clap_complete::Shell,
}

pub(super) fn run(out: &Output, args: &Args) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "anchorhold", &mut script);
    if out.json() {
        out.document(json!({ "shell": args.shell.to_string(), "script": String::from_utf8_lossy(&script) }));
    } else {
        out.bytes(&script);
    }
    Ok(0)
}
