//! The form in which a reviewer answers, for Codex's `--output-schema` (strict: every property required, nothing beside them, null for "none").

use serde_json::{Value, json};

use super::{Severity, Verdict};

/// The JSON schema of an answer. Only keywords that strict structured output knows: bounds are checked when the answer is read.
pub fn document() -> Value {
    let severities = Severity::ALL.map(Severity::as_str);
    let verdicts = Verdict::ALL.map(Verdict::as_str);
    let text = |what: &str| json!({"type": "string", "description": what});
    let texts = |what: &str| json!({"type": "array", "items": {"type": "string"}, "description": what});
    let number_or_null = |kind: &str, what: &str| json!({"type": [kind, "null"], "description": what});
    let finding = strict(&json!({
        "severity": {"type": "string", "enum": severities},
        "title": text("one line"),
        "file": {"type": ["string", "null"], "description": "path below the repository's top"},
        "line": number_or_null("integer", "first line, on the side after the change"),
        "line_end": number_or_null("integer", "last line"),
        "evidence": text("what was seen, in the code or in a run"),
        "risk": text("what can go wrong"),
        "recommendation": text("what to do"),
    }));
    strict(&json!({
        "verdict": {"type": "string", "enum": verdicts},
        "confidence": number_or_null("number", "0 to 1"),
        "summary": text("the change and the judgement, in a few sentences"),
        "findings": {"type": "array", "items": finding},
        "questions": texts("what only the author can say"),
        "assumptions": texts("what was taken for granted"),
        "next_steps": texts("what to do, in order"),
    }))
}

/// An object with exactly these properties.
fn strict(properties: &Value) -> Value {
    let required: Vec<&String> = properties.as_object().map(|map| map.keys().collect()).unwrap_or_default();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What strict mode asks of each object.
    fn check(schema: &Value, objects: &mut usize) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            *objects += 1;
            let names: Vec<Value> = properties.keys().map(|name| json!(name)).collect();
            assert_eq!(schema["required"], json!(names));
            assert_eq!(schema["additionalProperties"], false);
            properties.values().for_each(|property| check(property, objects));
        }
        if let Some(items) = schema.get("items") {
            check(items, objects);
        }
        let known = ["type", "properties", "required", "additionalProperties", "items", "enum", "description"];
        assert!(schema.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{schema}");
    }

    #[test]
    fn the_form_is_strict_throughout() {
        let mut objects = 0;
        check(&document(), &mut objects);
        assert_eq!(objects, 2);
    }
}
