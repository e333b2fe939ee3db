//! doctor
use super::output::Output;
use crate::config::Settings;
use crate::error::{Error, Result};
pub(super) async fn run(_out: &Output, _settings: Result<Settings>) -> Result<u8> {
    Err(Error::internal("x"))
}
