//! Slots, control and what outlives a restart.

use super::*;
use crate::protocol::admin::Ceilings;

#[tokio::test]
async fn slots_are_fair_and_free_when_the_connection_ends() {
    let gateway = Gateway::start().await;
    for n in 1..=4 {
        gateway.admit(n, &Upstream::Rehearsal, |a| a.max_running_jobs = 1).await;
    }
    let first = gateway.slot(1).await;
    let mut waiting = Vec::new();
    for (n, position) in [(2, 1), (3, 2), (4, 3)] {
        let mut slot = gateway.open(n, Channel::Slot, false).await;
        assert_eq!(told(&mut slot).await, SlotMessage::Queued { position });
        waiting.push(slot);
    }
    assert_eq!(gateway.account(3).await.queue_position, Some(2));
    let status = gateway.admin(&AdminRequest::Status).await;
    assert!(matches!(status, AdminResponse::Status { running: 1, queued: 3, slots: 1, protocol: PROTOCOL_VERSION, .. }), "{status:?}");
    // One in the middle gives up; those behind move on.
    drop(waiting.remove(1));
    let [second, fourth] = waiting.as_mut_slice() else { panic!() };
    assert_eq!(told(fourth).await, SlotMessage::Queued { position: 2 });
    drop(first);
    assert_eq!(told(second).await, SlotMessage::Granted);
    assert_eq!(told(fourth).await, SlotMessage::Queued { position: 1 });
    // More slots take effect at once.
    gateway.admit(4, &Upstream::Rehearsal, |a| a.max_running_jobs = 2).await;
    assert_eq!(told(fourth).await, SlotMessage::Granted);
    gateway.end().await;
}

#[tokio::test]
async fn a_second_slot_connection_takes_over_from_the_first() {
    let gateway = Gateway::start().await;
    gateway.admit(1, &Upstream::Rehearsal, |a| a.max_running_jobs = 1).await;
    gateway.admit(2, &Upstream::Rehearsal, |a| a.max_running_jobs = 1).await;
    let mut old = gateway.slot(1).await;
    let mut other = gateway.open(2, Channel::Slot, false).await;
    assert_eq!(told(&mut other).await, SlotMessage::Queued { position: 1 });
    let new = gateway.slot(1).await;
    assert_eq!(soon(old.read(&mut [0; 1])).await.unwrap(), 0);
    drop(old);
    assert!(gateway.account(1).await.running);
    drop(new);
    assert_eq!(told(&mut other).await, SlotMessage::Granted);
    gateway.end().await;
}

#[tokio::test]
async fn everything_outlives_a_restart() {
    let mut gateway = Gateway::start().await;
    let mut provider = Provider::start().await;
    for n in 1..=2 {
        gateway.admit(n, &provider.upstream, |a| a.max_running_jobs = 1).await;
    }
    let digest = hex(&[7; 32]);
    let record = |d: &str| AdminRequest::RecordManifest { job_id: job(1), manifest_sha256: d.to_owned() };
    assert_eq!(gateway.admin(&record(&digest)).await, AdminResponse::Ok);
    let mut held = gateway.slot(1).await;
    let mut queued = gateway.open(2, Channel::Slot, false).await;
    told(&mut queued).await;
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, &post(&question().to_string())).await;
    let asked = provider.asked().await;
    let cache_key = asked.body["prompt_cache_key"].clone();
    asked.begin().await;
    asked.complete(10, 5).await;
    drop(asked);
    assert!(reply(&mut stream).await.whole);
    gateway.end().await;
    // The slot connections end with the gateway, and the slot stays the first job's.
    let mut rest = Vec::new();
    soon(held.read_to_end(&mut rest)).await.unwrap();
    gateway.run().await;
    let account = gateway.account(1).await;
    assert_eq!((account.usage.total(), account.answers, account.manifest_sha256.as_deref()), (15, 1, Some(digest.as_str())));
    // The one that waited comes back first and claims to have run, which the gateway knows better.
    let mut queued = gateway.open(2, Channel::Slot, true).await;
    assert_eq!(told(&mut queued).await, SlotMessage::Queued { position: 1 });
    let mut held = gateway.open(1, Channel::Slot, true).await;
    assert_eq!(told(&mut held).await, SlotMessage::Granted);
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, &post(&question().to_string())).await;
    let asked = provider.asked().await;
    assert!(asked.head.contains(KEY));
    assert_eq!(asked.body["prompt_cache_key"], cache_key);
    asked.begin().await;
    asked.complete(1, 1).await;
    drop(asked);
    assert!(reply(&mut stream).await.whole);
    // The manifest stays what it was.
    assert!(matches!(gateway.admin(&record(&hex(&[8; 32]))).await, AdminResponse::Error { code, .. } if code == "conflict"));
    assert_eq!(gateway.admin(&record(&digest)).await, AdminResponse::Ok);
    gateway.end().await;
    let kinds: Vec<String> = gateway.ledger().iter().map(|l| l["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["start", "admit", "admit", "manifest", "request", "start", "request"]);
}

#[tokio::test]
async fn slots_of_those_who_do_not_come_back_are_given_on() {
    let mut gateway = Gateway::start_with(Timing { awaited: Duration::from_millis(300), ..Timing::default() }).await;
    for n in 1..=2 {
        gateway.admit(n, &Upstream::Rehearsal, |a| a.max_running_jobs = 1).await;
    }
    let _held = gateway.slot(1).await;
    gateway.end().await;
    gateway.run().await;
    let mut other = gateway.open(2, Channel::Slot, false).await;
    assert_eq!(told(&mut other).await, SlotMessage::Queued { position: 1 });
    assert_eq!(told(&mut other).await, SlotMessage::Granted);
    gateway.end().await;
}

/// One job that runs and three that wait, in this order.
async fn with_a_line() -> Gateway {
    let gateway = Gateway::start().await;
    for n in 1..=4 {
        gateway.admit(n, &Upstream::Rehearsal, |a| a.max_running_jobs = 1).await;
    }
    let _held = gateway.slot(1).await;
    let mut waiting = Vec::new();
    for (n, position) in [(4, 1), (2, 2), (3, 3)] {
        let mut slot = gateway.open(n, Channel::Slot, false).await;
        assert_eq!(told(&mut slot).await, SlotMessage::Queued { position });
        waiting.push(slot);
    }
    gateway.end().await;
    gateway
}

/// Takes a field out of the records of all jobs, as a gateway of an older build wrote them.
fn without(gateway: &Gateway, field: &str) {
    for entry in std::fs::read_dir(gateway.places.state.join("jobs")).unwrap() {
        let path = entry.unwrap().path();
        let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert!(record.as_object_mut().unwrap().remove(field).is_some());
        std::fs::write(&path, record.to_string()).unwrap();
    }
}

/// The places that the three are told, who come back in this order.
async fn places_of(gateway: &Gateway, back: [u8; 3]) -> [u64; 3] {
    let mut slots = Vec::new();
    for n in back {
        let mut slot = gateway.open(n, Channel::Slot, false).await;
        assert!(matches!(told(&mut slot).await, SlotMessage::Queued { .. }));
        slots.push(slot);
    }
    let mut places = [0; 3];
    for (place, n) in places.iter_mut().zip(back) {
        *place = gateway.account(n).await.queue_position.unwrap();
    }
    places
}

#[tokio::test]
async fn places_outlive_a_restart_whoever_is_back_first() {
    let mut gateway = with_a_line().await;
    for back in [[3, 2, 4], [2, 4, 3]] {
        gateway.run().await;
        let expected = back.map(|n| match n {
            4 => 1,
            2 => 2,
            _ => 3,
        });
        assert_eq!(places_of(&gateway, back).await, expected);
        gateway.end().await;
    }
    // The control: of records without it the order is that of coming back.
    without(&gateway, "place");
    gateway.run().await;
    assert_eq!(places_of(&gateway, [3, 2, 4]).await, [1, 2, 3]);
    gateway.end().await;
}

/// What it is told beside that the gateway lives.
async fn news(slot: &mut BufReader<UnixStream>) -> SlotMessage {
    loop {
        match told(slot).await {
            SlotMessage::Alive => {}
            message => return message,
        }
    }
}

#[tokio::test]
async fn the_slot_goes_down_the_line_after_a_restart_and_waits_for_nobody_for_ever() {
    let mut gateway = with_a_line().await;
    gateway.timing.awaited = Duration::from_secs(3);
    gateway.run().await;
    // Neither the one that ran nor the first in line comes back.
    let mut third = gateway.open(3, Channel::Slot, false).await;
    assert_eq!(news(&mut third).await, SlotMessage::Queued { position: 3 });
    let mut second = gateway.open(2, Channel::Slot, false).await;
    assert_eq!(news(&mut second).await, SlotMessage::Queued { position: 2 });
    assert_eq!(news(&mut second).await, SlotMessage::Granted);
    assert_eq!(news(&mut third).await, SlotMessage::Queued { position: 1 });
    // It comes after all, and nobody who came later stands before it.
    let mut first = gateway.open(4, Channel::Slot, false).await;
    assert_eq!(news(&mut first).await, SlotMessage::Queued { position: 1 });
    assert_eq!(news(&mut third).await, SlotMessage::Queued { position: 2 });
    drop(second);
    assert_eq!(news(&mut first).await, SlotMessage::Granted);
    gateway.end().await;
}

#[tokio::test]
async fn who_gave_up_a_gateway_that_stood_still_keeps_slot_and_place() {
    let gateway = Gateway::start().await;
    for n in 1..=3 {
        gateway.admit(n, &Upstream::Rehearsal, |a| a.max_running_jobs = 1).await;
    }
    let held = gateway.slot(1).await;
    let mut second = gateway.open(2, Channel::Slot, false).await;
    assert_eq!(news(&mut second).await, SlotMessage::Queued { position: 1 });
    let mut third = gateway.open(3, Channel::Slot, false).await;
    assert_eq!(news(&mut third).await, SlotMessage::Queued { position: 2 });
    // The gateway lives on this thread, so it stands still, too.
    std::thread::sleep(Duration::from_secs(5));
    drop((held, second, third));
    let mut third = gateway.open(3, Channel::Slot, false).await;
    assert_eq!(news(&mut third).await, SlotMessage::Queued { position: 2 });
    let mut held = gateway.open(1, Channel::Slot, true).await;
    assert_eq!(news(&mut held).await, SlotMessage::Granted);
    let mut second = gateway.open(2, Channel::Slot, false).await;
    assert_eq!(news(&mut second).await, SlotMessage::Queued { position: 1 });
    let status = gateway.admin(&AdminRequest::Status).await;
    assert!(matches!(status, AdminResponse::Status { running: 1, queued: 2, .. }), "{status:?}");
    gateway.end().await;
}

#[tokio::test]
async fn control_refuses_what_is_malformed_and_repeats_no_credential() {
    let gateway = Gateway::start().await;
    let mut stream = BufReader::new(UnixStream::connect(&gateway.places.admin_socket).await.unwrap());
    let mut line = async |text: String| {
        stream.write_all(format!("{text}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon(stream.read_line(&mut answer)).await.unwrap();
        answer
    };
    let admission = json!({"op": "admit", "job_id": job(1), "pass_sha256": hex(&[1; 32]), "upstream": {"kind": "http", "base_url": "https://api.example/v1"},
        "credential": KEY, "allowed_models": [], "token_budget": 0, "expires_unix": 9, "max_running_jobs": 1, "instance": "i"});
    for (pointer, value) in [
        ("job_id", json!("../../etc/passwd")),
        ("job_id", json!("ABCDEF0123456789ABCDEF0123456789")),
        ("pass_sha256", json!("")),
        ("credential", json!(format!("{KEY}\r\nx: y"))),
        ("credential", json!([KEY])),
        ("upstream", json!({"kind": "http", "base_url": "http://api.example/v1"})),
        ("upstream", json!({"kind": "http", "base_url": "https://user:pw@api.example/v1"})),
        ("upstream", json!({"kind": "http", "base_url": "https://api.example/v1?x"})),
        ("upstream", json!({"kind": "http", "base_url": "file:///etc/passwd"})),
        ("allowed_models", json!(["a b"])),
        ("max_running_jobs", json!(0)),
        ("surprise", json!(1)),
    ] {
        let mut bad = admission.clone();
        bad.as_object_mut().unwrap().insert(pointer.to_owned(), value);
        let answer = line(bad.to_string()).await;
        assert!(answer.contains("\"invalid\"") && !answer.contains("sk-test"), "{pointer}: {answer}");
    }
    assert!(line("{".to_owned()).await.contains("invalid"));
    assert!(line(json!({"op": "job", "job_id": job(1)}).to_string()).await.contains("unknown_job"));
    assert!(line(json!({"op": "revoke", "job_id": job(1)}).to_string()).await.contains("\"ok\""));
    assert!(line(admission.to_string()).await.contains("\"ok\""));
    assert!(line(json!({"op": "jobs", "instance": "i"}).to_string()).await.contains(&job(1)));
    assert!(!line(json!({"op": "jobs", "instance": "other"}).to_string()).await.contains(&job(1)));
    gateway.end().await;
}

#[tokio::test]
async fn one_gateway_a_volume_and_sockets_with_the_right_modes() {
    use std::os::unix::fs::PermissionsExt as _;
    let gateway = Gateway::start().await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&gateway.places.socket), 0o660);
    assert_eq!(mode(gateway.places.socket.parent().unwrap()), 0o750);
    assert_eq!((mode(&gateway.places.admin_socket), mode(&gateway.places.state)), (0o600, 0o700));
    let second = serve(&gateway.places, Timing::default(), CancellationToken::new()).await;
    assert!(second.unwrap_err().message.contains("another gateway"));
    gateway.end().await;
    // A stale socket is replaced; something else in its place is not.
    drop(std::os::unix::net::UnixListener::bind(&gateway.places.socket).unwrap());
    let mut gateway = gateway;
    gateway.run().await;
    gateway.end().await;
    std::fs::write(&gateway.places.socket, b"precious").unwrap();
    assert!(serve(&gateway.places, Timing::default(), CancellationToken::new()).await.is_err());
    assert_eq!(std::fs::read(&gateway.places.socket).unwrap(), b"precious");
    drop(gateway.directory.take());
}

#[tokio::test]
async fn a_new_limit_holds_at_once_and_over_a_restart_and_an_old_one_undoes_nothing() {
    let mut gateway = Gateway::start().await;
    for n in 1..=3 {
        gateway.admit(n, &Upstream::Rehearsal, |a| (a.max_running_jobs, a.settings_read_ms) = (1, 10)).await;
    }
    let limits = |slots| GatewayLimits { slots, ceilings: Ceilings::default() };
    let by = |instance: &str, read_ms| Some(Bringer { instance: instance.to_owned(), read_ms });
    let _first = gateway.slot(1).await;
    let mut second = gateway.open(2, Channel::Slot, false).await;
    assert_eq!(told(&mut second).await, SlotMessage::Queued { position: 1 });
    // (what is brought, by whom, the slots in force then)
    let bring = async |gateway: &Gateway, limits, by| match gateway.admin(&AdminRequest::Limits { limits, by }).await {
        AdminResponse::Status { slots, .. } => slots,
        other => panic!("{other:?}"),
    };
    assert_eq!(bring(&gateway, limits(1), by("test", 20)).await, 1);
    assert_eq!(bring(&gateway, limits(2), by("test", 30)).await, 2);
    assert_eq!(told(&mut second).await, SlotMessage::Granted);
    // A server with older settings brings its own, and so does its next admission.
    assert_eq!(bring(&gateway, limits(1), by("test", 20)).await, 2);
    gateway.admit(3, &Upstream::Rehearsal, |a| (a.max_running_jobs, a.settings_read_ms) = (1, 20)).await;
    assert_eq!(bring(&gateway, limits(5), by("other", 5)).await, 5);
    assert_eq!(bring(&gateway, limits(2), by("test", 40)).await, 5);
    // What somebody asks for holds until settings are changed, over a restart too.
    assert_eq!(bring(&gateway, limits(7), None).await, 7);
    gateway.end().await;
    gateway.run().await;
    assert_eq!(bring(&gateway, limits(5), by("other", 50)).await, 7);
    assert_eq!(bring(&gateway, limits(3), by("other", 60)).await, 3);
    let refused = gateway.admin(&AdminRequest::Limits { limits: limits(0), by: None }).await;
    assert!(matches!(&refused, AdminResponse::Error { code, .. } if code == "invalid"), "{refused:?}");
    gateway.end().await;
    assert!(gateway.ledger().iter().any(|line| line["kind"] == "limits" && line["slots"] == 7 && line["instance"] == ""));
}
