//! G19: one job against another, and against the control socket.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::Duration;

use serde_json::{Value, json};

use super::budget::wait_for;
use super::credential::good_bytes;
use super::found;
use super::provider::{self, completed, created, item};
use super::rig::{Job, Rig, Terms, good, preamble, with};
use crate::case::Verdict;

/// Whatever one job says of another in its requests, they go under its own name, with its own key, to its own provider.
pub fn requests(rig: &Rig) -> Verdict {
    let (job, other) = (rig.job(&Terms::default()), rig.job(&Terms::default()));
    for key in ["user", "prompt_cache_key", "safety_identifier", "instructions"] {
        rig.ask(&job, &with(key, other.id.as_str()));
    }
    for header in ["Authorization: Bearer", "X-Job-Id:", "X-Anchorhold-Job:", "Host:"] {
        let bytes = super::rig::post_with(&format!("{header} {}\r\n", other.id), good().to_string().as_bytes());
        rig.raw(&job, &bytes);
    }
    assert!(!rig.arrived(&job).is_empty(), "nothing arrived");
    let crossed =
        !rig.arrived(&other).is_empty() || rig.arrived(&job).iter().any(|a| a.holds(&other.key)) || rig.requests_of(&other).iter().any(|_| true);
    rig.must_serve(&other);
    Verdict::of(crossed, format!("{} requests arrived, all as the job's own", rig.arrived(&job).len()))
}

/// What the provider encrypted for one job is given back by another.
pub fn sealed(rig: &Rig) -> Verdict {
    let answers = |_: usize, _: &provider::Arrived, stream: &mut std::net::TcpStream| {
        let thought = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAsecret=="});
        provider::answer(stream, &(created() + &item(&thought) + &completed(5, 5))).map(|()| true)
    };
    // More refusals than a job usually has.
    let terms = Terms { further: json!({"bounds": {"requests": 0, "denials": 1000, "output_tokens": 1000}}), ..Terms::default() };
    let (job, other) = (rig.job_answered(&terms, answers), rig.job_answered(&terms, answers));
    let answer = rig.ask(&job, &good());
    let text = answer.text();
    let given = text.split("\"encrypted_content\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an encrypted thought").to_owned();
    let go_on = json!({"role": "user", "content": "go on"});
    let back = |content: &str| with("input", json!([{"type": "reasoning", "summary": [], "encrypted_content": content}, go_on]));
    let ways = |content: &str| {
        let part = json!([{"type": "encrypted_content", "encrypted_content": content}]);
        vec![
            back(content),
            with("input", json!([{"type": "compaction", "encrypted_content": content}, go_on])),
            with("input", json!([{"type": "compaction_summary", "encrypted_content": content}, go_on])),
            with("input", json!([{"type": "agent_message", "author": "a", "recipient": "b", "content": part}, go_on])),
            with("input", json!([{"type": "reasoning", "summary": [], "content": part}, go_on])),
            with("input", json!([{"role": "assistant", "content": part}, go_on])),
            with("input", json!([{"type": "function_call_output", "call_id": "c", "output": part}, go_on])),
            with(
                "input",
                json!([{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "encrypted_function_args": content}, go_on]),
            ),
        ]
    };
    for content in [given.as_str(), "gAAAAsecret==", "gAAAAforeign=="] {
        for body in ways(content) {
            rig.ask(&other, &body);
            if rig.arrived(&other).iter().any(|a| a.holds("gAAAAsecret") || a.holds("gAAAAforeign")) {
                return Verdict::Breached(format!("another job's thought was continued: {}", body["input"][0]));
            }
        }
    }
    rig.ask(&job, &back(&given));
    assert!(rig.arrived(&job).last().is_some_and(|a| a.holds("\"gAAAAsecret==\"")), "a job's own thought is continued");
    rig.must_serve(&other);
    Verdict::Blocked("only the job to which it was given could give it back, and then the provider saw its own text".into())
}

/// One slot for all: the job that waits may not take it, whatever it claims.
pub fn slot_theft(rig: &Rig) -> Verdict {
    let terms = Terms { slots: 1, ..Terms::default() };
    let holder = rig.job(&terms);
    let first = rig.admit(&terms);
    let first_conn = BufReader::new(rig.open_with(&preamble(&first.id, &first.pass, "slot")).0);
    wait_for(|| rig.account(&first)["queue_position"] == json!(1));
    let thief = rig.admit(&terms);
    let claim = |resume: bool| {
        let mut line: Value = serde_json::from_slice(&preamble(&thief.id, &thief.pass, "slot")).expect("a preamble");
        line["resume"] = json!(resume);
        rig.open_with(format!("{line}\n").as_bytes())
    };
    let claims: Vec<_> = (0..20).map(|n| claim(n % 2 == 0)).collect();
    wait_for(|| rig.account(&thief)["queue_position"].is_u64());
    let place = rig.account(&thief)["queue_position"].clone();
    let (holds, thief_runs) = (rig.account(&holder)["running"] == json!(true), rig.account(&thief)["running"] == json!(true));
    rig.raw(&thief, &good_bytes());
    let arrived = rig.arrived(&thief).len();
    rig.must_serve(&holder);
    // The holder ends: the first in the queue follows, not the thief.
    drop(holder.slot);
    wait_for(|| rig.account(&first)["running"] == json!(true) || rig.account(&thief)["running"] == json!(true));
    let fair = rig.account(&first)["running"] == json!(true);
    drop((claims, first_conn));
    let finding = (!holds || thief_runs || arrived > 0 || place != json!(2) || !fair)
        .then(|| format!("place {place}, holder {holds}, thief {thief_runs}, arrived {arrived}, fair {fair}"));
    found(finding, "it waited in its place")
}

/// A job's many connections leave room for others, and its own are counted.
pub fn connections(rig: &Rig) -> Verdict {
    let (job, neighbour) = (rig.job(&Terms::default()), rig.job(&Terms::default()));
    let mut conns: Vec<_> = (0..200).map(|_| rig.open(&job)).collect();
    std::thread::sleep(Duration::from_millis(100));
    let mut served = 0;
    for conn in &mut conns {
        conn.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    for conn in &mut conns {
        served += usize::from(!conn.answer(Duration::from_millis(100)).bytes.is_empty());
    }
    assert!(served > 0, "none of the job's connections was served");
    rig.must_serve(&neighbour);
    found(
        (served > 16).then(|| format!("{served} connections of one job were served at once")),
        format!("{served} of 200 were served; a neighbour was"),
    )
}

/// All jobs together open more connections than the gateway may have.
pub fn all_connections(rig: &Rig) -> Verdict {
    let terms = Terms { further: json!({"ceilings": {"tokens_per_day": 0, "requests": 64, "connections": 16}}), ..Terms::default() };
    let jobs: Vec<Job> = (0..5).map(|_| rig.admit(&terms)).collect();
    let mut conns: Vec<_> = jobs.iter().flat_map(|job| (0..8).map(|_| rig.open(job))).collect();
    std::thread::sleep(Duration::from_millis(200));
    for conn in &mut conns {
        conn.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    let served = conns.iter_mut().map(|conn| usize::from(!conn.answer(Duration::from_millis(150)).bytes.is_empty())).sum::<usize>();
    assert!(served > 0, "no connection was served");
    Verdict::of(served > 16, format!("{served} of 40 connections were served where 16 are allowed"))
}

/// The control socket is nowhere where a job could reach it, and the job's socket speaks no control.
pub fn control(rig: &Rig) -> Verdict {
    let victim = rig.job(&Terms::default());
    let job = rig.job(&Terms::default());
    for bytes in [json!({"op": "status"}), json!({"op": "revoke", "job_id": victim.id}), json!({"op": "jobs", "instance": "attack"})] {
        for first in [Vec::new(), preamble(&job.id, &job.pass, "model"), preamble(&job.id, &job.pass, "slot")] {
            let mut conn = rig.open_with(&first);
            conn.send(format!("{bytes}\n").as_bytes());
            let answer = conn.answer(Duration::from_millis(100)).text();
            if answer.contains("\"type\":\"ok\"") || answer.contains("job_ids") || answer.contains("\"type\":\"status\"") {
                return Verdict::Breached(format!("{bytes}: {answer}"));
            }
        }
    }
    rig.must_serve(&victim);
    let beside: Vec<String> = std::fs::read_dir(rig.socket().parent().expect("a directory"))
        .expect("the socket's directory")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "gateway.sock")
        .collect();
    found(beside.first().map(|name| format!("{name} lies beside the job's socket")), "it answers no control")
}

/// Whoever is neither the gateway's user nor of its group opens neither socket nor its state.
pub fn modes(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms::default());
    rig.must_serve(&job);
    let mut loose = Vec::new();
    // What lies beneath a closed directory needs no closed mode of its own; the credential and the control socket have one all the same.
    for (path, open) in [(rig.state(), 0o077), (rig.state().join("admin.sock"), 0o077), (rig.state().join("credentials"), 0o077)] {
        let meta = std::fs::metadata(&path).expect("it is there");
        if meta.permissions().mode() & open != 0 || meta.uid() != rustix::process::geteuid().as_raw() {
            loose.push(format!("{} has mode {:o}", path.display(), meta.permissions().mode()));
        }
    }
    let key = rig.state().join("credentials");
    for entry in std::fs::read_dir(&key).expect("credentials").flatten() {
        let mode = entry.metadata().expect("a file").permissions().mode() & 0o777;
        if mode != 0o400 {
            loose.push(format!("a credential has mode {mode:o}"));
        }
    }
    for path in [rig.socket(), rig.socket().parent().expect("a directory").to_owned()] {
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o007;
        if mode != 0 {
            loose.push(format!("{} is open to all: {mode:o}", path.display()));
        }
    }
    found(loose.pop(), "closed to all others")
}

/// Two requests of the same words look the same to nobody: the provider's cache cannot tell one job of another.
pub fn cache(rig: &Rig) -> Verdict {
    let told = |job: &Job| rig.arrived(job).last().expect("a request").json()["prompt_cache_key"].clone();
    let jobs = [rig.job(&Terms::default()), rig.job(&Terms::default())];
    for job in &jobs {
        for key in [json!("shared"), json!("")] {
            rig.ask(job, &with("prompt_cache_key", key));
        }
        rig.must_serve(job);
    }
    for job in &jobs {
        rig.ask(job, &with("prompt_cache_key", "shared"));
    }
    let (one, two) = (told(&jobs[0]), told(&jobs[1]));
    Verdict::of(one == two || one == json!("shared") || one.is_null(), format!("{one} and {two}"))
}

/// A line of the slot connection is for its job alone.
pub fn messages(rig: &Rig) -> Verdict {
    let failing = rig.job_answered(&Terms::default(), |_, _, stream| provider::status(stream, 500, "", "{}").map(|()| true));
    let mut quiet = rig.job(&Terms::default());
    for _ in 0..3 {
        rig.ask(&failing, &good());
    }
    let slot = quiet.slot.take().expect("a slot");
    slot.get_ref().set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let heard: Vec<String> = slot.lines().map_while(Result::ok).collect();
    found(heard.first().cloned(), "the neighbour heard nothing")
}
