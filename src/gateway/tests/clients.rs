//! Slow, huge and many clients; a neighbour is served meanwhile.

use super::model::ClosedOrFull as _;
use super::*;
use crate::protocol::admin::Ceilings;

/// A job on the scripted model that nothing of the others may disturb.
async fn neighbour(gateway: &Gateway) -> BufReader<UnixStream> {
    gateway.admit(9, &Upstream::Rehearsal, |_| {}).await;
    gateway.slot(9).await
}

async fn serves(gateway: &Gateway) {
    assert_eq!(gateway.post(9, &question()).await.status, 200);
}

/// Whether the other side has closed.
async fn closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> bool {
    matches!(soon(stream.read(&mut [0; 1])).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn of_those_who_do_not_say_who_they_are_the_oldest_goes_first() {
    let gateway = Gateway::start_with(Timing { preamble: Duration::from_secs(600), head: Duration::from_secs(600), ..Timing::default() }).await;
    let _slot = neighbour(&gateway).await;
    let mut silent = Vec::new();
    for n in 0..400 {
        silent.push(if n % 2 == 0 {
            BufReader::new(UnixStream::connect(&gateway.places.socket).await.unwrap())
        } else {
            // A pass that is not valid earns no better place.
            gateway.open(7, Channel::Model, false).await
        });
    }
    serves(&gateway).await;
    assert!(closed(&mut silent[0]).await && closed(&mut silent[1]).await);
    let last = silent.len() - 2;
    assert!(tokio::time::timeout(Duration::from_millis(100), silent[last].read(&mut [0; 1])).await.is_err());
    drop(silent);
    serves(&gateway).await;
    gateway.end().await;
}

#[tokio::test]
async fn connections_are_bounded_for_a_job_and_over_all() {
    let gateway = Gateway::start_with(Timing { head: Duration::from_secs(600), ..Timing::default() }).await;
    gateway.admit(1, &Upstream::Rehearsal, |_| {}).await;
    let _slot = gateway.slot(1).await;
    let _neighbour = neighbour(&gateway).await;
    let mut idle = Vec::new();
    for _ in 0..17 {
        idle.push(gateway.open(1, Channel::Model, false).await);
    }
    assert!(closed(idle.last_mut().unwrap()).await);
    serves(&gateway).await;
    // Two slots and sixteen idle ones are there.
    gateway.admit(9, &Upstream::Rehearsal, |a| a.ceilings = Ceilings { connections: 18, ..Ceilings::default() }).await;
    let mut late = gateway.open(9, Channel::Model, false).await;
    assert!(closed(&mut late).await);
    drop(idle);
    while gateway.open(9, Channel::Model, false).await.read(&mut [0; 0]).await.is_err() {}
    gateway.end().await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_left() {
    let gateway = Gateway::start_with(Timing { client: Duration::from_millis(300), ..Timing::default() }).await;
    let mut provider = Provider::start().await;
    gateway.admit(1, &provider.upstream, |_| {}).await;
    let _slot = gateway.slot(1).await;
    let _neighbour = neighbour(&gateway).await;
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, &post(&question().to_string())).await;
    let asked = provider.asked().await;
    asked.begin().await;
    let piece = json!({"type": "response.output_text.delta", "delta": "x".repeat(1 << 18)});
    for _ in 0..16 {
        asked.event(&piece).await;
    }
    serves(&gateway).await;
    // The request ends although nobody read a byte and nobody closed.
    soon(asked.answer.closed_or_full()).await;
    gateway.end().await;
    let line = gateway.ledger().into_iter().find(|l| l["kind"] == "request" && l["job"] == job(1)).unwrap();
    assert_eq!(line["outcome"], "client_gone");
}

#[tokio::test]
async fn one_job_cannot_fill_the_memory_for_bodies() {
    let gateway = Gateway::start_with(Timing { body: Duration::from_secs(600), ..Timing::default() }).await;
    gateway.admit(1, &Upstream::Rehearsal, |_| {}).await;
    let _slot = gateway.slot(1).await;
    let _neighbour = neighbour(&gateway).await;
    let size = 7 << 20;
    let head = format!("POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", size + 1);
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = gateway.open(1, Channel::Model, false).await;
        send(&mut stream, &head).await;
        let _ = soon(stream.write_all(&vec![b' '; size])).await;
        held.push(stream);
    }
    assert_eq!(reply(held.last_mut().unwrap()).await.status, 503);
    serves(&gateway).await;
    drop(held);
    gateway.end().await;
}

#[tokio::test]
async fn nothing_streams_longer_than_its_pass_lives() {
    let gateway = Gateway::start().await;
    let mut provider = Provider::start().await;
    let soon_dead = u64::try_from(failure::now_unix()).unwrap() + 2;
    gateway.admit(1, &provider.upstream, |a| a.expires_unix = soon_dead).await;
    let mut slot = gateway.slot(1).await;
    let mut stream = gateway.open(1, Channel::Model, false).await;
    send(&mut stream, &post(&question().to_string())).await;
    let asked = provider.asked().await;
    asked.begin().await;
    let mut rest = Vec::new();
    soon(stream.read_to_end(&mut rest)).await.ok();
    assert!(String::from_utf8_lossy(&rest).contains("response.created"));
    soon(asked.answer.closed_or_full()).await;
    assert!(matches!(told_last(&mut slot).await, SlotMessage::Refused { .. }));
    gateway.end().await;
}

async fn told_last(slot: &mut BufReader<UnixStream>) -> SlotMessage {
    let mut all = String::new();
    soon(slot.read_to_string(&mut all)).await.unwrap();
    serde_json::from_str(all.lines().last().unwrap()).unwrap()
}

#[tokio::test]
async fn pipelined_requests_are_served_one_after_the_other() {
    let gateway = Gateway::start().await;
    let mut provider = Provider::start().await;
    gateway.admit(1, &provider.upstream, |_| {}).await;
    let _slot = gateway.slot(1).await;
    let mut stream = gateway.open(1, Channel::Model, false).await;
    let three = post(&question().to_string()).repeat(3);
    send(&mut stream, &three).await;
    for _ in 0..3 {
        let asked = provider.asked().await;
        assert!(provider.requests.try_recv().is_err());
        asked.begin().await;
        asked.complete(1, 1).await;
        drop(asked);
        assert!(reply(&mut stream).await.whole);
    }
    gateway.end().await;
}
