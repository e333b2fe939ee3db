//! For programs: the whole review, with a fingerprint for each finding.

use serde_json::{Value, json};

use super::{Context, escape, fingerprints};
use crate::review::Review;

/// Version of the document; a field that is added does not change it.
pub const VERSION: u32 = 1;

/// The review as one JSON document.
pub fn render(review: &Review, context: &Context) -> Vec<u8> {
    document(&value(review, context))
}

/// The review's fields, without the end of a document.
pub fn value(review: &Review, context: &Context) -> Value {
    let mut fields = match serde_json::to_value(review) {
        Ok(Value::Object(fields)) => fields,
        // Nothing in the model can fail to become JSON but a number that is none, and that is left out here.
        _ => serde_json::Map::new(),
    };
    if let Some(Value::Array(findings)) = fields.get_mut("findings") {
        for (finding, print) in findings.iter_mut().zip(fingerprints(&review.findings)) {
            if let Value::Object(finding) = finding {
                finding.insert("fingerprint".to_owned(), print.into());
            }
        }
    }
    let mut document = serde_json::Map::new();
    document.insert("format_version".to_owned(), VERSION.into());
    document.insert("fail_on".to_owned(), context.threshold.map(crate::review::Severity::as_str).into());
    document.insert("findings_reaching".to_owned(), context.threshold.map(|threshold| review.reaching(threshold).count()).into());
    document.insert("rendered_by".to_owned(), context.tool_version.clone().into());
    let untrusted = json!(["summary", "findings", "questions", "assumptions", "next_steps", "change.files", "change.instruction_files"]);
    document.insert("untrusted_fields".to_owned(), untrusted);
    document.append(&mut fields);
    Value::Object(document)
}

/// A document for a file or a log.
pub(super) fn document(value: &Value) -> Vec<u8> {
    let mut text = escape::json(&format!("{value:#}"));
    text.push('\n');
    text.into_bytes()
}
