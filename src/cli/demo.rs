//! demo
use super::output::Output;
use crate::config::Settings;
use crate::error::{Error, Result};
#[derive(Debug, clap::Args)]
pub(super) struct Args {}
pub(super) async fn run(_out: &Output, _settings: Settings, _args: &Args) -> Result<u8> {
    Err(Error::internal("x"))
}
