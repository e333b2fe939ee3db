//! Arguments of a call: one table per tool says what is allowed, the input schema and the check are both made from it.
//!
//! rmcp does not enforce schemas, so the check is ours. A rejected value is never repeated in an answer: it may be a secret that
//! was pasted into the wrong field.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::error::{Code, Error, Result};

/// What a parameter takes.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// A text.
    Text {
        /// Fewest characters.
        min: usize,
        /// Most characters.
        max: Option<usize>,
        /// Whether control characters may stand in it.
        control: bool,
    },
    /// One of some words.
    Choice {
        /// The words.
        values: &'static [&'static str],
        /// Taken where the caller gives none; without one, null is allowed and the default.
        default: Option<&'static str>,
    },
    /// A list of texts, none of them empty.
    Texts {
        /// Most entries.
        max: usize,
    },
    /// A list of some words.
    Words {
        /// The words.
        values: &'static [&'static str],
    },
    /// Yes or no; no where the caller says nothing.
    Flag,
    /// A whole number.
    Integer {
        /// Least and most; `None` where the value is clamped rather than refused.
        range: Option<(i64, i64)>,
    },
}

/// One parameter.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub rule: Rule,
    /// Whether it must be there.
    pub required: bool,
    /// What it means beyond its schema.
    pub description: &'static str,
}

impl Parameter {
    fn nullable(&self) -> bool {
        !self.required && !matches!(self.rule, Rule::Choice { default: Some(_), .. } | Rule::Flag)
    }

    /// Its JSON schema, with its meaning.
    pub fn schema(&self) -> Value {
        let kind = |name: &str| if self.nullable() { json!([name, "null"]) } else { json!(name) };
        let mut schema = Map::new();
        match self.rule {
            Rule::Text { min, max, control } => {
                schema.insert("type".into(), kind("string"));
                if min > 0 {
                    schema.insert("minLength".into(), json!(min));
                }
                if let Some(max) = max {
                    schema.insert("maxLength".into(), json!(max));
                }
                if !control {
                    schema.insert("pattern".into(), json!(r"^[^\x00-\x1f\x7f]*$"));
                }
            }
            Rule::Choice { values, .. } => {
                schema.insert("type".into(), kind("string"));
                let mut words: Vec<Value> = values.iter().map(|word| json!(word)).collect();
                if self.nullable() {
                    words.push(Value::Null);
                }
                schema.insert("enum".into(), Value::Array(words));
            }
            Rule::Texts { max } => {
                schema.insert("type".into(), kind("array"));
                schema.insert("items".into(), json!({"type": "string", "minLength": 1}));
                schema.insert("maxItems".into(), json!(max));
            }
            Rule::Words { values } => {
                schema.insert("type".into(), kind("array"));
                schema.insert("items".into(), json!({"type": "string", "enum": values}));
            }
            Rule::Flag => {
                schema.insert("type".into(), kind("boolean"));
            }
            Rule::Integer { range } => {
                schema.insert("type".into(), kind("integer"));
                if let Some((least, most)) = range {
                    schema.insert("minimum".into(), json!(least));
                    schema.insert("maximum".into(), json!(most));
                }
            }
        }
        if !self.required {
            let default = match self.rule {
                Rule::Choice { default: Some(word), .. } => json!(word),
                Rule::Flag => json!(false),
                _ => Value::Null,
            };
            schema.insert("default".into(), default);
        }
        schema.insert("description".into(), json!(self.description));
        Value::Object(schema)
    }

    /// The checked value (`None` for null), or why it is refused.
    fn check(&self, value: &Value) -> std::result::Result<Option<Checked>, String> {
        if value.is_null() {
            return if self.nullable() { Ok(None) } else { Err("must not be null".into()) };
        }
        match self.rule {
            Rule::Text { min, max, control } => {
                let Value::String(text) = value else { return Err("must be a string".into()) };
                let length = text.chars().count();
                if length < min {
                    return Err(format!("must have at least {min} character{}", if min == 1 { "" } else { "s" }));
                }
                if let Some(max) = max
                    && length > max
                {
                    return Err(format!("must have at most {max} characters"));
                }
                if !control && text.chars().any(|c| c.is_ascii_control()) {
                    return Err("must not hold control characters".into());
                }
                Ok(Some(Checked::Text(text.clone())))
            }
            Rule::Choice { values, .. } => match values.iter().find(|word| value.as_str() == Some(**word)) {
                Some(word) => Ok(Some(Checked::Text((*word).to_owned()))),
                None => Err("must be one of the allowed values".into()),
            },
            Rule::Texts { max } => {
                let Value::Array(items) = value else { return Err("must be a list of strings".into()) };
                if items.len() > max {
                    return Err(format!("must have at most {max} entries"));
                }
                let texts: Option<Vec<String>> = items.iter().map(|item| item.as_str().filter(|text| !text.is_empty()).map(str::to_owned)).collect();
                texts.map(|texts| Some(Checked::Texts(texts))).ok_or_else(|| "must hold strings that are not empty".into())
            }
            Rule::Words { values } => {
                let Value::Array(items) = value else { return Err("must be a list of strings".into()) };
                let known: Option<Vec<String>> =
                    items.iter().map(|item| values.iter().find(|word| item.as_str() == Some(**word)).map(|word| (*word).to_owned())).collect();
                known.map(|words| Some(Checked::Texts(words))).ok_or_else(|| "must hold allowed values only".into())
            }
            Rule::Flag => value.as_bool().map(|flag| Some(Checked::Flag(flag))).ok_or_else(|| "must be true or false".into()),
            Rule::Integer { range } => {
                let Some(number) = integer(value) else { return Err("must be a whole number".into()) };
                match range {
                    Some((least, most)) if !(least..=most).contains(&number) => Err(format!("must be between {least} and {most}")),
                    _ => Ok(Some(Checked::Integer(number))),
                }
            }
        }
    }

    fn allowed_values(&self) -> Option<Value> {
        match self.rule {
            Rule::Choice { values, .. } | Rule::Words { values } => Some(json!(values)),
            Rule::Text { .. } | Rule::Texts { .. } | Rule::Integer { .. } | Rule::Flag => None,
        }
    }
}

/// A JSON number without a fraction (JSON Schema counts `300.0` as an integer), saturated to the range of `i64`.
fn integer(value: &Value) -> Option<i64> {
    if let Some(number) = value.as_i64() {
        return Some(number);
    }
    let number = value.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and every integer parameter has its own bounds")]
    (number.fract() == 0.0).then_some(number as i64)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Checked {
    Text(String),
    Texts(Vec<String>),
    Integer(i64),
    Flag(bool),
}

/// Checked arguments of one call.
#[derive(Debug, Default)]
pub struct Arguments(BTreeMap<&'static str, Checked>);

impl Arguments {
    /// Checks the arguments of a call against its tool's table.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidArguments`] with every breach in `invalid_arguments`.
    pub fn check(table: &'static [Parameter], given: Option<&Map<String, Value>>) -> Result<Self> {
        let empty = Map::new();
        let given = given.unwrap_or(&empty);
        let mut values = BTreeMap::new();
        let mut breaches: Vec<Value> = Vec::new();
        for parameter in table {
            match given.get(parameter.name) {
                None if parameter.required => breaches.push(breach(Some(parameter.name), "is required", None)),
                None => {}
                Some(value) => match parameter.check(value) {
                    Ok(Some(checked)) => {
                        values.insert(parameter.name, checked);
                    }
                    Ok(None) => {}
                    Err(reason) => breaches.push(breach(Some(parameter.name), &reason, parameter.allowed_values())),
                },
            }
            if let Rule::Choice { default: Some(word), .. } = parameter.rule {
                values.entry(parameter.name).or_insert_with(|| Checked::Text(word.to_owned()));
            }
        }
        let known: Vec<&str> = table.iter().map(|parameter| parameter.name).collect();
        for name in given.keys().filter(|name| !known.contains(&name.as_str())).take(16) {
            // A name that is not a plain word may be a value that slipped into the wrong place.
            let plain = name.len() <= 32 && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
            breaches.push(breach(plain.then_some(name.as_str()), "is not a parameter of this tool", Some(json!(known))));
        }
        if breaches.is_empty() { Ok(Self(values)) } else { Err(invalid(breaches)) }
    }

    /// A text argument, where one was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Checked::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A list of texts; empty where none was given.
    pub fn texts(&self, name: &str) -> &[String] {
        match self.0.get(name) {
            Some(Checked::Texts(texts)) => texts,
            _ => &[],
        }
    }

    /// Whether a flag was set.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.0.get(name), Some(Checked::Flag(true)))
    }

    /// A number, where one was given.
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.0.get(name) {
            Some(Checked::Integer(number)) => Some(*number),
            _ => None,
        }
    }
}

/// One field that breaks a rule which no schema can state (a blank task).
pub fn invalid_field(field: &'static str, reason: &str) -> Error {
    invalid(vec![breach(Some(field), reason, None)])
}

fn breach(field: Option<&str>, reason: &str, allowed: Option<Value>) -> Value {
    let mut entry = Map::new();
    entry.insert("field".into(), field.map_or(Value::Null, |field| json!(field)));
    if field.is_none() {
        entry.insert("field_withheld".into(), json!(true));
    }
    entry.insert("reason".into(), json!(reason));
    if let Some(allowed) = allowed {
        entry.insert("allowed_values".into(), allowed);
    }
    Value::Object(entry)
}

fn invalid(breaches: Vec<Value>) -> Error {
    let described: Vec<String> = breaches
        .iter()
        .map(|entry| {
            let field = entry.get("field").and_then(Value::as_str).unwrap_or("an argument (name withheld)");
            format!("{field} {}", entry.get("reason").and_then(Value::as_str).unwrap_or_default())
        })
        .collect();
    let mut error = Error::new(Code::InvalidArguments, format!("invalid arguments: {}", described.join("; ")))
        .with_hint("correct the named arguments after the tool's input schema and call it again; nothing was started");
    if let [only] = breaches.as_slice() {
        for key in ["field", "field_withheld", "reason", "allowed_values"] {
            if let Some(value) = only.get(key) {
                error = error.with_detail(key, value.clone());
            }
        }
    } else {
        let fields: Vec<Value> = breaches.iter().filter_map(|entry| entry.get("field").cloned()).collect();
        error = error.with_detail("fields", fields).with_detail("reason", "several arguments break their rules");
    }
    error.with_detail("invalid_arguments", breaches)
}

/// The input schema of a tool.
pub fn input_schema(table: &[Parameter]) -> Map<String, Value> {
    let properties: Map<String, Value> = table.iter().map(|parameter| (parameter.name.to_owned(), parameter.schema())).collect();
    let required: Vec<&str> = table.iter().filter(|parameter| parameter.required).map(|parameter| parameter.name).collect();
    let mut schema = Map::new();
    schema.insert("type".into(), json!("object"));
    schema.insert("properties".into(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".into(), json!(required));
    }
    schema.insert("additionalProperties".into(), json!(false));
    schema
}
