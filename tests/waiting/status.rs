//! `codex_job_status` with `wait_seconds`.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::proxy::Proxy;
use crate::session::{LEGACY, Session, eventually, modern};
use crate::small;
use crate::support::Environment;
use crate::support::rehearsal::Step;

/// Work that goes on until it is ended from outside.
const LONG: [Step<'_>; 2] = [Step::Delay(300), Step::Say("too late")];

#[tokio::test]
async fn a_kill_ends_the_wait_and_nothing_is_polled_until_then() {
    for era in [LEGACY, modern()] {
        let mut environment = Environment::new();
        let proxy = Proxy::new(environment.path());
        environment.set("ANCHORHOLD_ENGINE_HOST", &proxy.host());
        let repository = small(&environment);
        let session = Session::open(&environment, era).await;
        let id = session.start(&repository, &LONG).await;
        session.until(&id, "running").await;
        // The sweep that follows a start is not part of the wait.
        eventually("the sweep", || proxy.requests().iter().any(|line| line.contains("/volumes?"))).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let arguments = json!({"job_id": id, "wait_seconds": 55, "since_state": "running"});
        let waiting = session.call("codex_job_status", arguments);
        let disturb = async {
            // The wait has begun once the log is followed; from then on the engine is asked nothing.
            let begun = proxy.requests().len();
            eventually("the log is followed", || {
                proxy.requests()[begun..].iter().any(|line| line.contains("/logs?") && line.contains("follow=true"))
            })
            .await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let settled = proxy.requests().len();
            tokio::time::sleep(Duration::from_secs(10)).await;
            let asked = proxy.requests().split_off(settled);
            println!("{} requests to begin the wait: {:#?}; in 10 s of waiting: {asked:?}", settled - begun, &proxy.requests()[begun..settled]);
            assert!(settled - begun <= 12 && asked.is_empty(), "a poll: {asked:?}");
            environment.docker(&["kill", &format!("anchorhold-{id}")]);
            Instant::now()
        };
        let (status, killed) = tokio::join!(waiting, disturb);
        println!("told {:?} after the kill", killed.elapsed());
        // It died unsealed, so it is sealed; whoever asks then finds the end.
        assert_ne!(status["state"], "running");
        assert!(killed.elapsed() < Duration::from_secs(40), "it was the event, not the end of the wait");
        let ended = session.until(&id, "interrupted").await;
        assert_eq!(ended["result_available"], true);
        session.close().await;
    }
}

#[tokio::test]
async fn two_wait_at_once_see_each_step_and_a_known_state_is_answered_at_once() {
    let environment = Environment::new();
    let repository = small(&environment);
    let (one, two) = (Session::open(&environment, LEGACY).await, Session::open(&environment, modern()).await);
    let id = one.start(&repository, &[Step::Shell("echo a > a"), Step::Delay(2), Step::Say("done")]).await;
    let (first, second, third) = tokio::join!(one.until(&id, "completed"), one.until(&id, "completed"), two.until(&id, "completed"));
    assert_eq!((&first["result_ok"], &second["result_ok"], &third["result_ok"]), (&json!(true), &json!(true), &json!(true)));
    let heard = one.heard.progress.lock().unwrap().clone();
    assert!(heard.iter().any(|message| message.contains("waiting")), "a client with a progress token is told: {heard:?}");
    // An ended job changes no more: no wait is as long as this.
    for since in ["completed", "running"] {
        let began = Instant::now();
        one.call("codex_job_status", json!({"job_id": id, "wait_seconds": 55, "since_state": since})).await;
        assert!(began.elapsed() < Duration::from_secs(40));
    }
    for (argument, value) in [("wait_seconds", json!(56)), ("wait_seconds", json!(-1)), ("wait_seconds", json!("5")), ("since_state", json!("done"))]
    {
        let error = one.failure("codex_job_status", json!({"job_id": id, argument: value})).await;
        assert_eq!((&error["code"], &error["details"]["field"]), (&json!("invalid_arguments"), &json!(argument)));
    }
    one.close().await;
    two.close().await;
}

#[tokio::test]
async fn the_wait_ends_in_time_when_nothing_changes() {
    let environment = Environment::new();
    let repository = small(&environment);
    let session = Session::open(&environment, LEGACY).await;
    let id = session.start(&repository, &LONG).await;
    session.until(&id, "running").await;
    let began = Instant::now();
    let status = session.call("codex_job_status", json!({"job_id": id, "wait_seconds": 3})).await;
    assert_eq!(status["state"], "running");
    assert!(began.elapsed() >= Duration::from_secs(3), "it waited");
    session.call("codex_job_cancel", json!({"job_id": id})).await;
    session.close().await;
}

#[tokio::test]
async fn a_cut_event_stream_loses_no_change_and_a_removed_job_is_told() {
    let mut environment = Environment::new();
    let proxy = Proxy::new(environment.path());
    environment.set("ANCHORHOLD_ENGINE_HOST", &proxy.host());
    let repository = small(&environment);
    let session = Session::open(&environment, LEGACY).await;
    let id = session.start(&repository, &LONG).await;
    session.until(&id, "running").await;
    let name = format!("anchorhold-{id}");
    let opened = |proxy: &Proxy| proxy.requests().iter().filter(|line| line.contains("/events?")).count();
    let before = opened(&proxy);
    let waiting = session.call("codex_job_status", json!({"job_id": id, "wait_seconds": 55, "since_state": "running"}));
    let disturb = async {
        eventually("the events are followed", || opened(&proxy) > before).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let opened_before = opened(&proxy);
        // The log is cut too, so that only a fresh look can tell; what happens in the gap is told by no stream.
        assert!(proxy.cut("/events?") >= 1 && proxy.cut("/logs?") >= 1, "the streams were open");
        environment.docker(&["pause", &name]);
        environment.docker(&["unpause", &name]);
        environment.docker(&["kill", &name]);
        eventually("the stream is opened again", || opened(&proxy) > opened_before).await;
    };
    let (status, ()) = tokio::join!(waiting, disturb);
    assert_ne!(status["state"], "running", "{status:#}");
    session.until(&id, "interrupted").await;

    // Removed from outside: who waits is told at once what has become of it.
    let id = session.start(&repository, &LONG).await;
    session.until(&id, "running").await;
    let waiting = session.call("codex_job_status", json!({"job_id": id, "wait_seconds": 55, "since_state": "running"}));
    let remove = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        environment.docker(&["rm", "-f", &format!("anchorhold-{id}")]);
    };
    let (status, ()) = tokio::join!(waiting, remove);
    assert_ne!(status["state"], "running", "{status:#}");
    session.close().await;
}
