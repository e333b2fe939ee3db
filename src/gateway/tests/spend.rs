//! Budgets and ceilings over the real socket, with a provider that counts.

use super::model::ClosedOrFull as _;
use super::*;
use crate::protocol::admin::{Ceilings, JobBounds};
use crate::protocol::connection::StopCode;

async fn ready(budget: u64) -> (Gateway, Provider, BufReader<UnixStream>) {
    let (gateway, provider) = (Gateway::start().await, Provider::start().await);
    gateway.admit(1, &provider.upstream, |a| a.token_budget = budget).await;
    let slot = gateway.slot(1).await;
    (gateway, provider, slot)
}

async fn begin(gateway: &Gateway, n: u8) -> BufReader<UnixStream> {
    let mut stream = gateway.open(n, Channel::Model, false).await;
    send(&mut stream, &post(&question().to_string())).await;
    stream
}

/// What the request may have for its answer.
fn granted(asked: &Asked) -> u64 {
    asked.body["max_output_tokens"].as_u64().unwrap()
}

async fn finish(asked: Asked, stream: &mut BufReader<UnixStream>, input: u64, output: u64) {
    asked.begin().await;
    asked.complete(input, output).await;
    drop(asked);
    assert!(reply(stream).await.whole);
}

/// All messages until this one.
async fn told_of(slot: &mut BufReader<UnixStream>, wanted: &SlotMessage) {
    while told(slot).await != *wanted {}
}

#[tokio::test]
async fn ten_at_once_on_a_budget_for_one_spend_one() {
    let (gateway, mut provider, mut slot) = ready(1000).await;
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(begin(&gateway, 1).await);
    }
    let asked = provider.asked().await;
    // None of the others comes while the first may still spend everything.
    assert!(tokio::time::timeout(Duration::from_millis(200), provider.requests.recv()).await.is_err());
    let account = gateway.account(1).await;
    assert_eq!((account.reserved_tokens, account.charged_tokens), (1000, 0));
    // The provider makes all of what it may.
    let output = granted(&asked);
    assert!(output < 1000);
    asked.begin().await;
    asked.complete(1000 - output, output).await;
    drop(asked);
    let (mut whole, mut refused) = (0, 0);
    for stream in &mut streams {
        let reply = reply(stream).await;
        whole += usize::from(reply.whole && reply.status == 200);
        refused += usize::from(reply.status == 400 && reply.body.contains("token_budget"));
    }
    assert_eq!((whole, refused), (1, 9));
    assert!(provider.requests.try_recv().is_err());
    told_of(&mut slot, &SlotMessage::TokenBudget).await;
    let account = gateway.account(1).await;
    assert_eq!((account.usage.total(), account.reserved_tokens, account.stopped), (1000, 0, Some(StopCode::TokenBudget)));
    gateway.end().await;
}

#[tokio::test]
async fn what_waits_goes_on_when_enough_is_left_and_less_is_granted() {
    let (gateway, mut provider, _slot) = ready(2000).await;
    let mut first = begin(&gateway, 1).await;
    let asked = provider.asked().await;
    let full = granted(&asked);
    let mut second = begin(&gateway, 1).await;
    finish(asked, &mut first, 50, 100).await;
    let asked = provider.asked().await;
    // The same input is known to have 50 tokens, so nothing is taken for more.
    assert_eq!(granted(&asked), 2000 - 150 - 50);
    assert!(full < 1950);
    finish(asked, &mut second, 50, 1790).await;
    // Ten are left: the input alone has more.
    assert_eq!(gateway.post(1, &question()).await.status, 400);
    assert!(provider.requests.try_recv().is_err());
    gateway.end().await;
}

#[tokio::test]
async fn the_smallest_of_what_is_asked_capped_and_left_is_granted() {
    let (gateway, mut provider, _slot) = ready(100_000).await;
    let mut asks = question();
    asks["max_output_tokens"] = json!(77);
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, &post(&asks.to_string())).await;
    let asked = provider.asked().await;
    assert_eq!(granted(&asked), 77);
    finish(asked, &mut stream, 10, 77).await;
    gateway
        .admit(1, &provider.upstream, |a| {
            a.token_budget = 100_000;
            a.bounds.output_tokens = 500;
        })
        .await;
    let mut stream = begin(&gateway, 1).await;
    let asked = provider.asked().await;
    assert_eq!(granted(&asked), 500);
    finish(asked, &mut stream, 10, 77).await;
    // Without a budget nothing is added.
    gateway.admit(1, &provider.upstream, |_| {}).await;
    let mut stream = begin(&gateway, 1).await;
    let asked = provider.asked().await;
    assert_eq!(asked.body.get("max_output_tokens"), None);
    finish(asked, &mut stream, 10, 77).await;
    gateway.end().await;
}

#[tokio::test]
async fn an_answer_that_nobody_counts_is_charged_in_full() {
    for end in ["left", "cut", "garbage", "no usage", "failed"] {
        let (gateway, mut provider, _slot) = ready(5000).await;
        gateway
            .admit(1, &provider.upstream, |a| {
                a.token_budget = 5000;
                a.bounds.output_tokens = 4000;
            })
            .await;
        let mut stream = begin(&gateway, 1).await;
        let asked = provider.asked().await;
        asked.begin().await;
        asked.event(&json!({"type": "response.output_text.delta", "delta": "x"})).await;
        match end {
            "left" => {
                head(&mut stream).await;
                drop(stream);
                soon(asked.answer.closed_or_full()).await;
            }
            "cut" => {
                drop(asked);
                assert!(!reply(&mut stream).await.whole);
            }
            "garbage" => {
                asked.say("9\r\nnonsense\n\r\n2\r\n\n\n\r\n").await;
                assert!(!reply(&mut stream).await.whole);
            }
            "no usage" => {
                asked.event(&json!({"type": "response.completed", "response": {"id": "r"}})).await;
                reply(&mut stream).await;
            }
            _ => {
                asked.event(&json!({"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded"}}})).await;
                reply(&mut stream).await;
            }
        }
        let charged = gateway.account(1).await.charged_tokens;
        assert!((4000..5000).contains(&charged), "{end}: {charged}");
        // What is left is not enough for another one of that length, only for a shorter one.
        let _second = begin(&gateway, 1).await;
        let asked = provider.asked().await;
        assert!(granted(&asked) + charged < 5000, "{end}");
        gateway.end().await;
    }
}

#[tokio::test]
async fn what_the_provider_never_worked_on_costs_nothing() {
    let (gateway, mut provider, _slot) = ready(1000).await;
    for (status, code) in [(429, "rate_limit_exceeded"), (401, "invalid_api_key"), (503, "server_is_overloaded"), (307, "")] {
        let mut stream = begin(&gateway, 1).await;
        provider.asked().await.status(status, "", &json!({"error": {"code": code}})).await;
        reply(&mut stream).await;
    }
    let mut stream = begin(&gateway, 1).await;
    let asked = provider.asked().await;
    asked.begin().await;
    asked.event(&json!({"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded"}}})).await;
    reply(&mut stream).await;
    gateway
        .admit(1, &Upstream::Http { base_url: "http://127.0.0.1:1".to_owned(), authorities: None }, |a| {
            a.token_budget = 1000;
        })
        .await;
    assert_eq!(gateway.post(1, &question()).await.status, 503);
    let account = gateway.account(1).await;
    assert_eq!((account.charged_tokens, account.reserved_tokens), (0, 0));
    gateway.end().await;
}

#[tokio::test]
async fn a_first_request_as_codex_sends_it_fits_a_budget_of_twice_its_tokens() {
    // 56 kB of words and code, some 13 000 tokens.
    let text = "fn main() { let total = items.iter().sum(); } // adds all of them up, and returns the result\n".repeat(600);
    let mut request = question();
    request["instructions"] = json!(text);
    let (gateway, mut provider, _slot) = ready(40_000).await;
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, &post(&request.to_string())).await;
    let asked = provider.asked().await;
    assert!(granted(&asked) > 1000 && gateway.account(1).await.reserved_tokens == 40_000);
    finish(asked, &mut stream, 13_000, 1_000).await;
    // The next one is only a little longer, and that is known.
    request["input"].as_array_mut().unwrap().push(question()["input"][0].clone());
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, &post(&request.to_string())).await;
    let asked = provider.asked().await;
    assert!((12_500..13_000).contains(&granted(&asked)), "{}", granted(&asked));
    gateway.end().await;
}

#[tokio::test]
async fn refusals_and_requests_beyond_their_ceiling_end_the_job() {
    let gateway = Gateway::start().await;
    let mut provider = Provider::start().await;
    gateway.admit(1, &provider.upstream, |a| a.bounds = JobBounds { denials: 3, ..JobBounds::default() }).await;
    let mut slot = gateway.slot(1).await;
    for _ in 0..3 {
        assert_eq!(gateway.post(1, &json!({"model": "m", "input": "x", "background": true})).await.status, 400);
    }
    assert_eq!(gateway.account(1).await.stopped, None);
    assert_eq!(gateway.post(1, &json!([])).await.status, 400);
    let stopped = SlotMessage::Stopped { code: StopCode::Denials, message: StopCode::Denials.message().to_owned() };
    told_of(&mut slot, &stopped).await;
    let refused = gateway.post(1, &question()).await;
    assert_eq!((refused.status, refused.body.contains("job_stopped")), (400, true));
    // An `init` that comes back is told again.
    drop(slot);
    let mut slot = gateway.open(1, Channel::Slot, true).await;
    told_of(&mut slot, &stopped).await;

    gateway.admit(2, &provider.upstream, |a| a.bounds = JobBounds { requests: 1, ..JobBounds::default() }).await;
    let mut slot = gateway.slot(2).await;
    let mut stream = begin(&gateway, 2).await;
    let asked = provider.asked().await;
    finish(asked, &mut stream, 1, 1).await;
    assert_eq!(gateway.post(2, &question()).await.status, 400);
    told_of(&mut slot, &SlotMessage::Stopped { code: StopCode::Requests, message: StopCode::Requests.message().to_owned() }).await;
    assert!(provider.requests.try_recv().is_err());
    gateway.end().await;
}

#[tokio::test]
async fn the_days_tokens_are_counted_over_all_jobs_and_a_restart() {
    let mut gateway = Gateway::start().await;
    let mut provider = Provider::start().await;
    for n in 1..=3 {
        gateway.admit(n, &provider.upstream, |a| a.ceilings = Ceilings { tokens_per_day: 2000, ..Ceilings::default() }).await;
    }
    let (_first, mut second) = (gateway.slot(1).await, gateway.slot(2).await);
    let mut stream = begin(&gateway, 1).await;
    let asked = provider.asked().await;
    let status = gateway.admin(&AdminRequest::Status).await;
    assert!(matches!(status, AdminResponse::Status { under_way: 1, tokens_today: 2000, .. }), "{status:?}");
    // Another job waits for what the first one leaves.
    let mut other = begin(&gateway, 2).await;
    assert!(tokio::time::timeout(Duration::from_millis(100), provider.requests.recv()).await.is_err());
    finish(asked, &mut stream, 500, 500).await;
    let asked = provider.asked().await;
    assert!(granted(&asked) < 1000);
    finish(asked, &mut other, 500, 500).await;
    assert_eq!(gateway.post(2, &question()).await.status, 400);
    told_of(&mut second, &SlotMessage::Stopped { code: StopCode::DayTokens, message: StopCode::DayTokens.message().to_owned() }).await;
    gateway.end().await;
    gateway.run().await;
    let _third = gateway.slot(3).await;
    assert_eq!(gateway.post(3, &question()).await.status, 400);
    assert!(provider.requests.try_recv().is_err());
    gateway.end().await;
}

#[tokio::test]
async fn requests_under_way_are_bounded_over_all_jobs() {
    let gateway = Gateway::start().await;
    let mut provider = Provider::start().await;
    for n in 1..=2 {
        gateway.admit(n, &provider.upstream, |a| a.ceilings = Ceilings { requests: 1, ..Ceilings::default() }).await;
    }
    let (_first, _second) = (gateway.slot(1).await, gateway.slot(2).await);
    let mut stream = begin(&gateway, 1).await;
    let asked = provider.asked().await;
    let busy = gateway.post(2, &question()).await;
    assert_eq!((busy.status, busy.body.contains("busy")), (503, true));
    finish(asked, &mut stream, 1, 1).await;
    let mut stream = begin(&gateway, 2).await;
    let asked = provider.asked().await;
    finish(asked, &mut stream, 1, 1).await;
    gateway.end().await;
}

/// What a gateway finds that starts on the files as they are now, as after a kill: tokens charged and tokens set aside.
fn found_by_the_next(gateway: &Gateway) -> (u64, u64) {
    fn copy(from: &std::path::Path, to: &std::path::Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                copy(&entry.path(), &to.join(entry.file_name()));
            } else if kind.is_file() {
                std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    copy(&gateway.places.state, directory.path());
    let once = super::registry::Registry::open(directory.path(), Duration::ZERO).unwrap().account(&job(1)).unwrap();
    // One that dies again at once finds the same.
    let twice = super::registry::Registry::open(directory.path(), Duration::ZERO).unwrap().account(&job(1)).unwrap();
    assert_eq!((once.charged_tokens, once.reserved_tokens), (twice.charged_tokens, twice.reserved_tokens));
    (once.charged_tokens, once.reserved_tokens)
}

#[tokio::test]
async fn a_gateway_that_dies_charges_what_had_left_and_nothing_else() {
    // It takes the connection and never says a word of TLS: nothing of the request can leave.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("https://127.0.0.1:{}/v1", mute.local_addr().unwrap().port());
    let (gateway, mut provider, _slot) = ready(1000).await;
    gateway.admit(1, &Upstream::Http { base_url, authorities: None }, |a| a.token_budget = 1000).await;
    let stream = begin(&gateway, 1).await;
    let held = soon(mute.accept()).await.unwrap();
    assert_eq!(gateway.account(1).await.reserved_tokens, 1000);
    assert_eq!(found_by_the_next(&gateway), (0, 0));
    drop((stream, held));

    gateway.admit(1, &provider.upstream, |a| a.token_budget = 1000).await;
    let mut stream = begin(&gateway, 1).await;
    let asked = provider.asked().await;
    let reserved = gateway.account(1).await.reserved_tokens;
    assert_eq!(found_by_the_next(&gateway), (reserved, 0));
    finish(asked, &mut stream, 40, 2).await;
    assert_eq!(found_by_the_next(&gateway), (42, 0));
    gateway.end().await;
}

#[tokio::test]
async fn a_provider_that_goes_silent_twice_in_a_row_is_not_asked_again() {
    let (gateway, mut provider, _slot) = ready(0).await;
    gateway.admit(1, &provider.upstream, |a| a.bounds = JobBounds { answer_seconds: 1, idle_seconds: 1, ..JobBounds::default() }).await;
    // Silent before the head, then answering, which counts anew.
    let mut stream = begin(&gateway, 1).await;
    let asked = provider.asked().await;
    assert_eq!(reply(&mut stream).await.status, 503);
    drop(asked);
    let mut stream = begin(&gateway, 1).await;
    let asked = provider.asked().await;
    finish(asked, &mut stream, 1, 1).await;
    for _ in 0..2 {
        let mut stream = begin(&gateway, 1).await;
        let asked = provider.asked().await;
        asked.begin().await;
        let reply = reply(&mut stream).await;
        assert_eq!((reply.status, reply.whole), (200, false));
        assert_eq!(gateway.account(1).await.last_error.unwrap().kind, "unreachable");
    }
    let refused = gateway.post(1, &question()).await;
    assert_eq!((refused.status, refused.body.contains("provider_silent")), (400, true));
    assert!(provider.requests.try_recv().is_err());
    gateway.end().await;
}

#[tokio::test]
async fn a_slot_hears_that_the_gateway_lives() {
    let (gateway, _provider, mut slot) = ready(0).await;
    told_of(&mut slot, &SlotMessage::Alive).await;
    told_of(&mut slot, &SlotMessage::Alive).await;
    gateway.end().await;
}
