//! The events of an answer, as the Responses API sends them.

use serde_json::{Value, json};

use crate::protocol::result::Usage;

/// One event.
pub fn event(data: &Value) -> String {
    let kind = data.get("type").and_then(Value::as_str).unwrap_or_default();
    format!("event: {kind}\ndata: {data}\n\n")
}

/// The first event of every answer.
pub fn created() -> String {
    event(&json!({"type": "response.created", "response": {"id": "resp_rehearsal", "object": "response", "status": "in_progress", "output": []}}))
}

/// An assistant's message.
pub fn message(id: &str, text: &str) -> Value {
    json!({"type": "message", "id": id, "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": text, "annotations": []}]})
}

/// A whole answer of these items.
pub fn answer(items: &[Value], usage: &Usage) -> Vec<String> {
    let mut events = vec![created()];
    for (index, item) in items.iter().enumerate() {
        if item.get("type").and_then(Value::as_str) == Some("message") {
            let text = item.pointer("/content/0/text").cloned().unwrap_or_default();
            let id = item.get("id").cloned().unwrap_or_default();
            let begun = json!({"type": "message", "id": id, "role": "assistant", "status": "in_progress", "content": []});
            events.push(event(&json!({"type": "response.output_item.added", "output_index": index, "item": begun})));
            events
                .push(event(&json!({"type": "response.output_text.delta", "item_id": id, "output_index": index, "content_index": 0, "delta": text})));
        }
        events.push(event(&json!({"type": "response.output_item.done", "output_index": index, "item": item})));
    }
    events.push(event(
        &json!({"type": "response.completed", "response": {"id": "resp_rehearsal", "object": "response", "status": "completed", "usage": {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_input_tokens},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_output_tokens},
            "total_tokens": usage.total()
        }}}),
    ));
    events
}

/// A message of `size` bytes, streamed in pieces of which none is kept.
pub fn filler(size: u64, piece: u64) -> impl Iterator<Item = String> + Send {
    let begun = json!({"type": "message", "id": "msg_filler", "role": "assistant", "status": "in_progress", "content": []});
    let begin = (size > 0).then(|| event(&json!({"type": "response.output_item.added", "output_index": 0, "item": begun})));
    let mut left = size;
    let pieces = std::iter::from_fn(move || {
        let length = left.min(piece);
        left -= length;
        let text: String = "filler ".chars().cycle().take(usize::try_from(length).unwrap_or(0)).collect();
        (length > 0).then(|| {
            event(&json!({"type": "response.output_text.delta", "item_id": "msg_filler", "output_index": 0, "content_index": 0, "delta": text}))
        })
    });
    let end = (size > 0).then(|| {
        event(&json!({"type": "response.output_item.done", "output_index": 0, "item": message("msg_filler", &format!("({size} bytes of filler)"))}))
    });
    begin.into_iter().chain(pieces).chain(end)
}
