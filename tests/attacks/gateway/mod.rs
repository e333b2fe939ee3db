//! Against the gateway, by whoever holds a job's connection: a compromised PID 1, or the agent through the loopback forwarder.
//!
//! The binary under attack runs as `anchorhold gateway run` on a temporary directory; the attacker writes raw bytes to its socket. What a case did is
//! read from the provider's record, the bytes that came back, `/proc/<gateway>` and the ledger, never from an error code alone. A case that finds the
//! gateway serving nobody is an error, not a success of the defence.

mod answers;
mod budget;
mod bulk;
mod connection;
mod credential;
mod head;
mod jobs;
mod json;
mod policy;
mod process;
mod provider;
mod rig;
mod table;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rig::{Answer, Job, Rig, Terms};
use table::Stage;

use crate::arena::Arena;
use crate::case::{Group, Verdict};

pub const GROUPS: &[Group] =
    &[Group { name: "gateway", cases: table::CASES, run, controls: table::CONTROLS, mutations: table::MUTATIONS, no_control: table::NO_CONTROL }];

/// Cases that run side by side: they mostly wait.
const SIDE_BY_SIDE: usize = 4;

/// All wanted cases that can share a gateway do; the others have one each.
fn run(arena: &Arena, wanted: &[&str]) -> Vec<(String, Verdict)> {
    let chosen: Vec<&table::Attack> = table::ATTACKS.iter().filter(|attack| wanted.contains(&attack.id)).collect();
    let shared = chosen.iter().any(|attack| attack.stage == Stage::Shared).then(|| Rig::start(arena));
    let (next, verdicts) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let attempt = |attack: &table::Attack| {
        let begun = Instant::now();
        let done = catch_unwind(AssertUnwindSafe(|| match (&shared, attack.stage) {
            (Some(rig), Stage::Shared) => (attack.attempt)(rig),
            (_, Stage::Impatient) => (attack.attempt)(&Rig::start_impatient(arena)),
            (_, Stage::Unprivileged) => (attack.attempt)(&Rig::start_unprivileged(arena)),
            _ => (attack.attempt)(&Rig::start(arena)),
        }));
        if std::env::var_os("ANCHORHOLD_ATTACKS_VERBOSE").is_some() {
            let word = done.as_ref().map_or_else(|_| "could not be tried".to_owned(), |verdict| format!("{verdict:?}"));
            eprintln!("{:>6} ms  {}: {word}", begun.elapsed().as_millis(), attack.id);
        }
        done
    };
    let mut failed = None;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..SIDE_BY_SIDE.min(chosen.len()))
            .map(|_| {
                scope.spawn(|| {
                    while let Some(attack) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let verdict = attempt(attack)?;
                        verdicts.lock().expect("a lock").push((attack.id.to_owned(), verdict));
                    }
                    Ok(())
                })
            })
            .collect();
        for worker in workers {
            if let Err(panic) = worker.join().expect("a worker that catches panics") {
                failed = Some(panic);
            }
        }
    });
    if let Some(panic) = failed {
        resume_unwind(panic);
    }
    verdicts.into_inner().expect("no poison")
}

/// Sends each of these byte strings on a connection of its own; breached when the provider hears of one. Afterwards a good request must arrive.
fn none_arrives(rig: &Rig, terms: &Terms, attempts: &[(String, Vec<u8>)]) -> Verdict {
    let mut statuses: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    // A job may have only so many refusals.
    for some in attempts.chunks(8) {
        let job = rig.job(terms);
        for (name, bytes) in some {
            let answer = rig.raw(&job, bytes);
            if let Some(arrived) = rig.arrived(&job).last() {
                return Verdict::Breached(format!("{name}: arrived at the provider: {}", excerpt(&arrived.body)));
            }
            *statuses.entry(answer.status().map_or_else(|| "no response".to_owned(), |s| s.to_string())).or_default() += 1;
        }
        rig.must_serve(&job);
    }
    let answers: Vec<String> = statuses.iter().map(|(status, n)| format!("{n} × {status}")).collect();
    Verdict::Blocked(format!("none of {} arrived ({})", attempts.len(), answers.join(", ")))
}

/// [`none_arrives`] for request bodies.
fn no_body_arrives<S: Into<String>, B: ToString>(rig: &Rig, bodies: impl IntoIterator<Item = (S, B)>) -> Verdict {
    let attempts: Vec<(String, Vec<u8>)> = bodies.into_iter().map(|(name, body)| (name.into(), rig::post(body.to_string().as_bytes()))).collect();
    none_arrives(rig, &Terms::default(), &attempts)
}

/// The beginning of some bytes, for a verdict.
fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(160)]).into_owned()
}

/// A verdict from the first finding, if there is one.
fn found(finding: Option<String>, otherwise: impl Into<String>) -> Verdict {
    finding.map_or_else(|| Verdict::Blocked(otherwise.into()), Verdict::Breached)
}

/// What a served request was answered with.
fn served(job: &Job, answer: &Answer) -> String {
    assert_eq!(answer.status(), Some(200), "{}: {answer:?}", job.tag);
    answer.text()
}
