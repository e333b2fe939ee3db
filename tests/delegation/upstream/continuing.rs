//! A conversation that goes on: what the provider gave the first job encrypted comes back to it from the second, and from no other.

use serde_json::json;

use super::User;
use crate::support::provider::{Provider, Reply, Seen, event};

/// Thinks, encrypted, and says a word.
fn thought(n: usize) -> Reply {
    let usage = json!({"input_tokens": 10, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 15});
    let events = [
        json!({"type": "response.created", "response": {"id": "r"}}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": format!("gAAAAthought{n}==")}}),
        json!({"type": "response.output_item.done", "output_index": 1, "item": {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": format!("word {n}")}]}}),
        json!({"type": "response.completed", "response": {"id": "r", "usage": usage}}),
    ];
    Reply::Raw(Vec::new(), events.iter().map(event).collect())
}

fn thoughts(seen: &Seen) -> Vec<String> {
    let items = seen.body["input"].as_array().cloned().unwrap_or_default();
    items.iter().filter_map(|item| item["encrypted_content"].as_str().map(str::to_owned)).collect()
}

#[test]
fn what_was_encrypted_for_the_first_job_comes_back_from_the_second() {
    let provider = Provider::choosing(|n, _| Some(thought(n)));
    let user = User::of(&provider);
    let first = user.delegate();
    assert_eq!(first.code, 0, "{}", first.text);
    let id = first.json["job_id"].as_str().expect("a job").to_owned();
    let second = user.run(&["continue", "--json", &id, "and now?"]);
    assert_eq!(second.code, 0, "{}", second.text);
    let third = user.run(&["continue", "--json", second.json["job_id"].as_str().expect("a job"), "and then?"]);
    assert_eq!(third.code, 0, "{}", third.text);
    let seen = provider.seen();
    let known: Vec<_> = seen.iter().map(thoughts).collect();
    let expected = |upto: usize| (0..upto).map(|n| format!("gAAAAthought{n}==")).collect::<Vec<_>>();
    assert_eq!(known, [expected(0), expected(1), expected(2)]);
    // Jobs are told apart by the provider as before.
    let keys: std::collections::BTreeSet<String> = seen.iter().map(|seen| seen.body["prompt_cache_key"].to_string()).collect();
    assert_eq!(keys.len(), 3, "{keys:?}");
}

#[test]
fn another_provider_is_not_told_what_the_first_one_was() {
    let (one, other) = (Provider::choosing(|n, _| Some(thought(n))), Provider::choosing(|n, _| Some(thought(n))));
    let mut user = User::of(&one);
    let first = user.delegate();
    assert_eq!(first.code, 0, "{}", first.text);
    user.env.set("ANCHORHOLD_MODEL_UPSTREAM", &other.url("/v1"));
    let second = user.run(&["continue", "--json", first.json["job_id"].as_str().expect("a job"), "and now?"]);
    assert!(second.code != 0 && second.text.contains("another provider"), "{}", second.text);
    assert_eq!(other.seen().len(), 0);
}
