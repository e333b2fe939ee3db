//! Positive controls: with one guarantee taken away the suite's own checks turn red. A suite that stays green then would prove nothing.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use crate::engine::steps::{marked, removed_by_two};
use crate::hands::removed::{
    looked_at_before_the_word, removed_and_nobody_knows, removed_then_swept, removed_while_delivered, started_again_by_its_key, tombstone_pruned,
    word_between_two_looks,
};
use crate::host::{NEVER_RAN, UNHARMED, killed, the_job};
use crate::host_end::{CANCELLED_EARLY, INTERRUPTED, bury_and_die, cancelled_too_late, nobody_else_consumes};
use crate::processes::{signal, wait_until_stopped};
use crate::support::docker;
use crate::support::rehearsal::{Step, task};
use crate::world::{World, job_id, quick_task, slow_task};

/// A guarantee, what happens to a world without it, and a word of the check that must turn red.
pub struct Control {
    pub point: &'static str,
    /// Seconds of patience with what does not happen. Where the check waits for an end, it is longer than that end takes with the guarantee.
    patience: u64,
    run: fn(&World),
    red: &'static str,
}

pub const CONTROLS: &[Control] = &[
    Control {
        point: "fault.deliverer",
        patience: 15,
        run: |world| {
            killed(world, &["delegate", "--json", "--", &quick_task()], "deliver.prepared");
            world.aftermath(&the_job(world), &NEVER_RAN);
        },
        red: "never as wanted",
    },
    Control {
        point: "fault.second_start",
        patience: 15,
        run: |world| {
            let job = world.detach(&slow_task(60));
            world.wait_until_it_ran(&job);
            docker(&["kill", "-s", "KILL", &World::container(&job)]);
            world.aftermath(&job, &INTERRUPTED);
        },
        red: "never as wanted",
    },
    Control {
        point: "fault.remove_volumes",
        patience: 15,
        run: |world| {
            let job = world.detach(&quick_task());
            world.aftermath(&job, &UNHARMED);
        },
        red: "left:",
    },
    Control {
        point: "fault.claim",
        patience: 60,
        run: |world| {
            let job = world.detach(&quick_task());
            world.wait_for(&job, |status| status["result_available"] == true);
            killed(world, &["consume", "--json", &job], "consume.claimed");
            world.aftermath(&job, &UNHARMED);
        },
        red: "job_not_found",
    },
    Control {
        point: "fault.claim_is_one",
        patience: 60,
        run: |world| {
            let job = world.detach(&quick_task());
            world.wait_for(&job, |status| status["result_available"] == true);
            let mut first = world.spawn(&["consume", "--json", &job], &[("ANCHORHOLD_FAULT", "consume.claimed=stop")]);
            wait_until_stopped(first.id());
            let told = catch_unwind(AssertUnwindSafe(|| nobody_else_consumes(world, &job)));
            signal(first.id(), "KILL");
            first.wait().expect("it ends");
            if let Err(panic) = told {
                resume_unwind(panic);
            }
        },
        red: "two got it",
    },
    Control { point: "fault.slot_release", patience: 20, run: the_slot_of_the_dead, red: "never as wanted" },
    Control { point: "init.deadline", patience: 45, run: |world| ends_by_itself(world, &["--idle", "0", "--deadline", "20"]), red: "it runs on" },
    Control { point: "fault.idle", patience: 30, run: |world| ends_by_itself(world, &["--idle", "8"]), red: "it runs on" },
    Control {
        point: "fault.tombstone_first",
        patience: 15,
        run: |world| {
            bury_and_die(world, "bury.claimed", &CANCELLED_EARLY);
        },
        // The volumes are found and the job is made again, but that it was cancelled nobody knows any more.
        red: "the one who delivers it lives",
    },
    Control { point: "fault.reseal_only", patience: 60, run: restored, red: "state or reason" },
    Control {
        point: "fault.leftover",
        patience: 15,
        run: |world| {
            removed_then_swept(world);
        },
        red: "the sweep took it",
    },
    Control {
        point: "fault.deliverers_word",
        patience: 15,
        run: |world| {
            removed_while_delivered(world);
        },
        red: "job_not_found",
    },
    Control {
        point: "fault.unheard",
        patience: 15,
        run: |world| {
            removed_and_nobody_knows(world);
        },
        red: "job_not_found",
    },
    Control {
        point: "fault.word_kept",
        patience: 15,
        run: |world| {
            tombstone_pruned(world);
        },
        red: "job_not_found",
    },
    Control {
        point: "fault.key_kept",
        patience: 15,
        run: |world| {
            started_again_by_its_key(world);
        },
        red: "one key, two jobs",
    },
    Control {
        point: "fault.marked",
        patience: 15,
        run: |_| {
            // On an engine of its own.
            marked(&[("ANCHORHOLD_WEAKEN", "fault.marked")]);
        },
        red: "state or reason",
    },
    Control {
        point: "fault.other_removal",
        patience: 15,
        run: |_| {
            removed_by_two(&[("ANCHORHOLD_WEAKEN", "fault.other_removal")]);
        },
        red: "a problem that is none",
    },
    Control {
        point: "fault.never_started",
        patience: 15,
        run: |world| {
            cancelled_too_late(world);
        },
        red: "state or reason",
    },
    Control {
        point: "fault.word_first",
        patience: 15,
        run: |world| {
            looked_at_before_the_word(world);
        },
        red: "a job that was handed out is found",
    },
    Control {
        point: "fault.look_again",
        patience: 15,
        run: |world| {
            word_between_two_looks(world);
        },
        red: "still there after consume",
    },
];

/// One slot; whoever held it is dead, and the next in the queue gets it.
fn the_slot_of_the_dead(world: &World) {
    let (code, out, err) = world.run(&["gateway", "limits", "--json", "--slots", "1"], &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    let dead = world.detach(&slow_task(600));
    world.wait_until_it_ran(&dead);
    let next = world.detach(&quick_task());
    world.wait_for(&next, |status| status["state"] == "queued");
    docker(&["kill", "-s", "KILL", &World::container(&dead)]);
    world.wait_for(&next, |status| status["result_available"] == true);
}

/// Nobody looks at the job; its cell ends all the same.
fn ends_by_itself(world: &World, flags: &[&str]) {
    let sleeps = task(&[Step::Shell("echo ran >>once.txt"), Step::Shell("sleep 3600")]);
    let (code, out, err) = world.run(&[&["delegate", "--detach", "--json"], flags, &["--", &sleeps]].concat(), &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    let job = job_id(&out);
    world.wait_until_it_ran(&job);
    let begun = Instant::now();
    let state = || docker(&["inspect", "-f", "{{.State.Status}}", &World::container(&job)]).trim().to_owned();
    while state() == "running" {
        assert!(begun.elapsed() < world.patience, "it runs on");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A job whose agent would be through at once if it ran once more.
fn restored(world: &World) {
    let waits = "[ $(grep -c ran once.txt) -ge 2 ] || sleep 600";
    let job = world.detach(&task(&[Step::Shell("echo ran >>once.txt"), Step::Shell(waits), Step::Say("done")]));
    world.wait_until_it_ran(&job);
    docker(&["rm", "-f", &World::container(&job)]);
    world.aftermath(&job, &INTERRUPTED);
}

pub fn trials() -> Vec<Trial> {
    CONTROLS.iter().map(|control| Trial::test(format!("control::{}", control.point), || turns_red(control))).collect()
}

fn turns_red(control: &Control) -> Result<(), Failed> {
    let mut world = World::with(&[("ANCHORHOLD_WEAKEN", control.point)]);
    world.warm_if(!matches!(control.point, "fault.remove_volumes" | "fault.marked" | "fault.other_removal"));
    // What does not happen need not be waited for as long as what does.
    world.patience = Duration::from_secs(control.patience);
    match catch_unwind(AssertUnwindSafe(|| (control.run)(&world))) {
        Ok(()) => Err(Failed::from(format!("nothing turned red without {}", control.point))),
        Err(panic) => {
            // A message without arguments is a plain text.
            let plain = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = panic.downcast_ref::<String>().cloned().or(plain).unwrap_or_default();
            if text.contains(control.red) { Ok(()) } else { Err(Failed::from(format!("red for another reason: {text}"))) }
        }
    }
}
