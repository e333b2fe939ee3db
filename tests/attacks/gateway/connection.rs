//! G14: the first line of a connection, and what passes open.

use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use anchorhold::protocol::manifest::hex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::budget::wait_for;
use super::credential::good_bytes;
use super::found;
use super::provider;
use super::rig::{Job, Rig, Terms, preamble};
use crate::case::Verdict;

/// Says each of these first and sends a good request behind it: none may arrive. A slot connection may not be granted either.
fn none_opens(rig: &Rig, job: &Job, firsts: &[(String, Vec<u8>)]) -> Verdict {
    let before = rig.arrived(job).len();
    for (name, first) in firsts {
        let mut conn = rig.open_with(first);
        conn.send(&good_bytes());
        let answer = conn.answer(Duration::from_millis(120));
        if rig.arrived(job).len() > before {
            return Verdict::Breached(format!("{name}: a request arrived"));
        }
        if answer.text().contains("granted") || answer.text().contains("queued") {
            return Verdict::Breached(format!("{name}: {}", answer.text()));
        }
    }
    Verdict::Blocked(format!("none of {} opened anything", firsts.len()))
}

fn line(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

/// First lines that are none.
pub fn preambles(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms::default());
    let good = || -> Value { serde_json::from_slice(&preamble(&job.id, &job.pass, "model")).expect("a preamble") };
    let changed = |key: &str, value: Value| {
        let mut first = good();
        first[key] = value;
        line(&first)
    };
    let text = good().to_string();
    let all: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("an empty line", b"\n".to_vec()),
        ("HTTP at once", Vec::new()),
        ("half a line", text.as_bytes()[..40].to_vec()),
        ("no JSON", b"hello\n".to_vec()),
        ("an array", line(&json!([good()]))),
        ("NUL bytes", vec![0; 100]),
        ("no UTF-8", b"\xff\xfe\n".to_vec()),
        ("longer than a line may be", line(&json!({"pad": "x".repeat(2000)}))),
        ("good, but longer than a line may be", format!("{}{}\n", " ".repeat(2000), text).into_bytes()),
        ("an unknown channel", changed("channel", json!("admin"))),
        ("no channel", changed("channel", json!(null))),
        ("a list of channels", changed("channel", json!(["model"]))),
        ("the channel in capitals", changed("channel", json!("Model"))),
        ("an unknown field", changed("admin", json!(true))),
        ("another version", changed("version", json!(0))),
        ("a later version", changed("version", json!(4_294_967_295u32))),
        ("a version too large", changed("version", json!(4_294_967_296u64 + 1))),
        ("a version as text", changed("version", json!("1"))),
        ("a negative version", changed("version", json!(-1))),
        ("a number as id", changed("job_id", json!(7))),
        ("a number as pass", changed("pass", json!(7))),
        ("the pass twice", text.replacen("\"pass\"", "\"pass\":\"x\",\"pass\"", 1).into_bytes()),
        ("two in one line", format!("{text}{text}\n").into_bytes()),
        ("a control request", line(&json!({"op": "status"}))),
        ("an admission", line(&json!({"op": "revoke", "job_id": job.id}))),
    ];
    let firsts: Vec<(String, Vec<u8>)> = all.into_iter().map(|(name, first)| (name.to_owned(), first)).collect();
    let verdict = none_opens(rig, &job, &firsts);
    if !verdict.breached() {
        rig.must_serve(&job);
    }
    verdict
}

/// Passes that are almost right, on both channels.
pub fn passes(rig: &Rig) -> Verdict {
    let (job, other) = (rig.job(&Terms::default()), rig.job(&Terms::default()));
    let mut flipped = job.pass.clone().into_bytes();
    flipped[63] ^= 1;
    let wrong = [
        ("nothing", String::new()),
        ("one bit", String::from_utf8(flipped).expect("text")),
        ("a part", job.pass[..63].to_owned()),
        ("more", format!("{}0", job.pass)),
        ("a space", format!("{} ", job.pass)),
        ("NUL", format!("{}\0", job.pass)),
        ("capitals", job.pass.to_uppercase()),
        ("its digest", hex(&Sha256::digest(&job.pass))),
        ("the job's id", job.id.clone()),
        ("another job's pass", other.pass.clone()),
        ("zeros", "0".repeat(64)),
        ("the key", job.key.clone()),
    ];
    let mut firsts = Vec::new();
    for (name, pass) in &wrong {
        for channel in ["model", "slot"] {
            firsts.push((format!("{name} ({channel})"), preamble(&job.id, pass, channel)));
        }
    }
    let verdict = none_opens(rig, &job, &firsts);
    if !verdict.breached() {
        rig.must_serve(&job);
    }
    verdict
}

/// A good pass under another name than its job's.
pub fn names(rig: &Rig) -> Verdict {
    let (job, other) = (rig.job(&Terms::default()), rig.job(&Terms::default()));
    let names =
        [other.id.clone(), job.id.to_uppercase(), format!("{} ", job.id), format!("{}\0", job.id), String::new(), "../jobs".into(), job.tag.clone()];
    let mut firsts = Vec::new();
    for name in names {
        for channel in ["model", "slot"] {
            firsts.push((format!("{name:?} ({channel})"), preamble(&name, &job.pass, channel)));
        }
    }
    for victim in [&job, &other] {
        let verdict = none_opens(rig, victim, &firsts);
        if verdict.breached() {
            return verdict;
        }
        rig.must_serve(victim);
    }
    Verdict::Blocked(format!("none of {} opened either job", firsts.len()))
}

/// After its time a pass is dead, whatever holds it open.
pub fn expired(rig: &Rig) -> Verdict {
    let neighbour = rig.job(&Terms::default());
    let job = rig.job(&Terms { lives: 2, ..Terms::default() });
    rig.must_serve(&job);
    let mut open = rig.open(&job);
    std::thread::sleep(Duration::from_millis(2100));
    let before = rig.arrived(&job).len();
    open.send(&good_bytes());
    open.answer(Duration::from_millis(300));
    let verdict = none_opens(
        rig,
        &job,
        &[("a new connection".into(), preamble(&job.id, &job.pass, "model")), ("a slot".into(), preamble(&job.id, &job.pass, "slot"))],
    );
    rig.must_serve(&neighbour);
    let late = rig.arrived(&job).len() > before;
    if late { Verdict::Breached("a request arrived after the end".into()) } else { verdict }
}

/// A revoked pass is dead at once, and what runs under it is cut.
pub fn revoked(rig: &Rig) -> Verdict {
    let neighbour = rig.job(&Terms::default());
    let job = rig.job_answered(&Terms::default(), |_, _, stream| {
        provider::stream_head(stream, "")?;
        provider::chunk(stream, &(provider::created() + &provider::delta("first")))?;
        provider::until_gone(stream, Duration::from_secs(2));
        provider::chunk(stream, &provider::delta("late")).map(|()| false)
    });
    let mut streaming = rig.open(&job);
    streaming.send(&good_bytes());
    streaming.until("first", Duration::from_secs(5));
    let mut idle = rig.open(&job);
    let answer = rig.admin(&json!({"op": "revoke", "job_id": job.id}));
    assert_eq!(answer["type"], "ok", "{answer}");
    let rest = streaming.answer(Duration::from_millis(1000));
    let before = rig.arrived(&job).len();
    idle.send(&good_bytes());
    idle.answer(Duration::from_millis(300));
    let verdict = none_opens(
        rig,
        &job,
        &[("a new connection".into(), preamble(&job.id, &job.pass, "model")), ("a slot".into(), preamble(&job.id, &job.pass, "slot"))],
    );
    rig.must_serve(&neighbour);
    let finding = if !rest.closed || rest.text().contains("late") {
        Some("an answer went on".to_owned())
    } else if rig.arrived(&job).len() > before {
        Some("a request arrived on an idle connection".to_owned())
    } else {
        None
    };
    finding.map_or(verdict, Verdict::Breached)
}

/// A request without a slot, before it was granted and after it was given back.
pub fn without_slot(rig: &Rig) -> Verdict {
    let mut job = rig.admit(&Terms::default());
    for _ in 0..3 {
        rig.raw(&job, &good_bytes());
    }
    if !rig.arrived(&job).is_empty() {
        return Verdict::Breached("a request arrived although no slot was asked for".into());
    }
    let mut slot = BufReader::new(rig.open_with(&preamble(&job.id, &job.pass, "slot")).0);
    let mut said = String::new();
    slot.read_line(&mut said).expect("a slot");
    job.slot = Some(slot);
    rig.must_serve(&job);
    job.slot = None;
    wait_for(|| rig.account(&job)["running"] == json!(false));
    let before = rig.arrived(&job).len();
    rig.raw(&job, &good_bytes());
    found((rig.arrived(&job).len() > before).then(|| "a request arrived after the slot was given back".to_owned()), "nothing arrives without a slot")
}

/// What a job writes on its slot connection, and many such connections, change nothing.
pub fn slot_misuse(rig: &Rig) -> Verdict {
    let (job, neighbour) = (rig.job(&Terms::default()), rig.job(&Terms::default()));
    let noise: Vec<Vec<u8>> = vec![
        good_bytes(),
        line(&json!({"type": "granted"})),
        line(&json!({"op": "revoke", "job_id": neighbour.id})),
        preamble(&neighbour.id, &job.pass, "slot"),
        vec![0; 1 << 20],
    ];
    let mut conns = Vec::new();
    for bytes in &noise {
        let mut conn = rig.open_with(&preamble(&job.id, &job.pass, "slot"));
        conn.send(bytes);
        conns.push(conn);
    }
    for _ in 0..200 {
        conns.push(rig.open_with(&preamble(&job.id, &job.pass, "slot")));
    }
    wait_for(|| rig.account(&job)["running"] == json!(true));
    let status = rig.admin(&json!({"op": "status"}));
    let neighbours = rig.account(&neighbour)["running"] == json!(true);
    let arrived = rig.arrived(&job).len();
    rig.must_serve(&neighbour);
    drop(conns);
    found((arrived > 0 || !neighbours).then(|| format!("{arrived} requests arrived; {status}")), "a slot connection carries nothing to the gateway")
}
