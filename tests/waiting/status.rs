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
        let arguments = json!({"job_id": id, "wait_seconds": 55, "since_state": "running"});
        let waiting = session.call("codex_job_status", arguments);
        let disturb = async {
            // The wait has begun once the log is followed; from then on the engine is asked nothing.
            let begun = proxy.requests().len();
            eventually("the log is followed", || proxy.requests()[begun..].iter().any(|line| line.contains("/logs?") && line.contains("follow=true"))).await;
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
