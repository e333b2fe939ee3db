//! kill -9 of a process of ours on the host, at each step of starting and delivering a job.

use crate::case::{Case, Row};
use crate::mcp::Server;
use crate::world::{Expected, World, job_id, quick_task, slow_task};
use serde_json::json;

/// A job that goes on without whoever started it.
pub const UNHARMED: Expected = Expected { states: &["completed"], reasons: &["completed"], patches: &["whole"] };
/// A job that was never started and never will be.
pub const NEVER_RAN: Expected = Expected { states: &["interrupted"], reasons: &["interrupted"], patches: &["none"] };

const fn delivery(id: &'static str, step: &'static str, points: &'static [&'static str], run: fn() -> Row) -> Case {
    Case { id, fault: "kill -9 of `delegate`", step, points, run }
}

pub const CASES: &[Case] = &[
    delivery("host.start.checked", "everything checked, no container yet", &["start.checked"], || {
        let world = World::with(&[]);
        killed(&world, &["delegate", "--json", "--", &quick_task()], "start.checked");
        assert_eq!(world.jobs(), Vec::<String>::new());
        no_job(&world)
    }),
    delivery("host.start.created", "the container is there, the handle not yet told", &["start.created"], || undelivered("start.created")),
    delivery("host.deliver.admitting", "before the gateway hears of it", &["deliver.admitting"], || undelivered("deliver.admitting")),
    delivery("host.deliver.admitted", "the gateway has admitted it", &["deliver.admitted"], || undelivered("deliver.admitted")),
    delivery("host.deliver.uploading", "in the middle of the upload", &["deliver.uploading"], || undelivered("deliver.uploading")),
    delivery("host.deliver.uploaded", "all is uploaded", &["deliver.uploaded"], || undelivered("deliver.uploaded")),
    delivery("host.deliver.verified", "the container was compared with what was asked", &["deliver.verified"], || undelivered("deliver.verified")),
    delivery("host.deliver.prepared", "before the start", &["deliver.prepared"], || undelivered("deliver.prepared")),
    delivery("host.deliver.started", "right after the start", &["deliver.started"], || {
        let world = World::with(&[]);
        killed(&world, &["delegate", "--json", "--", &quick_task()], "deliver.started");
        world.aftermath(&the_job(&world), &UNHARMED)
    }),
    Case { id: "host.delegate.running", fault: "kill -9 of the waiting `delegate`", step: "Codex runs", points: &[], run: waiting_process_dies },
    Case {
        id: "host.deliver.stopped",
        fault: "SIGSTOP of `delegate`, later SIGCONT",
        step: "before the start",
        points: &["deliver.prepared"],
        run: stopped_deliverer_is_not_buried,
    },
    Case {
        id: "host.key.held",
        fault: "kill -9 of a start with a key",
        step: "the key's name is held",
        points: &["start.key_held"],
        run: key_is_taken_over,
    },
    Case {
        id: "host.key.unswept",
        fault: "kill -9 of a start with a key, and no sweep before the next start",
        step: "the key's name is held",
        points: &["start.key_held"],
        run: key_is_taken_over_whole,
    },
    Case {
        id: "host.key.renamed",
        fault: "kill -9 of a start with a key",
        step: "the key's holder has become the job",
        points: &["start.key_renamed"],
        run: || {
            let world = World::with(&[]);
            let start = ["delegate", "--json", "--idempotency-key", "k", "--", &quick_task()];
            killed(&world, &start, "start.key_renamed");
            world.aftermath(&the_job(&world), &NEVER_RAN)
        },
    },
    Case {
        id: "host.mcp.delivering",
        fault: "kill -9 of the MCP server",
        step: "it delivers a job that it has handed out",
        points: &["deliver.uploading"],
        run: || {
            let world = World::with(&[]);
            world.warm();
            let mut server = Server::open(&world, &[("ANCHORHOLD_FAULT", "deliver.uploading=stop")]);
            let handle = server.call("codex_delegate_async", &json!({"task": quick_task(), "workspace_root": world.repo.path()}));
            let job = handle.expect("a handle")["job_id"].as_str().expect("an id").to_owned();
            server.kill();
            world.aftermath(&job, &NEVER_RAN)
        },
    },
    Case {
        id: "host.mcp.running",
        fault: "kill -9 of the MCP server",
        step: "Codex runs, a call waits for it",
        points: &[],
        run: || {
            let world = World::product();
            let mut server = Server::open(&world, &[]);
            server.send("codex_delegate", &json!({"task": slow_task(20), "workspace_root": world.repo.path()}));
            let job = appears(&world);
            world.wait_until_it_ran(&job);
            server.kill();
            world.aftermath(&job, &UNHARMED)
        },
    },
    Case {
        id: "host.mcp.client_gone",
        fault: "the MCP client closes its end",
        step: "the server delivers a job that it has handed out",
        points: &["deliver.uploading"],
        run: || {
            let world = World::with(&[]);
            world.warm();
            let mut server = Server::open(&world, &[("ANCHORHOLD_FAULT", "deliver.uploading=wait:1500")]);
            let handle = server.call("codex_delegate_async", &json!({"task": quick_task(), "workspace_root": world.repo.path()}));
            let job = handle.expect("a handle")["job_id"].as_str().expect("an id").to_owned();
            assert_eq!(world.status(&job)["state"], "preparing", "the delivery waits");
            server.close();
            world.aftermath(&job, &UNHARMED)
        },
    },
];

/// Runs a command that must die at a point, as by `kill -9`.
pub fn killed(world: &World, arguments: &[&str], point: &str) {
    let (code, out, err) = world.run(arguments, &[("ANCHORHOLD_FAULT", point)]);
    assert_eq!(code, None, "it was not killed at {point}: {out}{err}");
}

/// The only job there is.
pub fn the_job(world: &World) -> String {
    match world.jobs().as_slice() {
        [job] => job.clone(),
        jobs => panic!("one job was expected: {jobs:?}"),
    }
}

/// The only job there is beside another.
pub fn job_but(world: &World, other: &str) -> String {
    let mut jobs = world.jobs();
    jobs.retain(|job| job != other);
    match jobs.as_slice() {
        [job] => job.clone(),
        jobs => panic!("one job more was expected: {jobs:?}"),
    }
}

/// Nothing was handed out, so nothing may be left.
pub fn no_job(world: &World) -> Row {
    let begun = std::time::Instant::now();
    world.nothing_is_left();
    let answered = begun.elapsed().as_secs_f64();
    world.next_one_works();
    Row { state: "none".into(), reason: "none".into(), patch: "none".into(), answered, note: String::new() }
}

/// Waits for the first job of a user.
pub fn appears(world: &World) -> String {
    let begun = std::time::Instant::now();
    let mut pauses = crate::support::Pauses::new();
    loop {
        if let [job] = world.jobs().as_slice() {
            return job.clone();
        }
        assert!(begun.elapsed() < crate::world::PATIENCE, "no job");
        pauses.wait();
    }
}

fn undelivered(point: &'static str) -> Row {
    let world = World::with(&[]);
    killed(&world, &["delegate", "--json", "--", &quick_task()], point);
    let job = the_job(&world);
    // The very first answer must be true.
    let first = world.status(&job);
    assert_eq!((&first["state"], &first["result_available"]), (&json!("interrupted"), &json!(true)), "{first:#}");
    world.aftermath(&job, &NEVER_RAN)
}

fn waiting_process_dies() -> Row {
    let world = World::product();
    let mut child = world.spawn(&["delegate", "--json", "--", &slow_task(20)], &[]);
    let job = appears(&world);
    world.wait_until_it_ran(&job);
    child.kill().expect("it is there");
    child.wait().expect("it ends");
    world.aftermath(&job, &UNHARMED)
}

fn stopped_deliverer_is_not_buried() -> Row {
    let world = World::with(&[]);
    let mut child = world.spawn(&["delegate", "--json", "--", &quick_task()], &[("ANCHORHOLD_FAULT", "deliver.prepared=stop")]);
    let job = appears(&world);
    crate::processes::wait_until_stopped(child.id());
    for _ in 0..3 {
        world.run(&["gc"], &[]);
        assert_eq!(world.status(&job)["state"], "preparing", "its deliverer lives");
    }
    crate::processes::signal(child.id(), "CONT");
    child.wait().expect("it ends");
    world.aftermath(&job, &UNHARMED)
}

fn key_is_taken_over() -> Row {
    let world = World::with(&[]);
    let start = ["delegate", "--json", "--detach", "--idempotency-key", "k", "--", &quick_task()];
    killed(&world, &start, "start.key_held");
    assert_eq!(world.jobs(), Vec::<String>::new());
    let begun = std::time::Instant::now();
    let (code, out, err) = world.run(&start, &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    let took = begun.elapsed().as_secs_f64();
    let row = world.aftermath(&job_id(&out), &UNHARMED);
    Row { note: format!("the next start with the key took {took:.1} s"), ..row }
}

/// Whoever takes a key over takes the dead one's volumes away too. Left alone they would look like those of a job that was removed from outside: they are older than
/// the gateway, which cannot say that it never heard of them, and so they came back as a job of their own.
fn key_is_taken_over_whole() -> Row {
    let world = World::with(&[]);
    let start = ["delegate", "--json", "--detach", "--idempotency-key", "k", "--", &quick_task()];
    killed(&world, &start, "start.key_held");
    assert_eq!(world.env.leftovers().len(), 3, "the killed start has made a container and two volumes: {:?}", world.env.leftovers());
    let begun = std::time::Instant::now();
    // Nothing that sweeps comes before it; its own sweep begins when the job is made.
    let (code, out, err) = world.run(&start, &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    let (took, job) = (begun.elapsed().as_secs_f64(), job_id(&out));
    let others: Vec<String> = world.env.leftovers().into_iter().filter(|name| !name.contains(&job)).collect();
    assert_eq!(others, Vec::<String>::new(), "of the start that was killed");
    assert_eq!(the_job(&world), job, "and no job that came back");
    let row = world.aftermath(&job, &UNHARMED);
    Row { note: format!("the next start with the key took {took:.1} s"), ..row }
}
