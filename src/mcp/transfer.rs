//! `codex_transfer`: a tool of the contract that this design cannot have. It is there so that a client which calls it gets a reason.

use super::call::{Answer, Failure};
use super::server::Call;
use super::workspace::resolve;
use crate::error::{Code, Error};

/// Refuses. The path is not opened, and not repeated.
pub async fn transfer(call: &Call<'_>) -> Answer {
    let mut meta = call.meta();
    meta.set("tier", "consult");
    if let Some(text) = call.arguments.text("workspace_root") {
        meta.place(&resolve(Some(text), &call.roots().await, call.own_directory)?);
    }
    let error = Error::new(
        Code::TransferUnsupported,
        "hand over a conversation: no session of the user's leaves this machine, and no job's container has access to transcripts",
    )
    .with_hint("say what Codex must know in `task`, or in `extra_context` of codex_consult and codex_review_changes")
    .with_detail("reason", "transcripts are not read, not sent and not mounted");
    Err(Failure::with_meta(error, meta))
}
