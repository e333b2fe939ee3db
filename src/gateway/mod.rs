//! The one way out of a cell: a socket on which validated model requests are accepted and nothing else. It holds the credential and has no
//! engine socket.

use crate::error::{Error, Result};

/// Runs the gateway until SIGTERM: listens on [`crate::protocol::paths::SOCKET`] and the control socket.
pub async fn run() -> Result<()> {
    Err(Error::internal("not built"))
}

/// Relays standard input and output to the control socket; run by an engine exec.
pub async fn admin_relay() -> Result<()> {
    Err(Error::internal("not built"))
}
