//! Two users of one engine: what belongs to the one is not there for the other, by list, by id or by sweep.

use super::contest::answer;
use super::{SHORT_LIVED, wait_until_expired, whole};
use crate::case::{Case, Row};
use crate::support::docker;
use crate::world::{World, job_id, quick_task, slow_task};

pub const CASES: &[Case] = &[
    Case { id: "instances.shared_gateway", fault: "another user's every command", step: "running, ended, expired", points: &[], run: shared_gateway },
    Case { id: "instances.own_gateways", fault: "another user's every command", step: "running, ended, expired", points: &[], run: own_gateways },
    Case { id: "instances.control", fault: "the instance is not looked at", step: "running", points: &[], run: control },
];

fn shared_gateway() -> Row {
    let mine = World::product();
    let mut theirs = World::product();
    theirs.env.set("ANCHORHOLD_GATEWAY_NAME", &mine.env.gateway_name());
    apart(&mine, &theirs)
}

fn own_gateways() -> Row {
    apart(&World::product(), &World::product())
}

/// What one user's commands do to a job that is not theirs, by id: those that were answered as if it were.
fn answered_to(stranger: &World, job: &str) -> Vec<&'static str> {
    let verbs = ["status", "result", "cancel", "consume"];
    verbs.into_iter().filter(|verb| !answer(stranger, &[verb, "--json", job], &[]).not_found()).collect()
}

fn apart(mine: &World, theirs: &World) -> Row {
    let running = mine.detach(&slow_task(600));
    let ended = job_id(&answer(mine, &["delegate", "--json", "--", &quick_task()], &[]).json.to_string());
    let expired = job_id(&answer(mine, &["delegate", "--json", "--", &quick_task()], SHORT_LIVED).json.to_string());
    // A job of their own, so that there is something to be found, swept and listed.
    let other = job_id(&answer(theirs, &["delegate", "--json", "--", &quick_task()], &[]).json.to_string());
    wait_until_expired();
    for job in [&running, &ended, &expired] {
        assert_eq!(answered_to(theirs, job), [""; 0], "{job}");
    }
    assert_eq!(theirs.jobs(), std::slice::from_ref(&other));
    let gc = answer(theirs, &["gc", "--json"], &[]);
    let report = &gc.json["report"];
    assert_eq!((report["expired"].as_array().map(Vec::len), &report["passes"]), (Some(0), &0.into()), "{gc:?}");
    for job in [&running, &ended, &expired] {
        assert_eq!(docker(&["ps", "-aq", "--filter", &format!("name=^anchorhold-{job}$")]).lines().count(), 1, "{job} is still there");
    }
    // It runs on, with its pass: it is cancelled by its owner, not failed by somebody's sweep.
    let cancelled = answer(mine, &["cancel", "--json", &running], &[]);
    assert_eq!((cancelled.code, cancelled.state()), (Some(0), Some("cancelled")), "{cancelled:?}");
    assert!(whole(&answer(mine, &["consume", "--json", &ended], &[])), "untouched");
    assert!(whole(&answer(theirs, &["consume", "--json", &other], &[])), "untouched");
    assert!(answer(mine, &["consume", "--json", &running], &[]).state().is_some());
    answer(mine, &["gc", "--json"], &[]);
    mine.nothing_is_left();
    theirs.nothing_is_left();
    Row { state: "apart".into(), reason: "-".into(), patch: "whole".into(), answered: 0.0, note: "status, result, cancel, consume, jobs, gc".into() }
}

/// Without the look at the label a stranger's id is as good as one's own: so the rows above can fail.
fn control() -> Row {
    let mine = World::product();
    let stranger = World::with(&[("ANCHORHOLD_WEAKEN", "callers.instance")]);
    let running = mine.detach(&slow_task(600));
    let seen = answer(&stranger, &["status", "--json", &running], &[]);
    assert!(seen.code == Some(0) && seen.state().is_some(), "the wall is gone, and the id still leads nowhere: {seen:?}");
    assert!(answer(&mine, &["cancel", "--json", &running], &[]).state().is_some());
    mine.gone_after_consume(&running);
    Row { state: "seen".into(), reason: "-".into(), patch: "-".into(), answered: 0.0, note: "as it must be without the wall".into() }
}
