//! A strict JSON reader for bytes from a job: bounded depth and size, UTF-8, no key twice in one object.
//!
//! Two readers that treat a repeated key differently are how a policy is evaded: the one that checks sees the first value, the one that acts
//! the last. So a document with a repeated key is no document.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::weaken;

/// Deepest nesting of arrays and objects.
pub const MAX_DEPTH: usize = 64;
/// Most values in one document; bounds memory, since a value takes more of it than its text.
pub const MAX_VALUES: usize = 400_000;

/// Why a document was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not JSON, or not UTF-8.
    Malformed,
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// More than [`MAX_VALUES`] values.
    TooMany,
    /// A key stands twice in one object.
    DuplicateKey,
}

impl Fault {
    /// Stable, for the ledger.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed_json",
            Self::TooDeep => "json_too_deep",
            Self::TooMany => "json_too_large",
            Self::DuplicateKey => "duplicate_key",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the body is not valid JSON",
            Self::TooDeep => "the body is nested too deeply",
            Self::TooMany => "the body holds too many values",
            Self::DuplicateKey => "the body holds a key twice in one object",
        })
    }
}

/// Reads one document and nothing after it.
pub fn parse(bytes: &[u8]) -> Result<Value, Fault> {
    let state = State { fault: Cell::new(Fault::Malformed), values: Cell::new(0) };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Seed { state: &state, depth: 0 }.deserialize(&mut deserializer).map_err(|_| state.fault.get())?;
    deserializer.end().map_err(|_| Fault::Malformed)?;
    Ok(value)
}

struct State {
    fault: Cell<Fault>,
    values: Cell<usize>,
}

impl State {
    fn refuse<E: serde::de::Error>(&self, fault: Fault) -> E {
        self.fault.set(fault);
        E::custom("refused")
    }
}

#[derive(Clone, Copy)]
struct Seed<'s> {
    state: &'s State,
    depth: usize,
}

impl Seed<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH && !weaken::off("policy.json_too_deep") {
            return Err(self.state.refuse(Fault::TooDeep));
        }
        Ok(Self { state: self.state, depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let values = self.state.values.get() + 1;
        self.state.values.set(values);
        if values > MAX_VALUES && !weaken::off("policy.json_too_large") {
            return Err(self.state.refuse(Fault::TooMany));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) && !weaken::off("policy.duplicate_key") {
                return Err(self.state.refuse(Fault::DuplicateKey));
            }
            let value = map.next_value_seed(inner)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_documents_are_read_as_they_are() {
        let text = r#"{"b":[1,-2,3.5,null,true,"ü\n"],"a":{"x":18446744073709551615}}"#;
        assert_eq!(parse(text.as_bytes()).unwrap().to_string(), serde_json::from_str::<Value>(text).unwrap().to_string());
    }

    #[test]
    fn bad_documents_are_refused_by_name() {
        let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        let cases: Vec<(Vec<u8>, Fault)> = vec![
            (b"".to_vec(), Fault::Malformed),
            (b"{} {}".to_vec(), Fault::Malformed),
            (b"{\"a\":\"\xff\"}".to_vec(), Fault::Malformed),
            (br#"{"a":"\ud800"}"#.to_vec(), Fault::Malformed),
            (br#"{"a":1e999}"#.to_vec(), Fault::Malformed),
            (br#"{"a":NaN}"#.to_vec(), Fault::Malformed),
            (br#"{"a":01}"#.to_vec(), Fault::Malformed),
            (br#"{"a":1,"b":2,"a":1}"#.to_vec(), Fault::DuplicateKey),
            (br#"{"o":{"model":1,"\u006dodel":2}}"#.to_vec(), Fault::DuplicateKey),
            (deep(MAX_DEPTH + 1).into_bytes(), Fault::TooDeep),
            (deep(100_000).into_bytes(), Fault::TooDeep),
            (format!("[{}0]", "0,".repeat(MAX_VALUES)).into_bytes(), Fault::TooMany),
        ];
        for (text, fault) in cases {
            assert_eq!(parse(&text), Err(fault), "{}", String::from_utf8_lossy(&text[..text.len().min(60)]));
        }
        assert!(parse(deep(MAX_DEPTH).as_bytes()).is_ok());
    }
}
