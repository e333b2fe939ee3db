//! The provider's answer: read event by event as it comes, and written anew.
//!
//! No event waits for another. What reaches the job is made from an allow-list of kinds of events, and in each from an allow-list of fields
//! ([`events`], [`items`]): what Codex 0.169 reads. Everything else — comments, ids, retry times, unknown events, calls of tools that the provider ran,
//! the request that providers repeat in their answers — stays outside and is counted. [`guard`] looks for the credential in all that is written.

mod events;
mod frame;
mod guard;
mod items;

use serde_json::Value;

use self::events::{Event, Plain, Shape};
use self::guard::Guard;
use super::failure::Failure;
use super::json;
use super::secret::Secret;
use crate::protocol::result::Usage;
use crate::weaken;

/// Largest event.
pub const MAX_EVENT: usize = 8 << 20;
/// Most bytes of one answer, before it is rebuilt.
pub const MAX_ANSWER: u64 = 512 << 20;
/// Most events of one answer.
pub const MAX_EVENTS: u64 = 2 << 20;

/// Why the answer must be cut off here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Not what the Responses API sends.
    Garbage,
    /// An event over [`MAX_EVENT`], or an answer over [`MAX_ANSWER`] or [`MAX_EVENTS`].
    TooLarge,
    /// The credential stands in it.
    Credential,
}

/// How the answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// `response.completed` or `response.incomplete`.
    Done,
    /// `response.failed` or `error`.
    Failed(Box<Failure>),
}

/// Reads an answer.
pub struct Reader<'k> {
    guard: Guard<'k>,
    /// Seals what only the provider can read.
    cache_key: &'k str,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are known to hold no end of an event.
    searched: usize,
    /// Bytes taken so far.
    taken: u64,
    /// What the provider reported.
    pub usage: Option<Usage>,
    /// Events that passed, other than failures.
    pub events: u64,
    /// Events that did not: of unknown kinds, or with items that no job may get.
    pub dropped: u64,
    /// Set by the last event; nothing may follow.
    pub end: Option<End>,
}

impl<'k> Reader<'k> {
    /// A reader that lets nothing pass in which `credential` stands, for the job with this cache key.
    pub fn new(credential: Option<&'k Secret>, cache_key: &'k str) -> Self {
        Self { guard: Guard::new(credential), cache_key, buffer: Vec::new(), searched: 0, taken: 0, usage: None, events: 0, dropped: 0, end: None }
    }

    /// Takes the next bytes, appends to `out` what may pass on. After [`Self::end`] is set, or a cut, no more is taken.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Cut> {
        if self.end.is_some() {
            return Ok(());
        }
        self.taken += bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut start = 0;
        let mut searched = self.searched;
        while let Some((end, next)) = frame::blank_line(&buffer, start, searched) {
            let written = out.len();
            if let Err(cut) = self.event(buffer.get(start..end).unwrap_or_default(), out) {
                // Nothing of the event that is the reason.
                out.truncate(written);
                return Err(cut);
            }
            start = next;
            searched = next;
            if self.end.is_some() {
                return Ok(());
            }
        }
        self.buffer = buffer.get(start..).unwrap_or_default().to_vec();
        // The last three bytes may be the first part of a blank line.
        self.searched = self.buffer.len().saturating_sub(3);
        let large = self.buffer.len() > MAX_EVENT || self.taken > MAX_ANSWER || self.events + self.dropped > MAX_EVENTS;
        if large && !weaken::off("response.size") { Err(Cut::TooLarge) } else { Ok(()) }
    }

    fn event(&mut self, block: &[u8], out: &mut Vec<u8>) -> Result<(), Cut> {
        let Some(data) = frame::data(block)? else { return Ok(()) };
        if data == "[DONE]" {
            return Ok(());
        }
        let event: Event<'_> = serde_json::from_str(&data).map_err(|_| Cut::Garbage)?;
        let Plain::Text(kind) = &event.kind else { return Err(Cut::Garbage) };
        let Some((at, shape)) = events::shape(kind) else {
            // A name that could not stand in a line is no event at all.
            if kind.len() > 80 || !kind.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_')) {
                return Err(Cut::Garbage);
            }
            if weaken::off("response.types") {
                frame::write_raw(out, kind, &data);
            }
            self.dropped += 1;
            return Ok(());
        };
        if let Shape::Light(field) = shape {
            self.events += 1;
            if weaken::off("response.rebuild") {
                frame::write_raw(out, kind, &data);
                return Ok(());
            }
            return event.write_light(at, kind, field, &mut self.guard, out);
        }
        let value = json::parse(data.as_bytes()).map_err(|_| Cut::Garbage)?;
        if matches!(shape, Shape::Done | Shape::Failed) {
            self.usage = value.pointer("/response/usage").and_then(events::usage);
        }
        match shape {
            Shape::Failed => {
                let error =
                    if kind == "error" { value.get("error").unwrap_or(&value) } else { value.pointer("/response/error").unwrap_or(&Value::Null) };
                let failure = Failure::from_event(error);
                out.extend_from_slice(failure.event().as_bytes());
                self.end = Some(End::Failed(Box::new(failure)));
                return Ok(());
            }
            Shape::Done => self.end = Some(End::Done),
            _ => {}
        }
        match events::rebuild(shape, &value, self.cache_key) {
            Some((key, rebuilt)) => {
                if weaken::off("response.rebuild") {
                    frame::write_raw(out, kind, &data);
                } else {
                    event.write_heavy(kind, key, &rebuilt, &mut self.guard, out)?;
                }
                self.events += 1;
            }
            None => {
                if weaken::off("response.items") {
                    frame::write_raw(out, kind, &data);
                }
                self.dropped += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
