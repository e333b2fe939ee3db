//! What went wrong with a job, as an error with a code, a time to retry and a hint.

use super::time::{own_ms, rfc3339};
use super::{JobResult, JobState};
use crate::error::{Code, Error};
use crate::protocol::result::{ProviderError, Reason};
use crate::review::answer::Fault;

/// Every code, for reading its text form back from labels and sealed results.
const CODES: [Code; 48] = [
    Code::InvalidArguments,
    Code::InvalidWorkspaceRoot,
    Code::WorkspaceOutsideRoots,
    Code::InputTooLarge,
    Code::WorkspaceTooLarge,
    Code::NotAGitRepo,
    Code::GitUnavailable,
    Code::WorktreeError,
    Code::UnsafeRepository,
    Code::InvalidModel,
    Code::InvalidReasoningEffort,
    Code::UnsupportedIsolation,
    Code::InvalidScope,
    Code::InvalidBase,
    Code::InvalidCommit,
    Code::InvalidPaths,
    Code::InvalidConfig,
    Code::EngineUnavailable,
    Code::EngineError,
    Code::ImageMissing,
    Code::ImageMismatch,
    Code::IsolationMismatch,
    Code::GatewayUnavailable,
    Code::CodexAuthRequired,
    Code::CodexRateLimited,
    Code::ProviderUnreachable,
    Code::NonzeroExit,
    Code::InvalidJson,
    Code::SchemaViolation,
    Code::Timeout,
    Code::TokenBudget,
    Code::GatewayLimit,
    Code::OutOfMemory,
    Code::OutOfDisk,
    Code::JobNotFound,
    Code::JobRunning,
    Code::JobCancelled,
    Code::JobFailed,
    Code::JobLost,
    Code::IdempotencyConflict,
    Code::IdempotencyResultUnavailable,
    Code::ApplyConflict,
    Code::ResourceNotFound,
    Code::Unsupported,
    Code::SetupFailed,
    Code::WaitTimeout,
    Code::Interrupted,
    Code::Internal,
];

/// The code behind its text form.
pub(super) fn code_from_text(text: &str) -> Option<Code> {
    CODES.into_iter().find(|code| code.as_str() == text)
}

impl JobResult {
    /// The error that a bad end is, or an answer that could not be used; `None` for a completed job. Partial work may be there all the same:
    /// [`JobResult::patch`], [`JobResult::review`].
    pub fn failure(&self) -> Option<Error> {
        let reason = self.status.reason?;
        let code = match reason {
            Reason::Completed => return self.answer_fault.as_ref().map(|fault| self.unusable(fault)),
            Reason::Failed => self.failed_code(),
            Reason::Cancelled => Code::JobCancelled,
            Reason::Deadline | Reason::QueueTimeout | Reason::Idle => Code::Timeout,
            Reason::TokenBudget => Code::TokenBudget,
            Reason::Memory => Code::OutOfMemory,
            Reason::Disk => Code::OutOfDisk,
            // A provider that answered, only with refusals, was reached.
            Reason::ProviderUnreachable => match self.provider_error.as_ref().and_then(provider_code) {
                Some(code) => code,
                None => Code::ProviderUnreachable,
            },
            Reason::Interrupted => Code::JobFailed,
            Reason::Lost => Code::JobLost,
        };
        // Our own sentence; what the cell says of it stands in a field that says so.
        let mut message = fragment(&crate::display::clip(self.status.detail.as_bytes(), 500));
        // Failures of the provider that have no code of their own end Codex, and the sentence names them.
        let blamed = |provider: &ProviderError| match provider_code(provider) {
            Some(own) => own == code,
            None => code == Code::NonzeroExit && self.status.detail.contains("provider"),
        };
        if let Some(provider) = self.provider_error.as_ref().filter(|provider| blamed(provider)) {
            message.push_str(&in_detail(provider));
        }
        let mut error = Error::new(code, message)
            .with_detail("reason", reason.as_str())
            .with_detail("state", self.status.state.as_str())
            .with_detail("partial_patch", self.patch.is_some())
            .with_hint(hint(code, reason, self.provider_error.as_ref(), self.left_behind()));
        // Codex reads all rules before it says its first word, and ends where it cannot.
        if code == Code::NonzeroExit && self.sealed.as_ref().is_some_and(|sealed| sealed.codex.thread_id.is_none()) && self.status.has_rules() {
            error = error.with_hint(
                "Codex may not take your execution-policy rules: `codex execpolicy check --rules FILE true` says of each file of them; \
                 mend it, or ask for the isolation ignore-rules",
            );
        }
        if let Some(said) = &self.untrusted_detail {
            error = error.with_detail("untrusted_detail", said.as_str());
        }
        if let Some(provider) = &self.provider_error {
            if let Ok(value) = serde_json::to_value(provider) {
                error = error.with_detail("provider", value);
            }
            if matches!(code, Code::CodexRateLimited | Code::ProviderUnreachable)
                && let Some(ms) = retry_after_ms(provider)
            {
                error = error.with_retry_after_ms(ms);
            }
        }
        Some(error)
    }

    /// Where partial work is to be found, if there is any.
    fn left_behind(&self) -> Option<&'static str> {
        let found = self.review.as_ref().is_some_and(|review| !review.findings.is_empty());
        match (self.patch.is_some(), found) {
            (true, _) => Some("the partial work is in the result's patch"),
            (false, true) => Some("what was found until then is in the result's findings"),
            (false, false) => None,
        }
    }

    /// A review whose run ended well and whose answer has not the form that was asked for.
    fn unusable(&self, fault: &Fault) -> Error {
        let noted = self.review.as_ref().map_or(0, |review| review.findings.len());
        let (code, what) = match fault {
            Fault::InvalidJson => (Code::InvalidJson, "the reviewer's answer is not JSON".to_owned()),
            Fault::SchemaViolation(what) => (Code::SchemaViolation, format!("the reviewer's answer has not the form that was asked for: {what}")),
        };
        Error::new(code, what)
            .with_hint("start the review once more; its answer as it was is in the result, with the findings that were noted on the way")
            .with_detail("reason", Reason::Completed.as_str())
            .with_detail("state", self.status.state.as_str())
            .with_detail("findings_noted", noted)
    }

    fn failed_code(&self) -> Code {
        if let Some(code) = self.sealed.as_ref().and_then(|sealed| sealed.detail_code.as_deref()).and_then(code_from_text) {
            return code;
        }
        if let Some(code) = self.provider_error.as_ref().and_then(provider_code) {
            return code;
        }
        match (&self.sealed, self.status.state) {
            (Some(sealed), JobState::Failed) if sealed.codex.exit_code.is_some_and(|code| code != 0) => Code::NonzeroExit,
            _ => Code::JobFailed,
        }
    }
}

fn provider_code(error: &ProviderError) -> Option<Code> {
    match error.kind.as_str() {
        "auth" => Some(Code::CodexAuthRequired),
        "quota" | "rate_limit" => Some(Code::CodexRateLimited),
        "unreachable" => Some(Code::ProviderUnreachable),
        "model" => Some(Code::InvalidModel),
        _ => None,
    }
}

/// What the gateway says of the provider's failure, and when a retry makes sense.
fn in_detail(error: &ProviderError) -> String {
    let when = match (error.resets_at.and_then(|at| u64::try_from(at).ok()), error.retry_after_seconds) {
        (Some(at), _) => format!("; it says to try again at {}", rfc3339(at.saturating_mul(1000))),
        (None, Some(seconds)) => format!("; it says to try again after {seconds} s"),
        (None, None) => String::new(),
    };
    let status = error.status.filter(|status| *status != 200).map(|status| format!(" (HTTP {status})")).unwrap_or_default();
    format!(": {}{status}{when}", crate::display::clip(error.message.as_bytes(), 300))
}

/// When the provider says that a retry makes sense; a reset time in the past means now.
fn retry_after_ms(error: &ProviderError) -> Option<u64> {
    let from_reset = error.resets_at.map(|at| u64::try_from(at).unwrap_or(0).saturating_mul(1000).saturating_sub(own_ms()));
    let from_delay = error.retry_after_seconds.map(|seconds| seconds.saturating_mul(1000));
    from_reset.max(from_delay)
}

/// A sentence as a fragment: without its full stop, and with a small letter where a capital only opens the sentence.
fn fragment(sentence: &str) -> String {
    let trimmed = sentence.trim().trim_end_matches('.');
    for (opening, small) in [("It ", "it "), ("Its ", "its "), ("The ", "the "), ("No ", "no ")] {
        if let Some(rest) = trimmed.strip_prefix(opening) {
            return format!("{small}{rest}");
        }
    }
    if trimmed.is_empty() { "the job failed".to_owned() } else { trimmed.to_owned() }
}

/// What to do about a bad end.
fn hint(code: Code, reason: Reason, provider: Option<&ProviderError>, partial: Option<&str>) -> String {
    let advice = match (code, reason) {
        (Code::CodexAuthRequired, _) => "set a valid API key (`[model] api_key_env` or `api_key_file`) and start a new job",
        (Code::CodexRateLimited, _) => "wait until the provider's limit resets, then start a new job",
        (Code::ProviderUnreachable, _) if provider.is_some_and(|error| error.message.contains("certificate")) => {
            "check the provider's certificate, or name the authority that signed it with `[model] ca_file`, then start a new job"
        }
        (Code::ProviderUnreachable, _) => "check `[model] upstream` and the gateway's network with `anchorhold doctor`, then start a new job",
        (Code::InvalidModel, _) => "name a model that the provider serves, and start a new job",
        (Code::Timeout, Reason::QueueTimeout) => {
            "raise `[engine] max_running_jobs` or `[limits] queue_seconds`, or start it again when fewer jobs wait"
        }
        (Code::Timeout, Reason::Idle) => {
            "see in the job's log (`anchorhold logs`) what it waited for; a task that is silent for longer needs a larger `[limits] idle_seconds`"
        }
        (Code::Timeout, _) => "give it a longer deadline (`[limits] deadline_seconds`) or a smaller task",
        (Code::TokenBudget, _) => "raise the token budget (`[limits] tokens`) or give it a smaller task",
        (Code::OutOfMemory, _) => "raise `[limits] memory` or give it a smaller task",
        (Code::OutOfDisk, _) => "raise `[limits] disk` or `inodes`, or give it a smaller task",
        (Code::GatewayLimit, _) => "see which ceiling the message names, raise it in the settings or give the job a smaller task",
        (Code::JobCancelled | Code::JobLost, _) | (_, Reason::Interrupted) => "start a new job",
        _ => "read the job's log (`anchorhold logs`), correct the cause and start a new job",
    };
    partial.map_or_else(|| advice.to_owned(), |partial| format!("{advice}; {partial}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back_and_none_is_there_twice() {
        for code in CODES {
            assert_eq!(code_from_text(code.as_str()), Some(code));
        }
        assert_eq!(code_from_text("no_such_code"), None);
    }

    #[test]
    fn sentences_become_fragments() {
        for (sentence, expected) in [
            ("It met its deadline.", "it met its deadline"),
            ("Codex failed.", "Codex failed"),
            ("Item missing", "Item missing"),
            (" . ", "the job failed"),
            ("", "the job failed"),
        ] {
            assert_eq!(fragment(sentence), expected);
        }
    }
}
