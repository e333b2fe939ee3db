//! Single calls to the engine that are late, refused, cut or never answered: by a proxy before its socket.
//!
//! Each case delegates once, collects and consumes with the same fault upon several kinds of call. Where the product looks up or asks again, the
//! command must not even notice; elsewhere it must say what is true, and leave nothing.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use crate::case::{Case, Row};
use crate::support::TestEnv;
use crate::support::chaos::{Chaos, Kind, Rule, Way};
use crate::support::weakened::product_image;
use crate::world::{Expected, World, job_id, quick_task};

/// Calls that only look.
const READS: &[Kind] = &[Kind::Facts, Kind::Image, Kind::List, Kind::Volumes, Kind::Inspect, Kind::Logs, Kind::Download];
/// Calls that change something and are looked up, or may be made twice.
const CHANGES: &[Kind] = &[Kind::Create, Kind::Start, Kind::Rename, Kind::Remove, Kind::RemoveVolume];
/// The way to the gateway's control, which is opened anew.
const CONTROL: &[Kind] = &[Kind::Exec, Kind::ExecStart];
const FOLLOW: &[Kind] = &[Kind::Wait];

pub const CASES: &[Case] = &[
    Case {
        id: "engine.calls.late",
        fault: "every answer 100 ms late",
        step: "a whole life",
        points: &[],
        run: || unnoticed(&[Rule { kind: None, way: Way::Late(100), times: usize::MAX }]),
    },
    Case {
        id: "engine.calls.trickle",
        fault: "every answer in small pieces",
        step: "a whole life",
        points: &[],
        run: || unnoticed(&[Rule { kind: None, way: Way::Trickle, times: usize::MAX }]),
    },
    Case {
        id: "engine.calls.cut_before",
        fault: "cut before the engine sees the call",
        step: "first call of each kind but upload",
        points: &[],
        run: || unnoticed(&first(&[READS, CHANGES, CONTROL, FOLLOW], Way::CutBefore)),
    },
    Case {
        id: "engine.calls.cut_after",
        fault: "cut after the engine did it",
        step: "first call of each kind but upload",
        points: &[],
        run: || unnoticed(&first(&[READS, CHANGES, CONTROL], Way::CutAfter)),
    },
    Case {
        id: "engine.calls.cut_mid",
        fault: "cut in the middle of the answer",
        step: "first call of each kind but upload",
        points: &[],
        run: || unnoticed(&first(&[READS, CHANGES, CONTROL], Way::CutMid)),
    },
    Case {
        id: "engine.calls.error_read",
        fault: "the engine answers 500",
        step: "first call of each kind that reads",
        points: &[],
        run: || unnoticed(&first(&[READS, CONTROL, FOLLOW], Way::Error500)),
    },
    Case {
        id: "engine.calls.in_the_making",
        fault: "the answer is lost, then the name is taken and no container is there",
        step: "create",
        points: &[],
        run: || {
            let create = |way, times| Rule { kind: Some(Kind::Create), way, times };
            unnoticed(&[create(Way::CutBefore, 1), create(Way::Conflict, 2)])
        },
    },
    Case {
        id: "engine.calls.error_create",
        fault: "the engine answers 500, twice",
        step: "create",
        points: &[],
        run: || told(Kind::Create, Way::Error500, 2),
    },
    Case {
        id: "engine.calls.error_upload",
        fault: "the engine answers 500",
        step: "upload",
        points: &[],
        run: || told(Kind::Upload, Way::Error500, 1),
    },
    Case { id: "engine.calls.error_start", fault: "the engine answers 500", step: "start", points: &[], run: || told(Kind::Start, Way::Error500, 1) },
    Case {
        id: "engine.calls.cut_upload",
        fault: "cut before the engine sees it",
        step: "upload",
        points: &[],
        run: || told(Kind::Upload, Way::CutBefore, 1),
    },
    Case {
        id: "engine.calls.cut_upload_after",
        fault: "cut after the engine did it",
        step: "upload",
        points: &[],
        run: || told(Kind::Upload, Way::CutAfter, 1),
    },
    Case {
        id: "engine.calls.cut_create_twice",
        fault: "cut after the engine did it, twice",
        step: "create",
        points: &[],
        run: || told(Kind::Create, Way::CutAfter, 2),
    },
    Case {
        id: "engine.calls.never_ping",
        fault: "no answer, ever",
        step: "the first question",
        points: &[],
        run: || told(Kind::Ping, Way::Never, 1),
    },
    Case {
        id: "engine.calls.never_image",
        fault: "no answer, ever",
        step: "the look at the image",
        points: &[],
        run: || told(Kind::Image, Way::Never, 1),
    },
    Case { id: "engine.calls.never_create", fault: "no answer, ever", step: "create", points: &[], run: || told(Kind::Create, Way::Never, 2) },
    Case { id: "engine.calls.never_upload", fault: "no answer, ever", step: "upload", points: &[], run: || told(Kind::Upload, Way::Never, 1) },
    Case { id: "engine.calls.never_start", fault: "no answer, ever", step: "start", points: &[], run: || told(Kind::Start, Way::Never, 1) },
    Case {
        id: "engine.calls.never_log",
        fault: "no answer, ever",
        step: "every look at the log",
        points: &[],
        run: || told(Kind::Logs, Way::Never, 4),
    },
    Case { id: "engine.calls.never_download", fault: "no answer, ever", step: "download", points: &[], run: || told(Kind::Download, Way::Never, 1) },
    Case {
        id: "engine.calls.never_exec",
        fault: "no answer, ever",
        step: "the gateway's control",
        points: &[],
        run: || told(Kind::ExecStart, Way::Never, 1),
    },
];

fn first(kinds: &[&[Kind]], way: Way) -> Vec<Rule> {
    kinds.concat().into_iter().map(|kind| Rule { kind: Some(kind), way, times: 1 }).collect()
}

/// The machine's engine behind the proxy, and a user whose gateway is there already: it is not what is tried here.
fn user() -> (World, Chaos) {
    let directory = std::env::temp_dir();
    let chaos = Chaos::new(&directory, &machines_socket());
    let host = chaos.host();
    let variables = [("ANCHORHOLD_ENGINE_HOST", host.as_str()), ("ANCHORHOLD_ENGINE_AWAY_SECONDS", "30")];
    let world = World::of(TestEnv::of(Path::new(env!("CARGO_BIN_EXE_anchorhold")), &product_image(), &variables));
    world.warm();
    (world, chaos)
}

fn machines_socket() -> PathBuf {
    match std::env::var("DOCKER_HOST") {
        Ok(host) => host.strip_prefix("unix://").expect("these tests need an engine behind a Unix socket").into(),
        Err(_) => "/var/run/docker.sock".into(),
    }
}

/// Under these faults everything goes its way.
fn unnoticed(rules: &[Rule]) -> Row {
    let (world, chaos) = user();
    chaos.set(rules);
    let begun = Instant::now();
    let (code, out, err) = world.run(&["delegate", "--json", "--", &quick_task()], &[]);
    let answered = begun.elapsed().as_secs_f64();
    assert_eq!(code, Some(0), "{:?}: {out}{err}", chaos.happened());
    let job = job_id(&out);
    assert!(world.jobs().contains(&job));
    let row = world.look(&job, &Expected { states: &["completed"], reasons: &["completed"], patches: &["whole"] });
    let (code, out, err) = world.run(&["consume", "--json", &job], &[]);
    assert_eq!(code, Some(0), "{:?}: {out}{err}", chaos.happened());
    assert_ne!(world.run(&["status", &job], &[]).0, Some(0), "still there");
    world.run(&["gc"], &[]);
    let happened = chaos.happened();
    let missed: Vec<_> = rules.iter().filter(|rule| !happened.iter().any(|(kind, _)| rule.kind.is_none_or(|wanted| wanted == *kind))).collect();
    assert!(missed.is_empty(), "did not happen: {missed:?}");
    world.nothing_is_left();
    chaos.set(&[]);
    world.next_one_works();
    Row { answered, note: format!("{} calls met", happened.len()), ..row }
}

/// The command ends by itself and says what is true: an error with a code, or a whole job. What it left is found, true and removable.
fn told(kind: Kind, way: Way, times: usize) -> Row {
    let (world, chaos) = user();
    chaos.set(&[Rule { kind: Some(kind), way, times }]);
    let begun = Instant::now();
    let (code, out, err) = world.run(&["delegate", "--json", "--", &quick_task()], &[("ANCHORHOLD_ENGINE_ANSWER_SECONDS", "6")]);
    let answered = begun.elapsed().as_secs_f64();
    let happened = chaos.happened();
    assert!(!happened.is_empty(), "it did not happen");
    chaos.set(&[]);
    let answer: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    let said = answer["error"]["code"].as_str().unwrap_or("none").to_owned();
    match code {
        Some(0) => assert_eq!(answer["job"]["state"], "completed", "{answer:#}"),
        Some(3) => assert!(matches!(said.as_str(), "engine_unavailable" | "engine_error" | "gateway_unavailable"), "{answer:#}"),
        other => panic!("exit code {other:?}: {answer:#}{err}"),
    }
    let jobs = world.jobs();
    assert!(jobs.len() <= 1, "made more than once: {jobs:?}");
    let row = match jobs.first() {
        None => Row { state: "none".to_owned(), reason: "none".to_owned(), patch: "none".to_owned(), ..Row::default() },
        Some(job) => {
            let expected: &Expected = if code == Some(0) {
                &Expected { states: &["completed"], reasons: &["completed"], patches: &["whole"] }
            } else {
                // Nothing was delivered whole, so nothing ran; a job that was started goes its way, whoever heard of it.
                &Expected { states: &["failed", "completed"], reasons: &["failed", "completed"], patches: &["none", "whole"] }
            };
            let row = world.look(job, expected);
            assert_ne!((row.state.as_str(), row.patch.as_str()), ("completed", "none"));
            assert_ne!((row.state.as_str(), row.patch.as_str()), ("failed", "whole"));
            world.run(&["consume", "--json", job], &[]);
            row
        }
    };
    world.nothing_is_left();
    world.next_one_works();
    Row { answered, note: format!("{said}, exit {}", code.unwrap_or(-1)), ..row }
}
