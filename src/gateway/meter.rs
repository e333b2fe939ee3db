//! What one request did: written down when it ends, however it comes to its end.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use super::departure::Departure;
use super::failure::Failure;
use super::observe::Request;
use super::registry::{Registry, Reservation, Settlement};
use crate::protocol::result::Usage;
use crate::weaken;

/// Bytes that make a token, for charging what nobody counted where no budget is at stake.
pub const BYTES_PER_TOKEN: u64 = 4;
/// Failures before which the provider did no work that it counts.
const UNBILLED: [&str; 5] = ["auth", "bad_request", "model", "quota", "rate_limit"];
/// Events that tell of no work of the model's.
const PREFACE: [&[u8]; 5] = [b"response.created", b"response.in_progress", b"response.queued", b"response.failed", b"error"];

/// Settles a request when dropped.
pub struct Meter {
    /// Where it is settled.
    pub registry: Arc<Registry>,
    /// Whose request it is.
    pub job_id: String,
    started: Instant,
    /// What is told of it.
    pub settlement: Settlement,
    /// How the request leaves; `None` where it did not get that far.
    pub departure: Option<Arc<Departure>>,
    /// The provider has it and counts nothing for it.
    pub unbilled: bool,
    /// The provider has begun to answer.
    pub answered: bool,
    /// The model has said something.
    worked: bool,
    /// Bytes that went to the job.
    pub sent_bytes: u64,
    /// One word for the ledger.
    pub outcome: &'static str,
    /// HTTP status.
    pub status: u16,
}

impl Meter {
    /// Begins to measure a request of this job.
    pub fn new(registry: Arc<Registry>, job_id: String) -> Self {
        Self {
            registry,
            job_id,
            started: Instant::now(),
            settlement: Settlement::default(),
            departure: None,
            unbilled: false,
            answered: false,
            worked: false,
            sent_bytes: 0,
            outcome: "gone",
            status: 0,
        }
    }

    /// A further field of the ledger line.
    pub fn field(&mut self, key: &str, value: impl Into<Value>) {
        self.settlement.line.insert(key.to_owned(), value.into());
    }

    /// The request is paid for from this.
    pub fn reserved(&mut self, reservation: Reservation) {
        self.field("reserved_tokens", reservation.tokens);
        if let Some(output) = reservation.output {
            self.field("max_output_tokens", output);
        }
        self.departure = Some(Arc::new(Departure::new(self.registry.clone(), self.job_id.clone(), &reservation)));
        self.settlement.reservation = Some(reservation);
    }

    /// The provider failed, or could not be reached.
    pub fn fail(&mut self, failure: &Failure) {
        self.outcome = "provider_failed";
        self.status = failure.status;
        self.settlement.error = Some(failure.error.clone());
    }

    /// These events, framed by us, go to the job.
    pub fn passed(&mut self, events: &[u8]) {
        self.sent_bytes += events.len() as u64;
        self.worked =
            self.worked || events.split(|b| *b == b'\n').filter_map(|line| line.strip_prefix(b"event: ")).any(|kind| !PREFACE.contains(&kind));
    }

    /// The provider said in its answer that it failed. Where the model had said nothing yet, there are failures that cost nothing.
    pub fn failed_within(&mut self, failure: &Failure) {
        self.fail(failure);
        self.status = 200;
        if !self.worked && UNBILLED.contains(&failure.error.kind.as_str()) {
            self.unbilled = true;
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let mut settlement = std::mem::take(&mut self.settlement);
        let sent = self.departure.as_ref().is_some_and(|departure| departure.close());
        if let Some(reservation) = &mut settlement.reservation {
            reservation.sent = sent;
        }
        // Who leaves, or is left, before the count pays what was set aside: else every answer that is not read to its end would be free.
        if sent && !self.unbilled && settlement.usage.is_none() && !weaken::off("budget.keep_unknown") {
            settlement.estimate = match &settlement.reservation {
                Some(Reservation { tokens, output: Some(_), .. }) => *tokens,
                Some(Reservation { tokens, .. }) => tokens.saturating_add(self.sent_bytes / BYTES_PER_TOKEN),
                None => 0,
            };
        }
        let usage = settlement.usage.unwrap_or_default();
        let Usage { input_tokens, cached_input_tokens, output_tokens, reasoning_output_tokens } = usage;
        let fields = [
            ("outcome", Value::from(self.outcome)),
            ("status", self.status.into()),
            ("input_tokens", input_tokens.into()),
            ("cached_input_tokens", cached_input_tokens.into()),
            ("output_tokens", output_tokens.into()),
            ("reasoning_output_tokens", reasoning_output_tokens.into()),
            ("estimated_tokens", settlement.estimate.into()),
            ("answer_bytes", self.sent_bytes.into()),
            ("milliseconds", u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).into()),
        ];
        settlement.line.extend(fields.map(|(key, value)| (key.to_owned(), value)));
        super::observe::request(
            &self.registry,
            &self.job_id,
            &Request {
                outcome: self.outcome,
                status: self.status,
                refused: settlement.refused,
                sent,
                usage,
                model: settlement.line.get("model").and_then(Value::as_str),
                took: self.started.elapsed(),
            },
        );
        self.registry.settle(&self.job_id, settlement);
    }
}
