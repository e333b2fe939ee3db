//! The kinds of events that Codex 0.169 reads, and what of each is written anew.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::guard::Guard;
use super::{Cut, items};
use crate::protocol::result::Usage;

/// What kind of event it is, by what has to be read of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Strings and numbers at the top; which of its texts counts.
    Light(Field),
    /// An item of the answer.
    Item,
    /// A part of an item.
    Part,
    /// The answer is under way.
    Begun,
    /// The answer is complete, as far as it goes.
    Done,
    /// It failed.
    Failed,
}

/// The text of a light event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Delta,
    Text,
    Arguments,
    Input,
}

/// The allow-list. The index in it names a channel of deltas.
const KINDS: [(&str, Shape); 19] = [
    ("response.output_text.delta", Shape::Light(Field::Delta)),
    ("response.function_call_arguments.delta", Shape::Light(Field::Delta)),
    ("response.custom_tool_call_input.delta", Shape::Light(Field::Delta)),
    ("response.reasoning_summary_text.delta", Shape::Light(Field::Delta)),
    ("response.reasoning_text.delta", Shape::Light(Field::Delta)),
    ("response.output_text.done", Shape::Light(Field::Text)),
    ("response.reasoning_summary_text.done", Shape::Light(Field::Text)),
    ("response.reasoning_text.done", Shape::Light(Field::Text)),
    ("response.function_call_arguments.done", Shape::Light(Field::Arguments)),
    ("response.custom_tool_call_input.done", Shape::Light(Field::Input)),
    ("response.output_item.added", Shape::Item),
    ("response.output_item.done", Shape::Item),
    ("response.content_part.added", Shape::Part),
    ("response.content_part.done", Shape::Part),
    ("response.reasoning_summary_part.added", Shape::Part),
    ("response.reasoning_summary_part.done", Shape::Part),
    ("response.created", Shape::Begun),
    ("response.in_progress", Shape::Begun),
    ("response.completed", Shape::Done),
];

/// The index and shape of a kind that is known.
pub fn shape(kind: &str) -> Option<(usize, Shape)> {
    match kind {
        "response.incomplete" => Some((KINDS.len(), Shape::Done)),
        "response.failed" | "error" => Some((KINDS.len(), Shape::Failed)),
        _ => KINDS.iter().enumerate().find(|(_, (known, _))| *known == kind).map(|(at, (_, shape))| (at, *shape)),
    }
}

/// An event as far as its top level is plain: borrowed, read once.
#[derive(Deserialize)]
pub struct Event<'a> {
    #[serde(borrow, rename = "type", default)]
    pub kind: Plain<'a>,
    #[serde(borrow, default)]
    item_id: Plain<'a>,
    #[serde(borrow, default)]
    call_id: Plain<'a>,
    #[serde(borrow, default)]
    output_index: Plain<'a>,
    #[serde(borrow, default)]
    content_index: Plain<'a>,
    #[serde(borrow, default)]
    summary_index: Plain<'a>,
    #[serde(borrow, default)]
    sequence_number: Plain<'a>,
    #[serde(borrow, default)]
    delta: Plain<'a>,
    #[serde(borrow, default)]
    text: Plain<'a>,
    #[serde(borrow, default)]
    arguments: Plain<'a>,
    #[serde(borrow, default)]
    input: Plain<'a>,
}

impl Event<'_> {
    /// Writes the event anew: its kind, where it belongs, and its one text.
    pub fn write_light(&self, at: usize, kind: &str, field: Field, guard: &mut Guard<'_>, out: &mut Vec<u8>) -> Result<(), Cut> {
        self.begin(kind, guard, out)?;
        let (key, text) = match field {
            Field::Delta => ("delta", &self.delta),
            Field::Text => ("text", &self.text),
            Field::Arguments => ("arguments", &self.arguments),
            Field::Input => ("input", &self.input),
        };
        if let Plain::Text(text) = text {
            if field == Field::Delta {
                let index = |plain: &Plain<'_>| if let Plain::Number(n) = plain { *n } else { 0 };
                guard.delta((at, index(&self.output_index), index(&self.content_index).max(index(&self.summary_index))), text)?;
            } else {
                guard.next(text)?;
            }
            write_key(out, key);
            write_json(out, &**text)?;
        }
        end(out);
        Ok(())
    }

    /// Writes an event that holds a rebuilt value under one key.
    pub fn write_heavy(&self, kind: &str, key: &str, value: &Value, guard: &mut Guard<'_>, out: &mut Vec<u8>) -> Result<(), Cut> {
        guard.value(value)?;
        self.begin(kind, guard, out)?;
        write_key(out, key);
        write_json(out, value)?;
        end(out);
        Ok(())
    }

    fn begin(&self, kind: &str, guard: &Guard<'_>, out: &mut Vec<u8>) -> Result<(), Cut> {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\ndata: {\"type\":\"");
        // Of the allow-list, so it needs no escapes.
        out.extend_from_slice(kind.as_bytes());
        out.push(b'"');
        for (key, value) in [
            ("item_id", &self.item_id),
            ("call_id", &self.call_id),
            ("output_index", &self.output_index),
            ("content_index", &self.content_index),
            ("summary_index", &self.summary_index),
            ("sequence_number", &self.sequence_number),
        ] {
            match value {
                Plain::Text(text) if key.ends_with("_id") => {
                    guard.alone(text)?;
                    write_key(out, key);
                    write_json(out, &**text)?;
                }
                Plain::Number(number) if !key.ends_with("_id") => {
                    write_key(out, key);
                    write_json(out, number)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn write_key(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn write_json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), Cut> {
    // Into memory: it cannot fail, and a half-written event must not pass if it does.
    serde_json::to_writer(out, value).map_err(|_| Cut::Garbage)
}

fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"}\n\n");
}

/// A string or a count; anything else counts as absent.
#[derive(Default)]
pub enum Plain<'a> {
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Number(u64),
}

impl<'de: 'a, 'a> Deserialize<'de> for Plain<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> serde::de::Visitor<'de> for Visit {
            type Value = Plain<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("any value")
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Plain<'de>, E> {
                Ok(Plain::Text(Cow::Borrowed(v)))
            }
            fn visit_str<E>(self, v: &str) -> Result<Plain<'de>, E> {
                Ok(Plain::Text(Cow::Owned(v.to_owned())))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Plain<'de>, E> {
                Ok(Plain::Number(v))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Plain<'de>, E> {
                Ok(Plain::Absent)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Plain<'de>, E> {
                Ok(Plain::Absent)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Plain<'de>, E> {
                Ok(Plain::Absent)
            }
            fn visit_unit<E>(self) -> Result<Plain<'de>, E> {
                Ok(Plain::Absent)
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Plain<'de>, A::Error> {
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Plain::Absent)
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Plain<'de>, A::Error> {
                while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
                Ok(Plain::Absent)
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

/// What is told of the answer as a whole: which one it is, how it ended, what it cost. Providers repeat the request in it; that stays outside.
pub fn response(value: &Value) -> Value {
    let mut rebuilt = Map::new();
    for key in ["id", "object", "status"] {
        if let Some(Value::String(text)) = value.get(key) {
            rebuilt.insert(key.to_owned(), text.as_str().into());
        }
    }
    if let Some(Value::Bool(end)) = value.get("end_turn") {
        rebuilt.insert("end_turn".to_owned(), (*end).into());
    }
    if let Some(Value::String(reason)) = value.pointer("/incomplete_details/reason") {
        rebuilt.insert("incomplete_details".to_owned(), Value::Object(Map::from_iter([("reason".to_owned(), reason.as_str().into())])));
    }
    if let Some(usage) = value.get("usage").and_then(counts) {
        rebuilt.insert("usage".to_owned(), usage);
    }
    Value::Object(rebuilt)
}

/// The counts of an object, one level of objects of counts in it, and nothing else.
fn counts(value: &Value) -> Option<Value> {
    let Value::Object(map) = value else { return None };
    const KNOWN: [&str; 6] = ["input_tokens", "output_tokens", "total_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens"];
    let mut rebuilt = Map::new();
    for (key, value) in map {
        match value {
            Value::Number(number) if number.is_u64() && KNOWN.contains(&key.as_str()) => {
                rebuilt.insert(key.clone(), value.clone());
            }
            Value::Object(_) if matches!(key.as_str(), "input_tokens_details" | "output_tokens_details") => {
                rebuilt.extend(counts(value).map(|inner| (key.clone(), inner)));
            }
            _ => {}
        }
    }
    Some(Value::Object(rebuilt))
}

/// What the provider reported to have counted.
pub fn usage(value: &Value) -> Option<Usage> {
    let count = |pointer: &str| value.pointer(pointer).and_then(Value::as_u64);
    Some(Usage {
        input_tokens: count("/input_tokens")?,
        cached_input_tokens: count("/input_tokens_details/cached_tokens").unwrap_or(0),
        output_tokens: count("/output_tokens")?,
        reasoning_output_tokens: count("/output_tokens_details/reasoning_tokens").unwrap_or(0),
    })
}

/// The rebuilt value of a heavy event, and the key that it stands under; `None`: the event is dropped.
pub fn rebuild(shape: Shape, value: &Value, cache_key: &str) -> Option<(&'static str, Value)> {
    match shape {
        Shape::Item => items::rebuild(value.get("item")?, cache_key).map(|item| ("item", item)),
        Shape::Part => items::part(value.get("part")?, cache_key).map(|part| ("part", part)),
        Shape::Begun | Shape::Done => Some(("response", response(value.get("response").unwrap_or(&Value::Null)))),
        Shape::Light(_) | Shape::Failed => None,
    }
}
