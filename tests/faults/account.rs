//! What the gateway itself says: its counts, its account of a job, its ledger.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Pauses, docker};
use crate::world::World;

/// One control request to this user's gateway; `None` where it does not answer.
pub fn ask(world: &World, request: &Value) -> Option<Value> {
    let name = world.env.gateway_name();
    let mut command = anchorhold::process::command("docker", world.repo.path());
    command.args(["exec", "-i", "-u", "20000:0", &name, "/usr/local/bin/anchorhold", "gateway", "admin"]);
    if let Ok(host) = std::env::var("DOCKER_HOST") {
        command.env("DOCKER_HOST", host);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("docker runs");
    let mut input = child.stdin.take().expect("its input");
    // A gateway that is gone takes nothing.
    let _ = writeln!(input, "{request}");
    drop(input);
    let out = child.wait_with_output().expect("it ends");
    serde_json::from_slice(&out.stdout).ok()
}

/// Jobs that hold a slot.
pub fn slots_in_use(world: &World) -> Option<u64> {
    ask(world, &json!({"op": "status"}))?["running"].as_u64()
}

/// The gateway's account of a job.
pub fn of_job(world: &World, job: &str) -> Value {
    let begun = std::time::Instant::now();
    let mut pauses = Pauses::new();
    loop {
        if let Some(account) = ask(world, &json!({"op": "job", "job_id": job}))
            && account["type"] == "job"
        {
            return account;
        }
        assert!(begun.elapsed() < crate::world::PATIENCE, "the gateway gives no account of {job}");
        pauses.wait();
    }
}

/// The ledger's chain holds from its first line to its last.
pub fn the_chain_holds(world: &World) {
    let begun = std::time::Instant::now();
    let mut pauses = Pauses::new();
    loop {
        let (code, out, err) = world.run(&["audit", "verify", "--json"], &[]);
        if code == Some(0) {
            return;
        }
        assert!(begun.elapsed() < crate::world::PATIENCE && code != Some(12), "the ledger: {code:?} {out}{err}");
        pauses.wait();
    }
}

/// The ledger's lines about a job.
pub fn lines(world: &World, job: &str) -> Vec<Value> {
    let (code, out, err) = world.run(&["audit", "show", "--json", job], &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    let answer: Value = serde_json::from_str(&out).expect("one JSON document");
    answer["lines"].as_array().expect("lines").clone()
}

/// How often the engine has started the gateway again.
pub fn restarts(world: &World) -> u64 {
    docker(&["inspect", "-f", "{{.RestartCount}}", &world.env.gateway_name()]).trim().parse().expect("a number")
}

/// No slot is held once nothing runs.
pub fn every_slot_is_free(world: &World) {
    let begun = std::time::Instant::now();
    let mut pauses = Pauses::new();
    while slots_in_use(world) != Some(0) {
        assert!(begun.elapsed() < crate::world::PATIENCE, "a slot is held by nobody");
        pauses.wait();
    }
}
