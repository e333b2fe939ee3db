//! `image build`: the runtime image, for somebody who has only the binary.

use std::path::PathBuf;

use serde_json::json;

use super::output::Output;
use super::progress::Reporter;
use crate::config::Settings;
use crate::engine::Engine;
use crate::error::Result;
use crate::image::{BuildOptions, build};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Build the runtime image on the engine: this binary, the pinned Codex CLI and a small Debian userland
    Build {
        /// Build all anew, also where the image of this build is there
        #[arg(long)]
        force: bool,
        /// Another binary of this same build, for an engine on another kind of machine
        #[arg(long, value_name = "FILE")]
        binary: Option<PathBuf>,
        /// Where downloads are kept [default: $XDG_CACHE_HOME/anchorhold, else ~/.cache/anchorhold]
        #[arg(long, value_name = "DIR")]
        cache: Option<PathBuf>,
    },
}

pub(super) async fn run(out: &Output, settings: &Settings, args: Args) -> Result<u8> {
    let Part::Build { force, binary, cache: cache_dir } = args.part;
    let engine = Engine::connect(&settings.engine).await?;
    let mut reporter = Reporter::new(out, true);
    let image = build(&engine, settings, &BuildOptions { force, binary, cache_dir }, &mut |line| reporter.step(line)).await?;
    drop(reporter);
    if out.json() {
        out.document(json!({ "image": { "name": settings.image.name, "id": image.id, "bytes": image.size, "labels": image.labels } }));
    } else {
        out.text(&format!("{} is ready, {} MB", settings.image.name, image.size / 1_000_000));
    }
    Ok(0)
}
