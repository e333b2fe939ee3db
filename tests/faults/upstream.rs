//! The provider fails in every way that a service on HTTP can: at the first request, and after the agent has changed files.
//!
//! It is a real service on loopback, which counts what it saw; so what the job was charged can be held against that.

use serde_json::{Value, json};

use crate::account;
use crate::case::{Case, Row};
use crate::support::provider::{Provider, Reply, Seen, USAGE};
use crate::world::{Expected, RAN, World, job_id};

/// Tokens of one answer of the provider.
pub const ANSWER: u64 = USAGE.0 + USAGE.1;
/// The provider's own words, which nobody may see: they could hold anything.
const WORDS: &str = "SECRET provider words";

/// A world with a gateway that reaches loopback.
pub fn world(further: &[(&str, &str)], weakened: bool) -> World {
    let mut variables = vec![
        ("ANCHORHOLD_GATEWAY_NETWORK", "host"),
        ("ANCHORHOLD_MODEL_DEFAULT_MODEL", "scripted"),
        ("OPENAI_API_KEY", "sk-test-0123456789abcdef"),
        ("ANCHORHOLD_MODEL_UNREACHABLE_SECONDS", "20"),
    ];
    variables.extend(further);
    if weakened { World::with(&variables) } else { World::product_with(&variables) }
}

/// What the script does at a step, as [`crate::world::quick_task`] does it.
pub fn script(seen: &Seen) -> Reply {
    match seen.step() {
        0 => Reply::shell(&format!("echo {RAN} >>once.txt")),
        1 => Reply::shell("echo done >done.txt"),
        _ => Reply::say("done"),
    }
}

/// Starts a job at this provider with a token budget, so that every token is accounted for.
pub fn detach(world: &World, url: &str) -> String {
    let arguments = ["delegate", "--detach", "--json", "--", "do it"];
    let (code, out, err) = world.run(&arguments, &[("ANCHORHOLD_MODEL_UPSTREAM", url), ("ANCHORHOLD_LIMITS_TOKENS", "400000")]);
    assert_eq!(code, Some(0), "{out}{err}");
    job_id(&out)
}

/// What one fault does.
struct Fault {
    /// The reply in place of the script's, at the k-th time it is asked for (from 0); `None`: the script's.
    reply: fn(usize) -> Option<Reply>,
    /// Nobody listens at all.
    nobody: bool,
    expected: Expected,
    /// The code of the result's error; empty: none.
    code: &'static str,
    /// Stands in the error's message or in the job's detail.
    says: &'static str,
    /// Requests that the provider answered without saying what they cost.
    uncounted: bool,
}

const DONE: Expected = Expected { states: &["completed"], reasons: &["completed"], patches: &["whole"] };
const FAILED: Expected = Expected { states: &["failed"], reasons: &["failed"], patches: &["partial", "empty"] };
const UNREACHABLE: Expected = Expected { states: &["failed"], reasons: &["provider_unreachable"], patches: &["partial", "empty"] };

const PLAIN: Fault = Fault { reply: |_| None, nobody: false, expected: DONE, code: "", says: "", uncounted: false };

#[rustfmt::skip]
const FAULTS: [(&str, &str, Fault); 15] = [
    ("refuses", "provider refuses connections", Fault { nobody: true, expected: UNREACHABLE, code: "provider_unreachable", says: "refuses connections", ..PLAIN }),
    ("hangs", "provider hangs before the head", Fault { reply: |_| Some(Reply::Hang), expected: UNREACHABLE, code: "provider_unreachable", says: "", uncounted: true, ..PLAIN }),
    ("stalls", "provider hangs in mid-answer", Fault { reply: |_| Some(Reply::Stall), expected: UNREACHABLE, code: "provider_unreachable", says: "middle of its answer", uncounted: true, ..PLAIN }),
    ("comments", "provider sends only comments", Fault { reply: |_| Some(Reply::Comments), expected: UNREACHABLE, code: "provider_unreachable", says: "middle of its answer", uncounted: true, ..PLAIN }),
    ("cuts", "provider cuts every answer", Fault { reply: |_| Some(Reply::Cut), expected: FAILED, code: "nonzero_exit", says: "broke", uncounted: true, ..PLAIN }),
    ("cuts_once", "provider cuts two answers", Fault { reply: |n| (n < 2).then_some(Reply::Cut), uncounted: true, ..PLAIN }),
    ("401", "401", Fault { reply: |_| Some(error(401, &[])), expected: FAILED, code: "codex_auth_required", says: "HTTP 401", ..PLAIN }),
    ("429_after", "429, retry after an hour", Fault { reply: |_| Some(error(429, &[("Retry-After", "3600")])), expected: FAILED, code: "codex_rate_limited", says: "after 3600 s", ..PLAIN }),
    ("429", "429 without a time", Fault { reply: |_| Some(error(429, &[])), expected: FAILED, code: "codex_rate_limited", says: "HTTP 429", ..PLAIN }),
    ("quota", "429, the quota is used up", Fault { reply: |_| Some(Reply::error(429, &[], &json!({"type": "insufficient_quota", "code": "insufficient_quota", "message": WORDS}))), expected: FAILED, code: "codex_rate_limited", says: "quota", ..PLAIN }),
    ("500_while", "500 three times", Fault { reply: |n| (n < 3).then(|| error(500, &[])), ..PLAIN }),
    ("500", "500 for ever", Fault { reply: |_| Some(error(500, &[])), expected: FAILED, code: "nonzero_exit", says: "HTTP 500", ..PLAIN }),
    ("garbage", "provider sends garbage as events", Fault { reply: |_| Some(Reply::Raw(Vec::new(), "data: {\"type\":\n\nnonsense\u{1b}[2J\n\n".to_owned())), expected: FAILED, code: "nonzero_exit", says: "not what the Responses API sends", uncounted: true, ..PLAIN }),
    ("web_page", "200 with a web page", Fault { reply: |_| Some(Reply::Status(200, Vec::new(), "<html>Welcome</html>".to_owned())), expected: FAILED, code: "nonzero_exit", says: "not an event stream", uncounted: true, ..PLAIN }),
    ("endless", "provider sends an event without end", Fault { reply: |_| Some(Reply::Endless), expected: FAILED, code: "nonzero_exit", says: "too large", uncounted: true, ..PLAIN }),
];

fn error(status: u16, headers: &[(&str, &str)]) -> Reply {
    Reply::error(status, headers, &json!({"message": WORDS, "type": "x", "code": "x"}))
}

const fn first<const N: usize>(id: &'static str) -> Case {
    Case { id, fault: FAULTS[N].1, step: "the first request", points: &[], run: at::<N, 0> }
}

const fn later<const N: usize>(id: &'static str) -> Case {
    Case { id, fault: FAULTS[N].1, step: "after a change of a file", points: &[], run: at::<N, 1> }
}

pub const CASES: &[Case] = &[
    first::<0>("upstream.first.refuses"),
    first::<1>("upstream.first.hangs"),
    first::<2>("upstream.first.stalls"),
    first::<6>("upstream.first.401"),
    first::<8>("upstream.first.429"),
    first::<10>("upstream.first.500_while"),
    first::<12>("upstream.first.garbage"),
    later::<0>("upstream.later.refuses"),
    later::<1>("upstream.later.hangs"),
    later::<2>("upstream.later.stalls"),
    later::<3>("upstream.later.comments"),
    later::<4>("upstream.later.cuts"),
    later::<5>("upstream.later.cuts_once"),
    later::<6>("upstream.later.401"),
    later::<7>("upstream.later.429_after"),
    later::<8>("upstream.later.429"),
    later::<9>("upstream.later.quota"),
    later::<10>("upstream.later.500_while"),
    later::<11>("upstream.later.500"),
    later::<12>("upstream.later.garbage"),
    later::<13>("upstream.later.web_page"),
    later::<14>("upstream.later.endless"),
];

fn at<const N: usize, const STEP: usize>() -> Row {
    let (_, _, fault) = &FAULTS[N];
    let times = [("ANCHORHOLD_MODEL_ANSWER_SECONDS", "3"), ("ANCHORHOLD_MODEL_IDLE_SECONDS", "3")];
    let world = world(&times, false);
    let (reply, nobody) = (fault.reply, fault.nobody);
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let mut provider = Some(Provider::choosing(move |_, seen| {
        if nobody && seen.step() < STEP {
            // Time to close the shop.
            return Some(Reply::shell(&format!("echo {RAN} >>once.txt; sleep 3")));
        }
        if seen.step() != STEP {
            return Some(script(seen));
        }
        if nobody {
            return None;
        }
        Some(reply(asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst)).unwrap_or_else(|| script(seen)))
    }));
    let url = provider.as_ref().expect("it was just started").url("/v1");
    if nobody && STEP == 0 {
        provider = None;
    }
    let job = detach(&world, &url);
    if nobody && STEP > 0 {
        world.wait_for(&job, |status| status["answers"].as_u64().unwrap_or(0) >= 1);
        // The next request finds nobody.
        provider = None;
    }
    world.wait_for(&job, |status| status["result_available"] == true);
    let (_, out, err) = world.run(&["result", "--json", &job], &[]);
    let result: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    let code = result["error"]["code"].as_str().unwrap_or_default();
    let message = result["error"]["message"].as_str().unwrap_or_default();
    assert!(code == fault.code && message.contains(fault.says), "wanted {} and {:?}: {result:#}", fault.code, fault.says);
    assert!(!format!("{out}{err}").contains(WORDS), "the provider's own words: {out}{err}");
    if N == 7 {
        assert_eq!(result["error"]["retry_after_ms"], 3_600_000, "{result:#}");
    }
    let seen = provider.as_ref().map_or(0, |provider| provider.seen().len());
    charged_once(&world, &job, &result, seen, fault);
    account::every_slot_is_free(&world);
    account::the_chain_holds(&world);
    let mut row = world.aftermath(&job, &fault.expected);
    if STEP > 0 && row.state != "completed" {
        assert_eq!(row.patch, "partial", "what was changed before the fault");
    }
    row.note = format!("{seen} requests seen; {message}");
    row
}

/// Charged is what the provider counted, and for what it took and did not count what was set aside, once for each request that it saw.
fn charged_once(world: &World, job: &str, result: &Value, seen: usize, fault: &Fault) {
    let account = account::of_job(world, job);
    let lines: Vec<Value> = account::lines(world, job).into_iter().filter(|line| line["kind"] == "request").collect();
    let sum = |key: &str| lines.iter().map(|line| line[key].as_u64().unwrap_or(0)).sum::<u64>();
    let (counted, estimated) = (sum("input_tokens") + sum("output_tokens"), sum("estimated_tokens"));
    assert_eq!(account["charged_tokens"], counted + estimated, "{account:#} {lines:#?}");
    assert_eq!(account["reserved_tokens"], 0, "{account:#}");
    // A connection that was kept open takes one more request when nobody listens any more.
    if !fault.uncounted && (!fault.nobody || counted == 0) {
        assert_eq!(estimated, 0, "nothing was taken without a count: {lines:#?}");
    }
    if !fault.nobody {
        let uncounted = lines.iter().filter(|line| line["estimated_tokens"].as_u64() > Some(0)).count();
        let answered = lines.iter().filter(|line| line["outcome"] == "ok").count();
        assert!(uncounted + answered <= seen, "charged for {uncounted} and {answered} of {seen}: {lines:#?} {result:#}");
        assert_eq!(counted, ANSWER * answered as u64, "{lines:#?}");
    }
}
