//! Looking at what a person or an assistant is shown.

use serde_json::Value;

/// Visits every text of a document with the keys that lead to it.
pub fn strings(value: &Value, path: &mut Vec<String>, each: &mut dyn FnMut(&[String], &str)) {
    match value {
        Value::String(text) => each(path, text),
        Value::Array(items) => items.iter().for_each(|item| strings(item, path, each)),
        Value::Object(map) => {
            for (key, item) in map {
                path.push(key.clone());
                each(path, key);
                strings(item, path, each);
                path.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The first character that steers a display or is not seen; a line may end with CR LF. A list of its own: the product's is what is tested.
pub fn unseen(text: &str) -> Option<char> {
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let bad = match u32::from(c) {
            0x0d => rest.peek() != Some(&'\n'),
            0x09 | 0x0a => false,
            0..=0x1f | 0x7f..=0x9f | 0xad | 0x61c | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f => true,
            0xfe00..=0xfe0f | 0xfeff | 0xfff9..=0xfffb | 0xe0000..=0xe0fff => true,
            _ => false,
        };
        if bad {
            return Some(c);
        }
    }
    None
}
