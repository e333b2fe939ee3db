//! Clients whose clocks are wrong by a day or by ten years, and a gateway whose clock is.

use super::{INTERRUPTED, UNHARMED, ended, endless, there};
use crate::case::{Case, Row};
use crate::support::docker;
use crate::world::{Expected, World};

const DAY_MS: i64 = 86_400_000;

pub const CASES: &[Case] = &[
    Case {
        id: "hands.clock.client_ahead",
        fault: "a client ten years ahead lists and sweeps",
        step: "ended, running",
        points: &[],
        run: || client(3_650 * DAY_MS + DAY_MS),
    },
    Case {
        id: "hands.clock.client_behind",
        fault: "a client ten years behind lists and sweeps",
        step: "ended, running",
        points: &[],
        run: || client(-3_650 * DAY_MS),
    },
    Case { id: "hands.clock.gateway_ahead", fault: "a gateway's clock two days ahead", step: "all", points: &[], run: gateway_ahead },
    Case {
        id: "hands.rm.restorer_dies",
        fault: "kill -9 of who restores a job",
        step: "its container is made again",
        points: &["restore.created"],
        run: restorer_dies,
    },
];

const CANCELLED: Expected = Expected { states: &["cancelled"], reasons: &["cancelled"], patches: &["partial"] };

fn client(offset_ms: i64) -> Row {
    let world = World::with(&[]);
    let (ended, running) = (ended(&world), endless(&world));
    let offset = offset_ms.to_string();
    let off = [("ANCHORHOLD_CLOCK_MS", offset.as_str())];
    for arguments in [&["gc", "--json"][..], &["jobs", "--all", "--json"], &["status", "--json", &running]] {
        let (code, out, err) = world.run(arguments, &off);
        assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
    }
    let (_, out, _) = world.run(&["status", "--json", &running], &off);
    let status: serde_json::Value = serde_json::from_str(&out).expect("one document");
    let elapsed = status["elapsed_ms"].as_u64().or(status["job"]["elapsed_ms"].as_u64()).expect("an age");
    assert!(elapsed < DAY_MS.unsigned_abs(), "nonsense: {status:#}");
    assert!(world.jobs().contains(&ended) && world.status(&running)["state"] == "running", "the client's clock decided");
    // A job that such a client starts has the engine's time on it.
    let (code, out, err) = world.run(&["delegate", "--json", "--", &crate::world::quick_task()], &off);
    assert_eq!(code, Some(0), "{out}{err}");
    let started = crate::world::job_id(&out);
    let age = world.status(&started)["elapsed_ms"].as_u64().expect("an age");
    assert!(age < DAY_MS.unsigned_abs(), "its age is {age} ms");
    for job in [&ended, &started] {
        assert_eq!(world.run(&["consume", job], &[]).0, Some(0));
    }
    assert_eq!(world.run(&["cancel", &running], &[]).0, Some(0));
    world.aftermath(&running, &CANCELLED)
}

fn gateway_ahead() -> Row {
    let offset = (2 * DAY_MS).to_string();
    let world = World::with(&[("ANCHORHOLD_CLOCK_MS_GATEWAY", &offset)]);
    let job = ended(&world);
    world.aftermath(&job, &UNHARMED)
}

fn restorer_dies() -> Row {
    let world = World::with(&[]);
    let job = endless(&world);
    docker(&["rm", "-f", &World::container(&job)]);
    let (code, out, err) = world.run(&["status", "--json", &job], &[("ANCHORHOLD_FAULT", "restore.created")]);
    assert!(code.is_none() && there(&World::container(&job)), "the fault did not happen: {code:?} {out}{err}");
    world.aftermath(&job, &INTERRUPTED)
}
