//! Why a job ends: the first reason wins, and what Codex's own end means.

use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

use super::reaper::Ended;
use crate::codex::events::Events;
use crate::error::Code;
use crate::protocol::result::{ProviderError, Reason};

/// Why a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The reason.
    pub reason: Reason,
    /// One sentence of ours.
    pub detail: String,
    /// For `failed`.
    pub code: Option<Code>,
}

impl Ending {
    /// A reason and a sentence.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), code: None }
    }

    /// Failed, by a defect of ours or of the delivery.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(Reason::Failed, detail).with_code(Code::Internal)
    }

    /// Says which failure.
    #[must_use]
    pub fn with_code(mut self, code: Code) -> Self {
        self.code = Some(code);
        self
    }
}

/// A request to end, from anywhere; only the first counts.
#[derive(Default)]
pub struct Stop {
    first: OnceLock<Ending>,
    token: CancellationToken,
}

impl Stop {
    /// Asks for the end.
    pub fn request(&self, ending: Ending) {
        // A second reason changes nothing about the first.
        let _ = self.first.set(ending);
        self.token.cancel();
    }

    /// Waits until somebody asks.
    pub async fn requested(&self) -> Ending {
        self.token.cancelled().await;
        self.first.get().cloned().unwrap_or_else(|| Ending::new(Reason::Interrupted, "The job was stopped."))
    }
}

/// What is known when Codex has ended by itself.
pub struct Evidence<'a> {
    /// How it ended.
    pub ended: Ended,
    /// What it said.
    pub events: &'a Events,
    /// The provider's failure after its last answer.
    pub provider_error: Option<&'a ProviderError>,
    /// The kernel killed something in the cell for memory since Codex started.
    pub out_of_memory: bool,
    /// The last connection to the gateway failed.
    pub gateway_broken: bool,
}

/// What Codex's own end means.
pub fn conclude(evidence: &Evidence<'_>) -> Ending {
    // Codex gave up because of it, and exits as on any failure.
    let failed_there = |detail: &str| Ending::new(Reason::Failed, detail).with_code(Code::NonzeroExit);
    let Evidence { ended, events, provider_error, out_of_memory, gateway_broken } = evidence;
    if ended.exit_code == Some(0) {
        // 0.169 ends well although it could run no tool at all.
        if events.report.code_mode_host_failed && events.actions == 0 {
            return Ending::new(Reason::Failed, "Codex could not start its code-mode host, so it could run nothing.").with_code(Code::ImageMismatch);
        }
        if events.report.turn_completed {
            return Ending::new(Reason::Completed, "Codex ended its turn.");
        }
        return Ending::new(Reason::Failed, "Codex exited without ending its turn.").with_code(Code::NonzeroExit);
    }
    if *out_of_memory && (ended.signal == Some(9) || ended.exit_code == Some(137)) {
        return Ending::new(Reason::Memory, "The cell used up its memory and Codex was killed.");
    }
    match provider_error.map(|error| error.kind.as_str()) {
        Some("auth") => return Ending::new(Reason::Failed, "The provider refused the credential.").with_code(Code::CodexAuthRequired),
        Some("quota") => return Ending::new(Reason::Failed, "The provider's quota is used up.").with_code(Code::CodexRateLimited),
        Some("rate_limit") => return Ending::new(Reason::Failed, "The provider limits the rate.").with_code(Code::CodexRateLimited),
        Some("unreachable") => return Ending::new(Reason::ProviderUnreachable, "The provider could not be reached."),
        Some("model") => return Ending::new(Reason::Failed, "The provider does not serve this model.").with_code(Code::InvalidModel),
        Some("server_error") => return failed_there("The provider answered with a server error."),
        Some("cut") => return failed_there("The provider's answers broke off or were none."),
        Some("bad_request") => return failed_there("The provider refused the request."),
        _ if *gateway_broken => return Ending::new(Reason::ProviderUnreachable, "The gateway could not be reached."),
        _ => {}
    }
    match (ended.exit_code, ended.signal) {
        (Some(126 | 127), _) if events.report.events == 0 => {
            Ending::new(Reason::Failed, "Codex could not be started in this image.").with_code(Code::ImageMismatch)
        }
        (Some(code), _) => Ending::new(Reason::Failed, format!("Codex exited with code {code}.")).with_code(Code::NonzeroExit),
        (None, Some(signal)) => Ending::new(Reason::Failed, format!("Codex was killed by signal {signal}.")).with_code(Code::NonzeroExit),
        (None, None) => Ending::new(Reason::Failed, "Codex ended in an unknown way.").with_code(Code::NonzeroExit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codex_ends_mean_what_they_should() {
        let check = |exit_code: Option<i32>, signal, completed, kind: Option<&str>, memory, actions, host_failed, broken| {
            let mut events = Events { actions, ..Events::default() };
            events.report.turn_completed = completed;
            events.report.code_mode_host_failed = host_failed;
            let error = kind.map(|kind| ProviderError {
                kind: kind.into(),
                message: String::new(),
                status: None,
                retry_after_seconds: None,
                resets_at: None,
            });
            let ending = conclude(&Evidence {
                ended: Ended { exit_code, signal },
                events: &events,
                provider_error: error.as_ref(),
                out_of_memory: memory,
                gateway_broken: broken,
            });
            (ending.reason, ending.code)
        };
        let ok = Some(0);
        let bad = Some(1);
        assert_eq!(check(ok, None, true, None, false, 1, false, false), (Reason::Completed, None));
        // An error that Codex got over does not count, nor does a killed child process.
        assert_eq!(check(ok, None, true, Some("cut"), true, 1, true, true), (Reason::Completed, None));
        assert_eq!(check(ok, None, true, None, false, 0, true, false), (Reason::Failed, Some(Code::ImageMismatch)));
        assert_eq!(check(ok, None, false, None, false, 1, false, false), (Reason::Failed, Some(Code::NonzeroExit)));
        assert_eq!(check(bad, None, false, Some("auth"), false, 1, false, false), (Reason::Failed, Some(Code::CodexAuthRequired)));
        assert_eq!(check(bad, None, false, Some("quota"), false, 1, false, false), (Reason::Failed, Some(Code::CodexRateLimited)));
        assert_eq!(check(bad, None, false, Some("rate_limit"), false, 1, false, false), (Reason::Failed, Some(Code::CodexRateLimited)));
        assert_eq!(check(bad, None, false, Some("unreachable"), false, 1, false, false), (Reason::ProviderUnreachable, None));
        assert_eq!(check(bad, None, false, Some("bad_request"), false, 1, false, false), (Reason::Failed, Some(Code::NonzeroExit)));
        assert_eq!(check(bad, None, false, None, false, 1, false, true), (Reason::ProviderUnreachable, None));
        assert_eq!(check(None, Some(9), false, None, true, 1, false, false), (Reason::Memory, None));
        assert_eq!(check(None, Some(9), false, None, false, 1, false, false), (Reason::Failed, Some(Code::NonzeroExit)));
        assert_eq!(check(Some(126), None, false, None, false, 0, false, false), (Reason::Failed, Some(Code::ImageMismatch)));
    }

    #[tokio::test]
    async fn the_first_request_wins() {
        let stop = Stop::default();
        stop.request(Ending::new(Reason::Cancelled, "a"));
        stop.request(Ending::new(Reason::Deadline, "b"));
        assert_eq!(stop.requested().await.reason, Reason::Cancelled);
    }
}
