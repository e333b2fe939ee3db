//! G11: more than the budget. The provider here is honest: it makes no more than `max_output_tokens`, and counts what each request cost it, whether or
//! not anybody read the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::found;
use super::provider::{self, Arrived, completed, created, delta};
use super::rig::{Job, Rig, Terms, good, post, with};
use crate::case::Verdict;

/// Tokens that an answer has where nothing bounds it.
const LONG: u64 = 4000;

/// What a request costs: its text, and as many tokens of output as it may have.
fn cost(request: &Arrived) -> (u64, u64) {
    let output = request.json()["max_output_tokens"].as_u64().unwrap_or(u64::MAX).min(LONG);
    (request.body.len() as u64 / 4, output)
}

/// A job with this budget whose provider does so with each answer, and what it has cost so far.
fn spender(
    rig: &Rig,
    budget: u64,
    how: impl Fn(&mut std::net::TcpStream, u64, u64) -> std::io::Result<bool> + Send + Sync + 'static,
) -> (Job, Arc<AtomicU64>) {
    let spent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&spent);
    let job = rig.job_answered(&Terms { budget, ..Terms::default() }, move |_, request, stream| {
        let (input, output) = cost(request);
        counted.fetch_add(input + output, Ordering::SeqCst);
        how(stream, input, output)
    });
    (job, spent)
}

/// Spends until nothing arrives any more, or this often; what it cost.
fn overspent(rig: &Rig, job: &Job, spent: &AtomicU64, budget: u64, times: usize, body: &Value) -> Verdict {
    let mut last = 0;
    for _ in 0..times {
        rig.ask(job, body);
        let now = rig.arrived(job).len();
        if now == last {
            break;
        }
        last = now;
    }
    let spent = spent.load(Ordering::SeqCst);
    assert!(last > 0, "the first request is within the budget");
    Verdict::of(spent > budget, format!("{spent} tokens spent of {budget}, in {last} requests"))
}

/// Ten at once on a budget for one.
pub fn parallel(rig: &Rig) -> Verdict {
    let budget = LONG + 200;
    let (job, spent) = spender(rig, budget, |stream, input, output| {
        provider::stream_head(stream, "")?;
        provider::chunk(stream, &created())?;
        // Long enough for all ten to be there at once.
        std::thread::sleep(Duration::from_millis(300));
        provider::chunk(stream, &completed(input, output))?;
        std::io::Write::write_all(stream, b"0\r\n\r\n").map(|()| true)
    });
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| rig.ask(&job, &good()));
        }
    });
    let (arrived, spent) = (rig.arrived(&job).len(), spent.load(Ordering::SeqCst));
    assert!(arrived > 0, "one of ten is within the budget");
    Verdict::of(spent > budget, format!("{spent} tokens spent of {budget}, in {arrived} requests"))
}

/// One after the other: the last one may not go over either.
pub fn overshoot(rig: &Rig) -> Verdict {
    let budget = LONG * 2 + 500;
    let (job, spent) =
        spender(rig, budget, |stream, input, output| provider::answer(stream, &(created() + &completed(input, output))).map(|()| true));
    overspent(rig, &job, &spent, budget, 8, &good())
}

/// Asks for more output than there is budget.
pub fn huge_output(rig: &Rig) -> Verdict {
    let budget = 1000;
    for asked in [json!(1 << 20), json!(1_000_000), json!(null)] {
        let (job, spent) =
            spender(rig, budget, |stream, input, output| provider::answer(stream, &(created() + &completed(input, output))).map(|()| true));
        rig.ask(&job, &if asked.is_null() { good() } else { with("max_output_tokens", asked.clone()) });
        let spent = spent.load(Ordering::SeqCst);
        if spent > budget {
            return Verdict::Breached(format!("{asked}: {spent} tokens spent of {budget} by one request"));
        }
    }
    Verdict::Blocked("one request cannot be allowed more than the budget".into())
}

/// More text than there is budget.
pub fn large_input(rig: &Rig) -> Verdict {
    let budget = 2000;
    let (job, spent) =
        spender(rig, budget, |stream, input, output| provider::answer(stream, &(created() + &completed(input, output))).map(|()| true));
    rig.ask(&job, &with("input", "many words and more words ".repeat(2000)));
    rig.ask(&job, &with("instructions", "many words and more words ".repeat(2000)));
    let spent = spent.load(Ordering::SeqCst);
    found((spent > budget).then(|| format!("{spent} tokens spent of {budget} by the text alone")), "a text beyond the budget is not sent")
}

/// The gateway dies in the middle of an answer: what was sent is charged all the same.
pub fn crashes(rig: &Rig) -> Verdict {
    let budget = LONG * 2 + 500;
    let (mut job, spent) = spender(rig, budget, |stream, _, _| {
        provider::stream_head(stream, "")?;
        provider::chunk(stream, &(created() + &delta("planted")))?;
        provider::until_gone(stream, Duration::from_secs(5));
        Ok(false)
    });
    for _ in 0..5 {
        let before = rig.arrived(&job).len();
        let mut conn = rig.open(&job);
        conn.send(&post(good().to_string().as_bytes()));
        if !wait_within(Duration::from_secs(1), || rig.arrived(&job).len() > before) {
            break;
        }
        rig.crash();
        rig.take_slot(&mut job);
    }
    let (arrived, spent) = (rig.arrived(&job).len(), spent.load(Ordering::SeqCst));
    assert!(arrived > 0, "the first request is within the budget");
    Verdict::of(spent > budget, format!("{spent} tokens spent of {budget}, in {arrived} requests that a crash ended"))
}

/// More requests than a job may make.
pub fn requests(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms { further: json!({"bounds": {"requests": 5, "denials": 20, "output_tokens": 1000}}), ..Terms::default() });
    for _ in 0..9 {
        rig.ask(&job, &good());
    }
    let arrived = rig.arrived(&job).len();
    assert!(arrived > 0, "the first request is served");
    Verdict::of(arrived > 5, format!("{arrived} requests of 9 arrived where 5 are allowed"))
}

/// Goes on trying after many refusals.
pub fn denials(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms { further: json!({"bounds": {"requests": 0, "denials": 6, "output_tokens": 1000}}), ..Terms::default() });
    rig.must_serve(&job);
    for _ in 0..9 {
        rig.ask(&job, &with("planted", 1));
    }
    let before = rig.arrived(&job).len();
    rig.ask(&job, &good());
    Verdict::of(rig.arrived(&job).len() > before, "after nine refusals, where six are allowed, a good request")
}

/// All jobs together go over the day's tokens.
pub fn day_tokens(rig: &Rig) -> Verdict {
    let day = LONG * 2 + 500;
    let terms = Terms { further: json!({"ceilings": {"tokens_per_day": day, "requests": 64, "connections": 1024}}), ..Terms::default() };
    let spent = Arc::new(AtomicU64::new(0));
    let mut arrived = 0;
    for _ in 0..5 {
        let counted = Arc::clone(&spent);
        let job = rig.job_answered(&terms, move |_, request, stream| {
            let (input, output) = cost(request);
            counted.fetch_add(input + output, Ordering::SeqCst);
            provider::answer(stream, &(created() + &completed(input, output))).map(|()| true)
        });
        rig.ask(&job, &good());
        arrived += rig.arrived(&job).len();
    }
    let spent = spent.load(Ordering::SeqCst);
    assert!(arrived > 0, "the first request is within the day's tokens");
    Verdict::of(spent > day, format!("{spent} tokens spent of the day's {day}, in {arrived} requests of 5 jobs"))
}

/// All jobs together have more under way than the gateway may.
pub fn under_way(rig: &Rig) -> Verdict {
    let terms = Terms { further: json!({"ceilings": {"tokens_per_day": 0, "requests": 2, "connections": 1024}}), ..Terms::default() };
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let jobs: Vec<Job> = (0..5)
        .map(|_| {
            let (here, high) = (Arc::clone(&now), Arc::clone(&most));
            rig.job_answered(&terms, move |_, _, stream| {
                high.fetch_max(here.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                provider::until_gone(stream, Duration::from_millis(1000));
                here.fetch_sub(1, Ordering::SeqCst);
                provider::say(stream, "done").map(|()| true)
            })
        })
        .collect();
    let conns: Vec<_> = jobs
        .iter()
        .map(|job| {
            let mut conn = rig.open(job);
            conn.send(&post(good().to_string().as_bytes()));
            conn
        })
        .collect();
    wait_within(Duration::from_millis(900), || most.load(Ordering::SeqCst) > 2);
    drop(conns);
    let most = most.load(Ordering::SeqCst);
    assert!(most > 0, "none arrived");
    Verdict::of(most > 2, format!("at most {most} requests of five jobs at once, where two are allowed"))
}

/// Leaves in the middle of each answer, so that the provider never says what it cost.
pub fn aborts(rig: &Rig) -> Verdict {
    let budget = LONG * 2 + 500;
    let (job, spent) = spender(rig, budget, |stream, _, _| {
        provider::stream_head(stream, "")?;
        provider::chunk(stream, &(created() + &delta("planted")))?;
        provider::until_gone(stream, Duration::from_secs(5));
        Ok(false)
    });
    let mut last = 0;
    for _ in 0..8 {
        let mut conn = rig.open(&job);
        conn.send(&post(good().to_string().as_bytes()));
        conn.until("planted", Duration::from_secs(5));
        drop(conn);
        let now = rig.arrived(&job).len();
        if now == last {
            break;
        }
        last = now;
        wait_for(|| rig.requests_of(&job).len() >= now);
    }
    let spent = spent.load(Ordering::SeqCst);
    assert!(last > 0, "the first request is within the budget");
    Verdict::of(spent > budget, format!("{spent} tokens spent of {budget}, in {last} requests left in the middle"))
}

/// Leaves before the answer begins.
pub fn early_aborts(rig: &Rig) -> Verdict {
    let budget = LONG * 2 + 500;
    let (job, spent) = spender(rig, budget, |stream, _, _| {
        provider::until_gone(stream, Duration::from_secs(5));
        Ok(false)
    });
    let mut last = 0;
    for _ in 0..8 {
        let mut conn = rig.open(&job);
        conn.send(&post(good().to_string().as_bytes()));
        wait_within(Duration::from_millis(500), || rig.arrived(&job).len() > last);
        drop(conn);
        let now = rig.arrived(&job).len();
        if now == last {
            break;
        }
        last = now;
        wait_for(|| rig.requests_of(&job).len() >= now);
    }
    let spent = spent.load(Ordering::SeqCst);
    assert!(last > 0, "the first request is within the budget");
    Verdict::of(spent > budget, format!("{spent} tokens spent of {budget}, in {last} requests left before the answer"))
}

/// The answer ends without a count, or with one that is none.
pub fn usage_omitted(rig: &Rig) -> Verdict {
    let usages = [
        json!(null),
        json!({}),
        json!({"input_tokens": 1}),
        json!({"input_tokens": -5, "output_tokens": -5}),
        json!({"input_tokens": "1", "output_tokens": "1"}),
        json!([1, 1]),
    ];
    for usage in usages {
        let budget = LONG * 2 + 500;
        let told = usage.clone();
        let (job, spent) = spender(rig, budget, move |stream, _, _| {
            let end = provider::event(&json!({"type": "response.completed", "response": {"id": "r", "usage": told}}));
            provider::answer(stream, &(created() + &delta("x") + &end)).map(|()| true)
        });
        let verdict = overspent(rig, &job, &spent, budget, 8, &good());
        if verdict.breached() {
            return Verdict::Breached(format!("usage {usage}: {}", verdict.detail()));
        }
    }
    Verdict::Blocked("6 kinds of missing count were charged in full".into())
}

/// The stream breaks off, or fails, before the count.
pub fn cut_answers(rig: &Rig) -> Verdict {
    let ends = ["", "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"server_error\"}}}\n\n", "garbage\n\n"];
    for end in ends {
        let budget = LONG * 2 + 500;
        let (job, spent) = spender(rig, budget, move |stream, _, _| provider::answer(stream, &(created() + &delta("x") + end)).map(|()| true));
        let verdict = overspent(rig, &job, &spent, budget, 8, &good());
        if verdict.breached() {
            return Verdict::Breached(format!("end {end:?}: {}", verdict.detail()));
        }
    }
    Verdict::Blocked("3 kinds of broken answer were charged in full".into())
}

/// More at once than a job may have under way.
pub fn in_flight(rig: &Rig) -> Verdict {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (here, high) = (Arc::clone(&now), Arc::clone(&most));
    let job = rig.job_answered(&Terms::default(), move |_, _, stream| {
        high.fetch_max(here.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        provider::until_gone(stream, Duration::from_millis(1200));
        here.fetch_sub(1, Ordering::SeqCst);
        provider::say(stream, "done").map(|()| true)
    });
    let conns: Vec<_> = (0..12)
        .map(|_| {
            let mut conn = rig.open(&job);
            conn.send(&post(good().to_string().as_bytes()));
            conn
        })
        .collect();
    wait_within(Duration::from_millis(1000), || most.load(Ordering::SeqCst) > 4);
    drop(conns);
    let most = most.load(Ordering::SeqCst);
    assert!(most > 0, "none arrived");
    found((most > 4).then(|| format!("{most} requests of one job at the provider at once")), format!("at most {most} of 12 at once"))
}

/// Waits until something is so; who has no patience left has failed.
pub fn wait_for(so: impl Fn() -> bool) {
    assert!(wait_within(super::rig::PATIENCE, so), "it never came");
}

/// Waits until something is so, at most this long; whether it is.
pub fn wait_within(at_most: Duration, so: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < at_most {
        if so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    so()
}
