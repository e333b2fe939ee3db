//! The gateway dies as by kill -9 at each of its own steps, once. The engine starts it again, the job goes on and completes, and what it is charged
//! fits what the provider saw: each answered request once, a lost one at what was set aside for it, one that never left not at all.

use serde_json::Value;

use crate::account;
use crate::case::{Case, Row};
use crate::support::provider::Provider;
use crate::upstream::{ANSWER, detach, script, world};
use crate::world::Expected;

const UNHARMED: Expected = Expected { states: &["completed"], reasons: &["completed"], patches: &["whole"] };

/// A point, and how many requests the provider saw and was not heard out on, and how many are charged at their reservation.
struct Point {
    name: &'static str,
    unheard: u64,
    reserved: u64,
}

const fn point(name: &'static str, unheard: u64, reserved: u64) -> Point {
    Point { name, unheard, reserved }
}

/// Every other moment has both at 0. At `departed` a request stands as sent of which no byte has left: to say so later would leave one free that has.
const POINTS: [Point; 15] = [
    point("gateway.admit", 0, 0),
    point("gateway.admitted", 0, 0),
    point("gateway.slot", 0, 0),
    point("gateway.read", 0, 0),
    point("gateway.reserved", 0, 0),
    point("gateway.sending", 0, 0),
    point("gateway.departed", 0, 1),
    point("gateway.first_byte", 1, 1),
    point("gateway.ended", 1, 1),
    point("gateway.counted", 1, 1),
    point("gateway.settled", 0, 0),
    point("gateway.line", 0, 0),
    // The same on a later request.
    point("gateway.sending", 0, 0),
    point("gateway.ended", 1, 1),
    point("gateway.settled", 0, 0),
];

/// The first of the points that are met a second time.
const SECOND: usize = 12;

const fn case<const N: usize>(id: &'static str, step: &'static str, points: &'static [&'static str]) -> Case {
    Case { id, fault: "kill -9 of the gateway", step, points, run: dies_at::<N> }
}

pub const CASES: &[Case] = &[
    case::<0>("gateway.dies.admit", "before a job is admitted", &["gateway.admit"]),
    case::<1>("gateway.dies.admitted", "admitted, before the ledger's line", &["gateway.admitted"]),
    case::<2>("gateway.dies.slot", "slot granted, before the record", &["gateway.slot"]),
    case::<3>("gateway.dies.read", "request read", &["gateway.read"]),
    case::<4>("gateway.dies.reserved", "tokens set aside", &["gateway.reserved"]),
    case::<5>("gateway.dies.sending", "connected to the provider", &["gateway.sending"]),
    case::<6>("gateway.dies.departed", "written down as sent", &["gateway.departed"]),
    case::<7>("gateway.dies.first_byte", "the answer begins", &["gateway.first_byte"]),
    case::<8>("gateway.dies.ended", "the answer is complete", &["gateway.ended"]),
    case::<9>("gateway.dies.counted", "counted, before the record", &["gateway.counted"]),
    case::<10>("gateway.dies.settled", "record written, before the line", &["gateway.settled"]),
    case::<11>("gateway.dies.line", "ledger line written", &["gateway.line"]),
    case::<12>("gateway.dies.sending.later", "connected, second request", &["gateway.sending"]),
    case::<13>("gateway.dies.ended.later", "answer complete, second request", &["gateway.ended"]),
    case::<14>("gateway.dies.settled.later", "record written, second request", &["gateway.settled"]),
    Case {
        id: "gateway.dies.claimed",
        fault: "kill -9 of the gateway",
        step: "a claim is written down, not answered",
        points: &["gateway.claimed"],
        run: at_the_end::<2>,
    },
    Case {
        id: "gateway.dies.revoke",
        fault: "kill -9 of the gateway",
        step: "before a pass is revoked",
        points: &["gateway.revoke"],
        run: at_the_end::<0>,
    },
    Case {
        id: "gateway.dies.revoked",
        fault: "kill -9 of the gateway",
        step: "revoked, before the ledger's line",
        points: &["gateway.revoked"],
        run: at_the_end::<1>,
    },
];

fn dies_at<const N: usize>() -> Row {
    let Point { name, unheard, reserved } = &POINTS[N];
    let fault = if N >= SECOND { format!("{name}#2") } else { (*name).to_owned() };
    let world = world(&[("ANCHORHOLD_FAULT_GATEWAY", &fault), ("ANCHORHOLD_MODEL_UNREACHABLE_SECONDS", "60")], true);
    let provider = Provider::choosing(|_, seen| Some(script(seen)));
    let job = detach(&world, &provider.url("/v1"));
    world.wait_for(&job, |status| status["result_available"] == true);
    assert_eq!(account::restarts(&world), 1, "{fault} did not happen, or more than it");

    let seen = provider.seen().len() as u64;
    let account = account::of_job(&world, &job);
    let lines = account::lines(&world, &job);
    let of = |outcome: &str| lines.iter().filter(|line| line["outcome"] == outcome).collect::<Vec<&Value>>();
    let died: u64 = of("gateway_died").iter().map(|line| line["estimated_tokens"].as_u64().expect("a count")).sum();
    assert_eq!(of("gateway_died").len() as u64, *reserved, "{lines:#?}");
    assert!(*reserved == 0 || died > ANSWER, "what was set aside is more than an answer: {lines:#?}");
    assert_eq!(account["charged_tokens"].as_u64(), Some(ANSWER * (seen - unheard) + died), "the provider saw {seen}: {account:#} {lines:#?}");
    assert_eq!(account["reserved_tokens"], 0, "{account:#}");
    account::every_slot_is_free(&world);
    account::the_chain_holds(&world);
    let mut row = world.aftermath(&job, &UNHARMED);
    row.note = format!("{seen} requests seen, {} tokens charged", account["charged_tokens"]);
    row
}

fn at_the_end<const N: usize>() -> Row {
    let fault = ["gateway.revoke", "gateway.revoked", "gateway.claimed"][N];
    let world = world(&[("ANCHORHOLD_FAULT_GATEWAY", fault)], true);
    let provider = Provider::choosing(|_, seen| Some(script(seen)));
    let job = detach(&world, &provider.url("/v1"));
    // Its own consume is what kills the gateway.
    let row = world.aftermath(&job, &UNHARMED);
    assert_eq!(account::restarts(&world), 1, "{fault} did not happen, or more than it");
    account::the_chain_holds(&world);
    account::every_slot_is_free(&world);
    row
}
