//! `mcp`: standard input and output belong to the protocol, so an error goes to standard error whatever was asked for.

use super::output::Output;
use crate::error::Result;
use crate::job::Jobs;

pub(super) async fn run(out: &Output, jobs: Jobs) -> Result<u8> {
    match crate::mcp::serve_stdio(jobs).await {
        Ok(()) => Ok(0),
        Err(e) => {
            out.human_error(&e);
            Ok(e.code.exit_code())
        }
    }
}
