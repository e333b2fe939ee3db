//! The forms that values may have. Null stands for an absent value wherever Codex writes one.

use serde_json::Value;

use super::rules::refuse;
use super::{Refusal, Verdict};

/// Longest name of a tool, longest id.
const MAX_NAME: usize = 256;
/// Longest description of a tool, or definition of its grammar. The longest of Codex 0.169 has 13 kB.
const MAX_DESCRIPTION: usize = 128 << 10;
/// Longest word of a fixed vocabulary.
const MAX_WORD: usize = 32;

/// The form of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Of a fixed vocabulary of the provider: `low`, `final_answer`, `in_progress`.
    Word,
    /// Of a tool or of who speaks: letters, digits and a little punctuation.
    Name,
    /// Of a call: printable ASCII.
    Id,
    /// For the model to read; bounded with the body.
    Text,
    /// For the model to read, bounded.
    Description,
    /// True or false.
    Bool,
}

pub fn want(good: bool, what: &str) -> Verdict {
    if good { Ok(()) } else { refuse("malformed", format!("{what} has a form that is not allowed")) }
}

/// Checks a value against a form.
pub fn check(value: &Value, form: Form, what: &str) -> Verdict {
    let text = match (value, form) {
        (Value::Null, _) | (Value::Bool(_), Form::Bool) => return Ok(()),
        (Value::String(text), Form::Word | Form::Name | Form::Id | Form::Text | Form::Description) => text,
        _ => return want(false, what),
    };
    let (longest, plain): (usize, fn(u8) -> bool) = match form {
        Form::Word => (MAX_WORD, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b)),
        Form::Name => (MAX_NAME, |b| b.is_ascii_alphanumeric() || b"_-./:".contains(&b)),
        Form::Id => (MAX_NAME, |b| b.is_ascii_graphic()),
        Form::Description => (MAX_DESCRIPTION, |_| true),
        Form::Text | Form::Bool => return Ok(()),
    };
    if text.len() > longest {
        return refuse("too_long", format!("{what} is longer than {longest} bytes"));
    }
    want(text.bytes().all(plain), what)
}

/// An object whose keys are listed, each with its form.
pub fn check_flat(value: &Value, keys: &[(&str, Form)], what: &str) -> Verdict {
    match value {
        Value::Null => Ok(()),
        Value::Object(map) => map.iter().try_for_each(|(key, value)| match keys.iter().find(|(known, _)| known == key) {
            Some((_, form)) => check(value, *form, what),
            None => want(false, what),
        }),
        _ => want(false, what),
    }
}

/// `reasoning` of a request or of a change of settings.
pub fn check_reasoning(value: &Value) -> Verdict {
    check_flat(value, &[("effort", Form::Word), ("summary", Form::Word), ("context", Form::Word)], "reasoning")
}

/// Counts up to a bound.
#[derive(Debug)]
pub struct Count {
    left: usize,
    what: &'static str,
}

impl Count {
    pub fn new(most: usize, what: &'static str) -> Self {
        Self { left: most, what }
    }

    pub fn add(&mut self, more: usize) -> Result<(), Refusal> {
        match self.left.checked_sub(more) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => refuse("too_many", format!("the request holds too many {}", self.what)),
        }
    }
}

/// A JSON schema is data to us, but for the keys by which one document refers to another: those may only point into the same document.
pub fn check_schema(schema: &Value) -> Verdict {
    match schema {
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            if let Value::String(to) = value {
                let local = match key.as_str() {
                    "$ref" | "$dynamicRef" | "$recursiveRef" | "$id" => to.starts_with('#'),
                    // The dialect: a name that everybody knows and nobody fetches.
                    "$schema" => ["http://json-schema.org/", "https://json-schema.org/"].iter().any(|known| to.starts_with(known)),
                    _ => true,
                };
                if !local {
                    return refuse("schema_ref", "a schema may only refer to its own parts");
                }
            }
            check_schema(value)
        }),
        Value::Array(list) => list.iter().try_for_each(check_schema),
        _ => Ok(()),
    }
}
