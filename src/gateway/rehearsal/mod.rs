//! The rehearsal model: a scripted model inside the gateway, for trying things without a key.
//!
//! It answers on the same wire as a provider, through the same relay. It keeps no state between requests but the number of times that a fault has
//! happened: which answer is next follows from the tool outputs in the request. The tools that a request declares say how a step is to be
//! written: as a function call, as the `apply_patch` tool, or as code for code mode.

mod conversation;
pub mod program;
mod review;
mod script;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::{Value, json};

use self::conversation::Conversation;
use self::program::{Action, Fault, Program};
use super::upstream::{Answer, Body, TransportError};
use crate::protocol::result::Usage;

/// Bytes of filler in one event.
const FILLER_PIECE: u64 = 1024;

/// How often each fault of each program has happened.
type Happened = HashMap<([u8; 8], usize), u64>;

/// The scripted model; holds how often faults have happened, per job.
#[derive(Default)]
pub struct Rehearsal {
    happened: Mutex<HashMap<String, Happened>>,
}

impl Rehearsal {
    /// Answers one request of a job. `size` is the request's length in bytes, for counting tokens.
    pub async fn answer(&self, job_id: &str, request: &Value, size: usize) -> Result<Answer, TransportError> {
        let conversation = Conversation::read(request);
        let program = match program::block(&conversation.task).map(|text| program::parse(&text)) {
            Some(Ok(program)) => program,
            Some(Err(mistake)) => Program {
                answers: vec![program::Answer {
                    action: Action::Message(format!("The rehearsal program has a mistake in line {}: {}.", mistake.line, mistake.what)),
                    ..Default::default()
                }],
                id: [0; 8],
            },
            None if conversation.structured => review::program(),
            None => program::default_program(),
        };
        let at = conversation.done.min(program.answers.len().saturating_sub(1));
        let Some(planned) = program.answers.get(at) else { return Err(TransportError::Broken) };
        // A command that still runs is waited for; that is no answer of the program.
        if let Some(call) = conversation.wait() {
            return Ok(streamed(script::answer(&[call], &tokens(size, None)), None, 0));
        }
        tokio::time::sleep(planned.delay).await;
        let due = planned.faults.iter().find(|f| self.is_due(job_id, program.id, f.index, f.times));
        if let Some(due) = due {
            return faulty(&due.fault).await;
        }
        let mut items: Vec<Value> = planned.says.iter().enumerate().map(|(n, text)| script::message(&format!("msg_say_{at}_{n}"), text)).collect();
        items.push(match &planned.action {
            Action::Shell(command) => conversation.shell(command),
            Action::Patch(patch) => conversation.patch(patch),
            Action::Message(text) => script::message(&format!("msg_end_{at}"), text),
            Action::Review => script::message(&format!("msg_end_{at}"), &review::answer(&conversation.last_output)),
        });
        let usage = tokens(size, planned.usage);
        Ok(streamed(script::answer(&items, &usage), planned.rate, planned.filler))
    }

    /// Forgets what happened to a job.
    pub fn forget(&self, job_id: &str) {
        self.happened.lock().unwrap_or_else(PoisonError::into_inner).remove(job_id);
    }

    fn is_due(&self, job_id: &str, program: [u8; 8], index: usize, times: Option<u64>) -> bool {
        let Some(times) = times else { return true };
        let mut happened = self.happened.lock().unwrap_or_else(PoisonError::into_inner);
        let of_job = happened.entry(job_id.to_owned()).or_default();
        // A job may write as many programs as it likes, but is not remembered for more than this.
        if of_job.len() > 4096 {
            of_job.clear();
        }
        let count = of_job.entry((program, index)).or_default();
        *count += 1;
        *count <= times
    }
}

fn tokens(size: usize, planned: Option<Usage>) -> Usage {
    planned.unwrap_or(Usage { input_tokens: (size / 4) as u64, cached_input_tokens: 0, output_tokens: 20, reasoning_output_tokens: 0 })
}

fn event_stream(body: Body) -> Answer {
    Answer { status: 200, content_type: "text/event-stream".to_owned(), retry_after: None, body }
}

/// An answer of these events: first the head, then filler, then the rest.
fn streamed(events: Vec<String>, rate: Option<u64>, filler: u64) -> Answer {
    let mut events = events.into_iter();
    let head = events.next();
    let filler_events = script::filler(filler, FILLER_PIECE);
    let all = head.into_iter().chain(filler_events).chain(events);
    event_stream(match rate {
        None => stream::iter(all.map(|event| Ok(Bytes::from(event)))).boxed(),
        Some(rate) => slowly(all, rate).boxed(),
    })
}

/// Pieces of a twentieth of a second each.
fn slowly(events: impl Iterator<Item = String> + Send + 'static, rate: u64) -> impl Stream<Item = Result<Bytes, TransportError>> + Send {
    let piece = usize::try_from(rate / 20).unwrap_or(usize::MAX).max(1);
    let pieces = events.flat_map(move |event| {
        let bytes = Bytes::from(event);
        (0..bytes.len()).step_by(piece).map(move |at| bytes.slice(at..bytes.len().min(at.saturating_add(piece)))).collect::<Vec<_>>()
    });
    stream::iter(pieces).then(move |piece| async move {
        #[expect(clippy::cast_precision_loss, reason = "a waiting time")]
        let seconds = piece.len() as f64 / rate as f64;
        tokio::time::sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default()).await;
        Ok(piece)
    })
}

/// What a provider would answer if this fault were real.
async fn faulty(fault: &Fault) -> Result<Answer, TransportError> {
    let created = || Ok(Bytes::from(script::created()));
    Ok(match fault {
        Fault::Status { status, code, retry_after, resets_in } => {
            let mut error = json!({"message": "Scripted by the rehearsal program.", "type": code, "param": null, "code": code});
            if let (Some(seconds), Value::Object(error)) = (resets_in, &mut error) {
                error.insert("resets_at".to_owned(), super::failure::now_unix().saturating_add(*seconds).into());
            }
            let body = json!({ "error": error }).to_string();
            Answer {
                status: *status,
                content_type: "application/json".to_owned(),
                retry_after: *retry_after,
                body: stream::iter([Ok(Bytes::from(body))]).boxed(),
            }
        }
        Fault::Failed { code, wait } => {
            let message = match wait {
                Some(seconds) => format!("Rate limit reached. Please try again in {seconds}s."),
                None => "Scripted by the rehearsal program.".to_owned(),
            };
            let failed = script::event(&json!({"type": "response.failed", "response": {"id": "resp_rehearsal", "status": "failed",
                "error": {"code": code, "message": message}}}));
            event_stream(stream::iter([created(), Ok(Bytes::from(failed))]).boxed())
        }
        Fault::Incomplete => {
            let incomplete = script::event(&json!({"type": "response.incomplete", "response": {"id": "resp_rehearsal", "status": "incomplete",
                "incomplete_details": {"reason": "max_output_tokens"}}}));
            event_stream(stream::iter([created(), Ok(Bytes::from(incomplete))]).boxed())
        }
        Fault::Cut => event_stream(stream::iter([created(), Ok(Bytes::from_static(b"event: response.output_item.done\ndata: {\"type\":"))]).boxed()),
        Fault::Hang => std::future::pending().await,
        Fault::Stall => event_stream(stream::iter([created()]).chain(stream::pending()).boxed()),
        Fault::Garbage => Answer {
            status: 200,
            content_type: "text/html".to_owned(),
            retry_after: None,
            body: stream::iter([Ok(Bytes::from_static(b"<html><body>Welcome to the hotel network</body></html>"))]).boxed(),
        },
        Fault::Refuse => return Err(TransportError::Connect("the rehearsal program refuses connections")),
    })
}
