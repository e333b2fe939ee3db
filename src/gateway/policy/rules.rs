//! The rules by name: why a request may be refused.
//!
//! Every refusal of the policy goes through [`refuse`], so that each rule can be taken away alone in a weakened build: its point is
//! `policy.<code>`. Values that are forced instead have points of their own, where they are forced.

use super::Refusal;
use crate::weaken;

/// A rule that can refuse a request.
#[derive(Debug)]
pub struct Rule {
    /// Stands in the ledger and in the answer to the job.
    pub code: &'static str,
    /// Whether it is taken away.
    off: fn() -> bool,
    /// What it keeps out.
    pub what: &'static str,
}

/// All rules that look at a document which could be read. A document that cannot be read (`malformed_json`, `not_an_object`) has no point: there is
/// nothing that could be sent in its place.
pub const RULES: &[Rule] = &[
    Rule { code: "json_too_deep", off: || weaken::off("policy.json_too_deep"), what: "arrays and objects nested beyond 64" },
    Rule { code: "json_too_large", off: || weaken::off("policy.json_too_large"), what: "more than 400 000 values" },
    Rule {
        code: "duplicate_key",
        off: || weaken::off("policy.duplicate_key"),
        what: "a key twice in one object, also where one of the two is written with escapes",
    },
    Rule {
        code: "unknown_key",
        off: || weaken::off("policy.unknown_key"),
        what: "a key of the request that Codex does not send: containers, webhooks, whatever comes later",
    },
    Rule {
        code: "stored_state",
        off: || weaken::off("policy.stored_state"),
        what: "state that the provider keeps: previous responses, conversations, prompts; work in the background",
    },
    Rule {
        code: "include",
        off: || weaken::off("policy.include"),
        what: "asking for more in the answer than reasoning that only the provider can read",
    },
    Rule { code: "model", off: || weaken::off("policy.model"), what: "a model outside of the job's list, or a name that is none" },
    Rule { code: "malformed", off: || weaken::off("policy.malformed"), what: "a known key whose value has another form than Codex gives it" },
    Rule { code: "too_many", off: || weaken::off("policy.too_many"), what: "more items, parts or tools than any real conversation has" },
    Rule { code: "too_long", off: || weaken::off("policy.too_long"), what: "names, words and descriptions beyond their bounds" },
    Rule { code: "tool_choice", off: || weaken::off("policy.tool_choice"), what: "a choice of a tool that the provider runs" },
    Rule {
        code: "hosted_tool",
        off: || weaken::off("policy.hosted_tool"),
        what: "a tool that is not run in the cell: searches, interpreters, remote servers",
    },
    Rule { code: "tool_key", off: || weaken::off("policy.tool_key"), what: "a key of a tool that could make the provider act" },
    Rule { code: "schema_ref", off: || weaken::off("policy.schema_ref"), what: "a schema that refers to another document" },
    Rule {
        code: "input_kind",
        off: || weaken::off("policy.input_kind"),
        what: "an input item of another kind: references to stored items, calls of hosted tools",
    },
    Rule { code: "input_key", off: || weaken::off("policy.input_key"), what: "an unknown key of an input item" },
    Rule { code: "hosted_call", off: || weaken::off("policy.hosted_call"), what: "a call in the input that says it was run by the provider" },
    Rule {
        code: "content_kind",
        off: || weaken::off("policy.content_kind"),
        what: "a content part of another kind: files, audio, whatever is fetched",
    },
    Rule { code: "content_key", off: || weaken::off("policy.content_key"), what: "an unknown key of a content part: file ids" },
    Rule { code: "remote_content", off: || weaken::off("policy.remote_content"), what: "an image that is not given as data" },
    Rule { code: "sealed", off: || weaken::off("policy.sealed"), what: "reasoning that this job's own answers did not hold" },
];

/// The one way to refuse a request.
pub fn refuse(code: &'static str, message: impl Into<String>) -> Result<(), Refusal> {
    let rule = RULES.iter().find(|rule| rule.code == code);
    if rule.is_some_and(|rule| (rule.off)()) {
        return Ok(());
    }
    tracing::debug!(code, keeps_out = rule.map(|rule| rule.what), "a request is refused");
    Err(Refusal { code, message: message.into() })
}

/// A job's word, short and plain enough for a message.
pub fn shown(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(40).collect()
}
