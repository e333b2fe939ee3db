//! The Model Context Protocol server; the only module that names rmcp.

use crate::error::{Error, Result};
use crate::job::Jobs;

/// Serves on standard input and output until the client closes it.
pub async fn serve_stdio(_jobs: Jobs) -> Result<()> {
    Err(Error::internal("not built"))
}
