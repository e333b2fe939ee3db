//! What a provider refuses or fails at: the right code, when to try again, and the work that was done before.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::{User, ended};
use crate::support::provider::{Provider, Reply};

fn partial() -> Reply {
    Reply::shell("echo partial > p")
}

#[test]
fn a_used_up_quota_says_when_it_resets() {
    let reset = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs() + 7200;
    let error = json!({"type": "usage_limit_reached", "message": "limit", "resets_at": reset});
    let provider = Provider::start(vec![partial(), Reply::error(429, &[], &error)]);
    let user = User::of(&provider);
    let run = user.delegate();
    ended(&user, &run, "codex_rate_limited", 4, true);
    assert_eq!(provider.seen().len(), 2, "Codex stops at once");
    let error = &run.json["error"];
    let at = jiff::Timestamp::from_second(reset.try_into().expect("a time")).expect("a time").to_string();
    assert!(error["message"].as_str().is_some_and(|m| m.contains(&at) && m.contains("limit")), "{error:#}");
    assert!(error["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0 && ms <= 7_200_000), "{error:#}");
    assert_eq!(run.json["provider_error"]["resets_at"], reset, "{:#}", run.json);
}

#[test]
fn a_rate_limit_says_how_long_to_wait() {
    let error = json!({"type": "tokens", "code": "rate_limit_exceeded", "message": "Rate limit reached for org-SECRET"});
    let provider = Provider::start(vec![partial(), Reply::error(429, &[("Retry-After", "3600")], &error)]);
    let user = User::of(&provider);
    let run = user.delegate();
    ended(&user, &run, "codex_rate_limited", 4, true);
    let error = &run.json["error"];
    assert!(error["message"].as_str().is_some_and(|m| m.contains("rate") && m.contains("after 3600 s")), "{error:#}");
    assert_eq!(error["retry_after_ms"], 3_600_000, "{error:#}");
    assert!(!run.text.contains("org-SECRET"), "{}", run.text);
}

#[test]
fn a_moment_of_congestion_is_waited_for() {
    let error = json!({"type": "tokens", "code": "rate_limit_exceeded", "message": "try again in 1s"});
    let provider = Provider::start(vec![partial(), Reply::error(429, &[("Retry-After", "1")], &error), Reply::say("done")]);
    let user = User::of(&provider);
    let run = user.delegate();
    assert_eq!((run.code, &run.json["state"]), (0, &"completed".into()), "{}", run.text);
}

#[test]
fn a_provider_that_fails_for_ever_ends_the_job_with_what_was_done() {
    let provider = Provider::start(vec![partial(), Reply::error(500, &[], &json!({"message": "SECRET inner words"}))]);
    let user = User::of(&provider);
    let run = user.delegate();
    ended(&user, &run, "nonzero_exit", 5, true);
    assert_eq!(run.json["provider_error"]["kind"], "server_error", "{:#}", run.json);
    assert!(!run.text.contains("SECRET"), "{}", run.text);
}

#[test]
fn a_provider_that_never_answers_a_first_time_ends_the_job_early() {
    let provider = Provider::start(vec![Reply::Hang]);
    let mut user = User::of(&provider);
    user.env.set("ANCHORHOLD_MODEL_UNREACHABLE_SECONDS", "8");
    let run = user.delegate();
    ended(&user, &run, "provider_unreachable", 4, false);
    assert_eq!(run.json["reason"], "provider_unreachable");
    assert_eq!(provider.seen().len(), 1, "it took the request");
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Provider::start(vec![Reply::say("from elsewhere")]);
    let target = elsewhere.url("/v1/responses");
    let redirect = |status| Reply::Status(status, vec![("Location".to_owned(), target.clone())], String::new());
    let provider = Provider::start(vec![redirect(307), redirect(308), redirect(302)]);
    let mut user = User::of(&provider);
    user.env.set("ANCHORHOLD_MODEL_UNREACHABLE_SECONDS", "8");
    let run = user.delegate();
    ended(&user, &run, "provider_unreachable", 4, false);
    assert!(!provider.seen().is_empty(), "it was asked");
    assert!(elsewhere.seen().is_empty(), "the key went elsewhere");
    assert!(run.json["error"]["message"].as_str().is_some_and(|m| m.contains("redirect")), "{:#}", run.json);
    assert!(!run.text.contains(&target), "{}", run.text);
}
