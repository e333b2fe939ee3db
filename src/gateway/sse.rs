//! The provider's answer: read event by event as it comes, checked, and framed anew.
//!
//! No event waits for another. What reaches the job is `event:` and `data:` lines of events that parse; comments, ids, retry times and everything
//! that is not an event of the Responses API stay outside.

use std::borrow::Cow;

use memchr::{memchr, memmem};
use serde::Deserialize;
use serde_json::Value;

use super::failure::Failure;
use super::secret::Secret;
use crate::protocol::result::Usage;

/// Largest event.
pub const MAX_EVENT: usize = 8 << 20;

/// Why the answer must be cut off here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Not what the Responses API sends.
    Garbage,
    /// An event over [`MAX_EVENT`].
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
    credential: Option<(&'k str, memmem::Finder<'k>)>,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are known to hold no end of an event.
    searched: usize,
    /// The end of the text so far, as long as the credential less one, to see it also when it comes in pieces.
    tail: String,
    /// What the provider reported.
    pub usage: Option<Usage>,
    /// Events that passed, other than failures.
    pub events: u64,
    /// Set by the last event; nothing may follow.
    pub end: Option<End>,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    delta: Text<'a>,
}

/// A string where there is one; other values are passed over.
#[derive(Default)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> serde::de::Visitor<'de> for Visit {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("any value")
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(v)))
            }
            fn visit_str<E>(self, v: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(v.to_owned())))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Text<'de>, E> {
                Ok(Text::default())
            }
            fn visit_i64<E>(self, _: i64) -> Result<Text<'de>, E> {
                Ok(Text::default())
            }
            fn visit_u64<E>(self, _: u64) -> Result<Text<'de>, E> {
                Ok(Text::default())
            }
            fn visit_f64<E>(self, _: f64) -> Result<Text<'de>, E> {
                Ok(Text::default())
            }
            fn visit_unit<E>(self) -> Result<Text<'de>, E> {
                Ok(Text::default())
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Text<'de>, A::Error> {
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Text::default())
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Text<'de>, A::Error> {
                while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
                Ok(Text::default())
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

impl<'k> Reader<'k> {
    /// A reader that lets nothing pass in which `credential` stands.
    pub fn new(credential: Option<&'k Secret>) -> Self {
        let credential = credential.and_then(Secret::masked).map(|text| (text, memmem::Finder::new(text)));
        Self { credential, buffer: Vec::new(), searched: 0, tail: String::new(), usage: None, events: 0, end: None }
    }

    /// Takes the next bytes, appends to `out` what may pass on. After [`Self::end`] is set, or a cut, no more is taken.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Cut> {
        if self.end.is_some() {
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut start = 0;
        let mut searched = self.searched;
        while let Some((end, next)) = blank_line(&buffer, start, searched) {
            self.event(buffer.get(start..end).unwrap_or_default(), out)?;
            start = next;
            searched = next;
            if self.end.is_some() {
                return Ok(());
            }
        }
        self.buffer = buffer.get(start..).unwrap_or_default().to_vec();
        // The last three bytes may be the first part of a blank line.
        self.searched = self.buffer.len().saturating_sub(3);
        if self.buffer.len() > MAX_EVENT { Err(Cut::TooLarge) } else { Ok(()) }
    }

    fn event(&mut self, block: &[u8], out: &mut Vec<u8>) -> Result<(), Cut> {
        let text = std::str::from_utf8(block).map_err(|_| Cut::Garbage)?;
        let mut data: Option<Cow<'_, str>> = None;
        let returns = memchr(b'\r', block).is_some();
        let mut rest_of_block = Some(text);
        while let Some(block) = rest_of_block {
            let (mut line, rest) = match memchr(b'\n', block.as_bytes()) {
                Some(at) => (block.get(..at).unwrap_or_default(), block.get(at + 1..)),
                None => (block, None),
            };
            rest_of_block = rest;
            if returns {
                line = line.strip_suffix('\r').unwrap_or(line);
                // A lone carriage return ends a line for some readers and not for others.
                if line.contains('\r') {
                    return Err(Cut::Garbage);
                }
            }
            if let Some(rest) = line.strip_prefix("data:") {
                let rest = rest.strip_prefix(' ').unwrap_or(rest);
                match &mut data {
                    Some(data) => {
                        let data = data.to_mut();
                        data.push('\n');
                        data.push_str(rest);
                    }
                    None => data = Some(Cow::Borrowed(rest)),
                }
            } else if !(line.is_empty()
                || line.starts_with(':')
                || ["event", "id", "retry"].iter().any(|k| line.strip_prefix(k).is_some_and(|r| r.starts_with(':'))))
            {
                return Err(Cut::Garbage);
            }
        }
        let Some(data) = data else { return Ok(()) };
        if data == "[DONE]" {
            return Ok(());
        }
        let event: Kind<'_> = serde_json::from_str(&data).map_err(|_| Cut::Garbage)?;
        let kind_plain = event.kind.len() <= 80 && event.kind.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'.' | b'_'));
        if !kind_plain {
            return Err(Cut::Garbage);
        }
        self.guard(&data, &event.delta.0)?;
        match event.kind.as_ref() {
            "response.completed" | "response.incomplete" => {
                let value: Value = serde_json::from_str(&data).map_err(|_| Cut::Garbage)?;
                self.usage = value.pointer("/response/usage").and_then(usage);
                self.end = Some(End::Done);
            }
            kind @ ("response.failed" | "error") => {
                let value: Value = serde_json::from_str(&data).map_err(|_| Cut::Garbage)?;
                self.usage = value.pointer("/response/usage").and_then(usage);
                let error =
                    if kind == "error" { value.get("error").unwrap_or(&value) } else { value.pointer("/response/error").unwrap_or(&Value::Null) };
                let failure = Failure::from_event(error);
                out.extend_from_slice(failure.event().as_bytes());
                self.end = Some(End::Failed(Box::new(failure)));
                return Ok(());
            }
            _ => {}
        }
        self.events += 1;
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(event.kind.as_bytes());
        match data {
            Cow::Borrowed(line) => {
                out.extend_from_slice(b"\ndata: ");
                out.extend_from_slice(line.as_bytes());
            }
            // Put together from several lines, and taken apart again.
            Cow::Owned(ref lines) => {
                for line in lines.split('\n') {
                    out.extend_from_slice(b"\ndata: ");
                    out.extend_from_slice(line.as_bytes());
                }
            }
        }
        out.extend_from_slice(b"\n\n");
        Ok(())
    }

    /// Fails if the credential stands in an event, plainly, written with escapes, or in pieces over several.
    fn guard(&mut self, data: &str, delta: &str) -> Result<(), Cut> {
        let Some((credential, finder)) = &self.credential else { return Ok(()) };
        if finder.find(data.as_bytes()).is_some() {
            return Err(Cut::Credential);
        }
        if memchr(b'\\', data.as_bytes()).is_some() && (data.contains("\\u") || data.contains("\\/")) {
            let value: Value = serde_json::from_str(data).map_err(|_| Cut::Garbage)?;
            if holds(&value, credential) {
                return Err(Cut::Credential);
            }
        }
        if !delta.is_empty() {
            self.tail.push_str(delta);
            if finder.find(self.tail.as_bytes()).is_some() {
                return Err(Cut::Credential);
            }
            let mut keep = self.tail.len().saturating_sub(credential.len() - 1);
            while !self.tail.is_char_boundary(keep) {
                keep += 1;
            }
            self.tail.drain(..keep);
        }
        Ok(())
    }
}

fn holds(value: &Value, needle: &str) -> bool {
    match value {
        Value::String(text) => text.contains(needle),
        Value::Array(list) => list.iter().any(|v| holds(v, needle)),
        Value::Object(map) => map.iter().any(|(k, v)| k.contains(needle) || holds(v, needle)),
        _ => false,
    }
}

/// The next blank line at or after `searched`: where the event before it ends, and where the next begins.
fn blank_line(buffer: &[u8], start: usize, searched: usize) -> Option<(usize, usize)> {
    let mut at = searched.max(start);
    loop {
        at += memchr(b'\n', buffer.get(at..)?)?;
        let rest = buffer.get(at + 1..)?;
        if rest.starts_with(b"\n") {
            return Some((at, at + 2));
        }
        if rest.starts_with(b"\r\n") {
            return Some((at, at + 3));
        }
        // A blank line right at the start ends an event without lines.
        if at == start {
            return Some((at, at + 1));
        }
        at += 1;
    }
}

fn usage(value: &Value) -> Option<Usage> {
    let count = |pointer: &str| value.pointer(pointer).and_then(Value::as_u64);
    Some(Usage {
        input_tokens: count("/input_tokens")?,
        cached_input_tokens: count("/input_tokens_details/cached_tokens").unwrap_or(0),
        output_tokens: count("/output_tokens")?,
        reasoning_output_tokens: count("/output_tokens_details/reasoning_tokens").unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\n: keep-alive\n\nid: 7\r\nevent: x\r\ndata: {\"type\":\"response.output_text.delta\",\r\ndata: \"delta\":\"h\\u00ed\"}\r\n\r\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"usage\":{\"input_tokens\":10,\"input_tokens_details\":{\"cached_tokens\":2},\"output_tokens\":5,\"output_tokens_details\":{\"reasoning_tokens\":1},\"total_tokens\":15}}}\n\ndata: after\n\n";

    fn run(text: &[u8], piece: usize, key: Option<&Secret>) -> (Result<(), Cut>, String, Option<End>, Option<Usage>) {
        let mut reader = Reader::new(key);
        let mut out = Vec::new();
        let mut result = Ok(());
        for chunk in text.chunks(piece) {
            result = reader.push(chunk, &mut out);
            if result.is_err() {
                break;
            }
        }
        (result, String::from_utf8(out).unwrap(), reader.end.clone(), reader.usage)
    }

    #[test]
    fn events_pass_in_any_division_into_pieces() {
        let expected = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\nevent: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\ndata: \"delta\":\"h\\u00ed\"}\n\n";
        for piece in 1..STREAM.len() {
            let (result, out, end, usage) = run(STREAM.as_bytes(), piece, None);
            assert_eq!(result, Ok(()));
            assert!(out.starts_with(expected), "{piece}: {out}");
            assert!(out.ends_with("\n\n") && !out.contains("after"));
            assert_eq!(end, Some(End::Done));
            assert_eq!(usage, Some(Usage { input_tokens: 10, cached_input_tokens: 2, output_tokens: 5, reasoning_output_tokens: 1 }));
        }
    }

    #[test]
    fn an_event_passes_before_the_next_one_comes() {
        let mut reader = Reader::new(None);
        let mut out = Vec::new();
        reader.push(b"data: {\"type\":\"response.created\"}\n", &mut out).unwrap();
        assert!(out.is_empty());
        reader.push(b"\n", &mut out).unwrap();
        assert!(!out.is_empty());
    }

    #[test]
    fn what_is_no_event_is_cut() {
        for bad in [
            "<html>busy</html>\n\n",
            "data: not json\n\n",
            "data: {\"no\":\"type\"}\n\n",
            "data: {\"type\":\"a\\nb\"}\n\n",
            "data: {\"type\":\"x\"}\rdata: {\"type\":\"y\"}\n\n",
            "data: {\"type\":\"response.created\",\"type\":\"response.failed\"}\n\n",
            "eventual: x\n\n",
        ] {
            assert_eq!(run(bad.as_bytes(), 3, None).0, Err(Cut::Garbage), "{bad}");
        }
        assert_eq!(run(b"data: \xff\n\n", 100, None).0, Err(Cut::Garbage));
        assert_eq!(run(&vec![b'x'; MAX_EVENT + 1], 65536, None).0, Err(Cut::TooLarge));
    }

    #[test]
    fn failures_are_written_anew_and_end_the_answer() {
        let text = "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"insufficient_quota\",\"message\":\"org-SECRET\"}}}\n\n";
        let (_, out, end, _) = run(text.as_bytes(), 1000, None);
        assert!(out.contains("insufficient_quota") && !out.contains("SECRET"));
        assert!(matches!(end, Some(End::Failed(f)) if f.error.kind == "quota"));
        let (_, out, end, _) = run(b"data: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"SECRET\"}\n\n", 1000, None);
        assert!(out.contains("response.failed") && !out.contains("SECRET"));
        assert!(matches!(end, Some(End::Failed(_))));
    }

    #[test]
    fn the_credential_never_passes() {
        let key = Secret::new("sk-0123456789".to_owned()).unwrap();
        let delta = |text: &str| format!("data: {{\"type\":\"response.output_text.delta\",\"delta\":\"{text}\"}}\n\n");
        for text in [
            delta("your key sk-0123456789 is"),
            delta("sk-\\u0030123456789"),
            format!("{}{}{}", delta("so sk-01"), delta("2345"), delta("6789!")),
            "data: {\"type\":\"response.created\",\"sk-0123456789\":1}\n\n".to_owned(),
        ] {
            let (result, out, ..) = run(text.as_bytes(), 7, Some(&key));
            assert_eq!(result, Err(Cut::Credential), "{text}");
            assert!(!out.contains("6789"), "{out}");
        }
        assert_eq!(run(format!("{}{}", delta("sk-01"), delta("é")).as_bytes(), 7, Some(&key)).0, Ok(()));
    }

    proptest::proptest! {
        /// Whatever the provider sends: no panic, the same outcome in any division, and nothing out that is not an event with a plain type.
        #[test]
        fn hostile_answers(text in "(data: |event: |: |\\{\"type\":\"|response\\.failed|error|a\\.b|\"|\\}|\n|\r\n|\r|\n\n|[a-z]|é|\\\\u00){0,40}", piece in 1usize..9) {
            let whole = run(text.as_bytes(), text.len().max(1), None);
            let pieces = run(text.as_bytes(), piece, None);
            proptest::prop_assert_eq!(&whole.0, &pieces.0);
            proptest::prop_assert_eq!(&whole.1, &pieces.1);
            for event in whole.1.split_terminator("\n\n") {
                proptest::prop_assert!(event.starts_with("event: ") && event.contains("\ndata: "), "{}", event);
            }
        }
    }
}
