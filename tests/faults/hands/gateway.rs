//! What a user's own hands do to the gateway's container, while one job runs and one waits behind it: `docker pause`, `rename` and `stop`.

use std::time::Duration;

use super::{UNHARMED, sleepy_task};
use crate::account;
use crate::case::{Case, Row};
use crate::gateway::one_after_the_other;
use crate::queue::{limits, waits_at};
use crate::support::docker;
use crate::world::{Expected, World, quick_task};

pub const CASES: &[Case] = &[
    case("hands.gateway.pause", "docker pause of the gateway, then unpause", paused),
    case("hands.gateway.pause.next", "docker pause of the gateway, the next delegation thaws it", || revived("pause")),
    case("hands.gateway.pause.for_good", "docker pause of the gateway, nobody thaws it", || for_good("pause")),
    case("hands.gateway.stop", "docker stop of the gateway, the next delegation starts it", || revived("stop")),
    case("hands.gateway.stop.for_good", "docker stop of the gateway, nobody starts it", || for_good("stop")),
    case("hands.gateway.rename", "docker rename of the gateway", renamed),
];

const fn case(id: &'static str, fault: &'static str, run: fn() -> Row) -> Case {
    Case { id, fault, step: "one runs, one waits", points: &[], run }
}

const GONE: Expected = Expected { states: &["failed"], reasons: &["provider_unreachable"], patches: &["partial"] };
const GONE_WAITING: Expected = Expected { states: &["failed"], reasons: &["provider_unreachable"], patches: &["empty"] };

/// One slot, and jobs that wait so many seconds for a gateway that is gone.
fn one_slot(gone: &str) -> World {
    let world = World::product_with(&[("ANCHORHOLD_ENGINE_MAX_RUNNING_JOBS", "1"), ("ANCHORHOLD_GATEWAY_GONE_SECONDS", gone)]);
    world.warm();
    world
}

/// A job that runs for some seconds, and one that waits behind it.
fn two_jobs(world: &World, seconds: u64) -> (String, String) {
    let first = world.detach(&sleepy_task(seconds));
    world.wait_until_it_ran(&first);
    let second = world.detach(&quick_task());
    waits_at(world, &second, 1);
    assert_eq!(limits(world, &[], &[]), (1, 1, 1));
    (first, second)
}

fn consume(world: &World, job: &str) {
    let (code, out, err) = world.run(&["consume", "--json", job], &[]);
    assert!(code.is_some() && !world.jobs().iter().any(|listed| listed == job), "{code:?} {out}{err}");
}

/// Every job ended well, one after the other; nothing is left of the gateway's knowledge of them.
fn all_is_well(world: &World, first: &str, rest: &[&str]) -> Row {
    for job in rest {
        one_after_the_other(world, first, job);
    }
    world.look(first, &UNHARMED);
    consume(world, first);
    let (last, others) = rest.split_last().expect("one that waited");
    for job in others {
        world.look(job, &UNHARMED);
        consume(world, job);
    }
    let row = world.aftermath(last, &UNHARMED);
    assert_eq!(limits(world, &[], &[]), (1, 0, 0));
    account::the_chain_holds(world);
    row
}

/// For longer than the jobs take until they give their connections up: when the gateway goes on it finds all of them ended, and new ones.
fn paused() -> Row {
    // Silent for ten seconds is gone, for thirty is gone for good.
    let world = one_slot("30");
    let (first, second) = two_jobs(&world, 40);
    let gateway = world.env.gateway_name();
    docker(&["pause", &gateway]);
    std::thread::sleep(Duration::from_secs(14));
    // Commands answer meanwhile, and truly.
    for (job, state) in [(&first, "running"), (&second, "queued")] {
        assert_eq!(world.status(job)["state"], state);
    }
    assert_eq!(world.jobs().len(), 2);
    assert_eq!(docker(&["inspect", "-f", "{{.State.Paused}}", &gateway]).trim(), "true", "a look thawed it");
    docker(&["unpause", &gateway]);
    // Both are back, the one in its slot and the other in its place.
    let begun = std::time::Instant::now();
    while limits(&world, &[], &[]) != (1, 1, 1) {
        assert!(begun.elapsed() < world.patience, "{:?}", limits(&world, &[], &[]));
        let (ahead, behind) = (world.status(&first), world.status(&second));
        assert!(ahead["state"] == "running" && behind["state"] == "queued", "{ahead:#} {behind:#}");
    }
    waits_at(&world, &second, 1);
    all_is_well(&world, &first, &[&second])
}

/// The next delegation does what is needed, and stands at the end of the line.
fn revived(deed: &str) -> Row {
    let world = one_slot("60");
    let (first, second) = two_jobs(&world, 30);
    docker(&[deed, &world.env.gateway_name()]);
    assert_eq!(world.jobs().len(), 2);
    let third = world.detach(&quick_task());
    assert_eq!(docker(&["inspect", "-f", "{{.State.Status}}", &world.env.gateway_name()]).trim(), "running");
    waits_at(&world, &second, 1);
    waits_at(&world, &third, 2);
    all_is_well(&world, &first, &[&second, &third])
}

/// The jobs end by themselves, whoever looks.
fn for_good(deed: &str) -> Row {
    let world = one_slot("5");
    let (first, second) = two_jobs(&world, 600);
    let gateway = world.env.gateway_name();
    docker(&[deed, &gateway]);
    for job in [&first, &second] {
        let container = World::container(job);
        let begun = std::time::Instant::now();
        while docker(&["inspect", "-f", "{{.State.Running}}", &container]).trim() == "true" {
            assert!(begun.elapsed() < world.patience, "it does not end");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    world.look(&second, &GONE_WAITING);
    let row = world.look(&first, &GONE);
    assert_ne!(docker(&["inspect", "-f", "{{.State.Status}}", &gateway]).trim(), "running", "a look revived it");
    consume(&world, &second);
    world.gone_after_consume(&first);
    world.next_one_works();
    // A gateway that was not told would take them for lost.
    for job in [&first, &second] {
        let (code, out, err) = world.run(&["status", "--json", job], &[]);
        assert!(code != Some(0) && format!("{out}{err}").contains("job_not_found"), "{code:?} {out}{err}");
    }
    world.nothing_is_left();
    account::every_slot_is_free(&world);
    account::the_chain_holds(&world);
    row
}

/// There is one gateway, whatever it is called, and every command finds it.
fn renamed() -> Row {
    let world = one_slot("30");
    let (first, second) = two_jobs(&world, 20);
    let gateway = world.env.gateway_name();
    let own = format!("{gateway}-mine");
    docker(&["rename", &gateway, &own]);
    assert_eq!(limits(&world, &[], &[]), (1, 1, 1));
    let third = world.detach(&quick_task());
    waits_at(&world, &third, 2);
    let all = || docker(&["ps", "-a", "--format", "{{.Names}}", "--filter", &format!("label=anchorhold.gateway={gateway}")]);
    assert_eq!(all().trim(), own);
    all_is_well(&world, &first, &[&second, &third]);
    // Also one that does not run.
    docker(&["stop", &own]);
    let job = world.detach(&quick_task());
    world.wait_for(&job, |status| status["result_available"] == true);
    assert_eq!(all().trim(), own);
    world.aftermath(&job, &UNHARMED)
}
