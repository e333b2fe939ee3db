//! Who may show a job's result and remove it.
//!
//! The engine could decide that by a rename, but a rename cannot be both first and last: done before the result is shown, a process that dies in between has
//! taken a result that nobody saw; done after, two show it. So the gateway gives the right first, and the rename comes last. A claim names the process that
//! holds it, and whoever finds one whose process is gone takes it over. Where no gateway can be asked, or it does not know the job (one that never ran has no
//! pass any more), the engine's word alone counts, and comes first.

use std::time::Duration;

use tokio::time::Instant;

use super::JobId;
use super::deliverer::{Deliverer, Life};
use super::service::Core;
use crate::engine::Engine;
use crate::error::{Code, Error};
use crate::protocol::admin::{AdminRequest, AdminResponse};
use crate::weaken;

/// How long a claim counts whose holder cannot be looked at from here: in another container, on another host.
const UNSEEN_MS: u64 = 60_000;
/// How often one is asked after who has the right and is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// When one who lost may look again.
const RETRY: Duration = Duration::from_secs(1);

/// What the gateway says.
pub(super) enum Word {
    /// The right is ours.
    Ours(Right),
    /// Another process has it.
    Theirs,
    /// It does not know the job.
    Unknown,
    /// It cannot be asked.
    Silent(Error),
}

/// The right to show and remove a job, until it is given back.
pub(super) struct Right {
    by: String,
    /// Somebody had it before, who is gone and may have come to the end of it.
    pub taken_over: bool,
}

/// Asks for the right. One who has it is waited for up to `patience`: most are through in a moment, and then it is known what became of the job.
pub(super) async fn ask(core: &Core, engine: &Engine, id: &JobId, patience: Duration) -> Word {
    if weaken::off("fault.claim") {
        return Word::Unknown;
    }
    let by = identity();
    let until = Instant::now() + patience;
    let mut instead_of = None;
    loop {
        let taken_over = instead_of.is_some();
        let request = AdminRequest::Claim { job_id: id.as_str().to_owned(), by: by.clone(), instead_of };
        instead_of = match core.gateway.decide(engine, &core.settings, &request).await {
            Ok(AdminResponse::Claim { by: holder, .. }) if holder == by => return Word::Ours(Right { by, taken_over }),
            // It may be another one by now that has it: then the next round hears of that.
            Ok(AdminResponse::Claim { by: holder, age_ms }) if is_over(&holder, age_ms) => Some(holder),
            Ok(AdminResponse::Claim { .. }) if Instant::now() >= until => return Word::Theirs,
            Ok(AdminResponse::Claim { .. }) => {
                tokio::time::sleep(LOOK_AGAIN).await;
                None
            }
            Err(e) if e.details.get("gateway_code") == Some(&"unknown_job".into()) => return Word::Unknown,
            Err(e) => {
                tracing::debug!(job_id = %id, error = e.chain(), "the gateway does not say who may consume the job");
                return Word::Silent(e);
            }
            Ok(_) => return Word::Silent(Error::new(Code::GatewayUnavailable, "ask the gateway who may consume the job: it answers something else")),
        };
    }
}

/// Gives the right back, as far as the gateway can be asked; with this process it ends in any case.
pub(super) async fn give_back(core: &Core, engine: &Engine, id: &JobId, right: Right) {
    let request = AdminRequest::Unclaim { job_id: id.as_str().to_owned(), by: right.by };
    if let Err(e) = core.gateway.decide(engine, &core.settings, &request).await {
        tracing::debug!(job_id = %id, error = e.chain(), "a claim could not be given back");
    }
}

/// Told to who lost while the other one is not through: the same code as afterwards, and what is true now.
pub(super) fn being_consumed() -> Error {
    Error::new(Code::JobNotFound, "another process is consuming the job right now")
        .with_hint("nothing is to be done; should that process die or fail before it has shown the result, the job is there again")
        .with_retry_after_ms(u64::try_from(RETRY.as_millis()).unwrap_or(u64::MAX))
}

/// This process and this attempt of it.
fn identity() -> String {
    let process = Deliverer::this().map_or_else(|| "unknown".to_owned(), |this| this.write());
    format!("{process} {}", uuid::Uuid::new_v4().simple())
}

fn is_over(holder: &str, age_ms: u64) -> bool {
    let process = holder.rsplit_once(' ').and_then(|(process, _)| Deliverer::parse(process));
    match process.map_or(Life::Unknown, |process| process.life()) {
        Life::Alive => false,
        Life::Gone => true,
        Life::Unknown => age_ms > UNSEEN_MS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::admin::MAX_CLAIMANT;

    #[test]
    fn a_claim_counts_while_its_process_lives_and_a_minute_where_that_cannot_be_seen() {
        let own = identity();
        assert!(own.len() <= MAX_CLAIMANT && own != identity(), "{own}");
        assert!(!is_over(&own, u64::MAX), "this process lives");
        let mut words: Vec<&str> = own.split(' ').collect();
        let elsewhere = [&["another/place"], &words[1..]].concat().join(" ");
        words[2] = "1";
        assert!(is_over(&words.join(" "), 0), "another process has its id now");
        for unseen in [elsewhere.as_str(), "unknown 0", "", "x y z 1 2"] {
            assert!(!is_over(unseen, UNSEEN_MS) && is_over(unseen, UNSEEN_MS + 1), "{unseen}");
        }
    }
}
