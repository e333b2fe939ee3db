//! The gateway's ledger as a document: what a line is, what each kind of line holds, and ([`verify`]) whether nothing of it was changed.
//!
//! `docs/LEDGER.md` describes it for people. The gateway writes it, `anchorhold audit` reads it.

pub mod verify;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Bytes at which a file is full.
pub const MAX_FILE: u64 = 16 << 20;
/// Full files that are kept.
pub const KEEP: usize = 8;
/// Longest line.
pub const MAX_LINE: usize = 64 << 10;
/// What the first line of all has as `prev`.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The file that is written to.
pub const CURRENT: &str = "ledger.jsonl";

/// The name of a full file whose first line has this number.
pub fn full_name(first_seq: u64) -> String {
    format!("ledger.{first_seq:020}.jsonl")
}

/// The number of the first line, out of the name of a full file.
pub fn first_seq_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("ledger.")?.strip_suffix(".jsonl")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// The last line: who knows it knows all before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its number; 0: there is no line.
    pub seq: u64,
    /// SHA-256 of it, hex.
    pub sha256: String,
}

/// One file, by the number of its first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerFile {
    /// Names the file also after it was renamed.
    pub first_seq: u64,
    /// Bytes.
    pub size: u64,
}

/// The form of a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A count.
    Count,
    /// Any text.
    Text,
    /// A word of ours: small letters, digits, underscores.
    Word,
    /// Hex digits, this many.
    Hex(usize),
    /// A list of words.
    Words,
    /// True or false.
    Flag,
}

/// A field of a kind of line: name, form, whether it must be there.
pub type Field = (&'static str, Form, bool);

/// The fields of each line.
pub const COMMON: &[Field] = &[("seq", Form::Count, true), ("time", Form::Text, true), ("prev", Form::Hex(64), true), ("kind", Form::Word, true)];

const JOB: Field = ("job", Form::Hex(32), true);
const TOTALS: &[Field] = &[JOB, ("requests", Form::Count, true), ("refused", Form::Count, true), ("tokens", Form::Count, true)];

/// Each kind of line with its own fields.
pub const KINDS: &[(&str, &[Field])] = &[
    ("start", &[("version", Form::Text, true), ("jobs", Form::Count, true), ("policy_sha256", Form::Hex(64), true)]),
    (
        "admit",
        &[
            JOB,
            ("instance", Form::Text, true),
            ("upstream", Form::Text, true),
            ("token_budget", Form::Count, true),
            ("expires_unix", Form::Count, true),
            ("slots", Form::Count, true),
        ],
    ),
    ("manifest", &[JOB, ("manifest_sha256", Form::Hex(64), true)]),
    (
        "request",
        &[
            JOB,
            ("received_bytes", Form::Count, false),
            ("sha256", Form::Hex(64), false),
            ("forced", Form::Words, false),
            ("model", Form::Text, false),
            ("reserved_tokens", Form::Count, false),
            ("max_output_tokens", Form::Count, false),
            ("sent_bytes", Form::Count, false),
            ("outcome", Form::Word, true),
            ("status", Form::Count, true),
            ("input_tokens", Form::Count, true),
            ("cached_input_tokens", Form::Count, true),
            ("output_tokens", Form::Count, true),
            ("reasoning_output_tokens", Form::Count, true),
            ("estimated_tokens", Form::Count, true),
            ("answer_bytes", Form::Count, true),
            ("dropped_events", Form::Count, false),
            ("milliseconds", Form::Count, true),
            ("error", Form::Word, false),
        ],
    ),
    ("limits", &[("slots", Form::Count, true), ("instance", Form::Text, true)]),
    ("reload", &[("credentials", Form::Count, true)]),
    ("revoke", TOTALS),
    ("expire", TOTALS),
    ("recovered", &[("torn_bytes", Form::Count, true)]),
    ("gap", &[]),
];

/// What is wrong with the fields of a line, if anything, and the names that no version of ours knows.
fn check(line: &Map<String, Value>) -> Result<Vec<String>, String> {
    let kind = line.get("kind").and_then(Value::as_str).unwrap_or_default();
    let own = KINDS.iter().find(|(known, _)| *known == kind).map(|(_, fields)| *fields);
    let fields = || COMMON.iter().chain(own.unwrap_or_default());
    for (name, form, needed) in fields() {
        match line.get(*name) {
            Some(value) if !fits(value, *form) => return Err(format!("`{name}` has another form than a {kind} line gives it")),
            None if *needed => return Err(format!("a {kind} line without `{name}`")),
            _ => {}
        }
    }
    if line.get("time").and_then(Value::as_str).is_none_or(|time| time.parse::<jiff::Timestamp>().is_err()) {
        return Err("`time` is no time".to_owned());
    }
    Ok(match own {
        // A later version may write more; what it means is not ours to say.
        None => vec![format!("kind {kind}")],
        Some(_) => line.keys().filter(|key| !fields().any(|(name, ..)| name == key)).map(|key| format!("{kind}.{key}")).collect(),
    })
}

fn fits(value: &Value, form: Form) -> bool {
    let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    match (form, value) {
        (Form::Count, Value::Number(number)) => number.is_u64(),
        (Form::Flag, Value::Bool(_)) | (Form::Text, Value::String(_)) => true,
        (Form::Word, Value::String(text)) => word(text),
        (Form::Hex(digits), Value::String(text)) => text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
        (Form::Words, Value::Array(list)) => list.iter().all(|v| v.as_str().is_some_and(word)),
        _ => false,
    }
}
