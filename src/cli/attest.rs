//! `attest`: what a job's cell really was.

use serde_json::{Value, json};

use super::args::JobArg;
use super::job_ref;
use super::output::{Output, Paint};
use crate::display;
use crate::error::{Error, Result};
use crate::job::Jobs;

/// Lists longer than this are counted for people; the document has them whole.
const LIST: usize = 8;

pub(super) async fn run(out: &Output, jobs: &Jobs, args: &JobArg) -> Result<u8> {
    let id = job_ref::resolve(jobs, &args.job).await?;
    let attestation = jobs.attest(&id).await?;
    let value = serde_json::to_value(&attestation).map_err(|e| Error::internal("write the attestation").with_source(e))?;
    if out.json() {
        out.document(json!({ "attestation": value }));
    } else {
        out.text(&text(&value, out.paint()));
    }
    Ok(0)
}

/// The document as indented lines, one a fact; long lists as their length.
fn text(value: &Value, paint: Paint) -> String {
    let mut lines = Vec::new();
    write(value, 0, &mut lines, paint);
    lines.join("\n")
}

fn write(value: &Value, depth: usize, lines: &mut Vec<String>, paint: Paint) {
    let Value::Object(fields) = value else { return };
    for (name, value) in fields {
        let label = format!("{}{}", "  ".repeat(depth), display::line(name.replace('_', " ").as_bytes()));
        match value {
            Value::Null => lines.push(format!("{label}: none")),
            Value::Object(inner) if inner.is_empty() => lines.push(format!("{label}: none")),
            Value::Object(_) => {
                lines.push(if depth == 0 { paint.bold(&label) } else { label });
                write(value, depth + 1, lines, paint);
            }
            Value::Array(items) if items.is_empty() => lines.push(format!("{label}: none")),
            Value::Array(items) if items.iter().any(Value::is_object) => {
                lines.push(label);
                lines.extend(items.iter().map(|item| format!("{}{}", "  ".repeat(depth + 1), row(item))));
            }
            Value::Array(items) if items.len() > LIST && items.iter().all(|item| item.as_str().is_some_and(|text| text.starts_with('/'))) => {
                lines.push(format!("{label}: {}", items.len()));
            }
            Value::Array(items) => lines.push(format!("{label}: {}", items.iter().map(plain).collect::<Vec<_>>().join(", "))),
            other => lines.push(format!("{label}: {}", plain(other))),
        }
    }
}

fn row(item: &Value) -> String {
    let Value::Object(fields) = item else { return plain(item) };
    fields.iter().map(|(name, value)| format!("{}={}", display::line(name.as_bytes()), plain(value))).collect::<Vec<_>>().join(" ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "none".to_owned(),
        Value::String(text) => display::line(text.as_bytes()),
        other => display::line(other.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_lines_and_nothing_can_speak_through_them() {
        let value = json!({
            "job_id": "ab", "gateway": null,
            "cell": {"masked_paths": vec!["/proc/x"; 40], "capabilities_added": ["KILL", "CHOWN"], "ulimits": {}, "seccomp": "",
                "mounts": [{"target": "/workspace", "writable": true}]},
            "unknown": ["a\u{1b}[2J\nb"],
        });
        let text = text(&value, Paint(false));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "job id: ab",
                "gateway: none",
                "cell",
                "  masked paths: 40",
                "  capabilities added: KILL, CHOWN",
                "  ulimits: none",
                "  seccomp: none",
                "  mounts",
                "    target=/workspace writable=true",
                "unknown: a\\u{1b}[2J\\nb",
            ]
        );
    }
}
