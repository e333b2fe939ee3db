//! Positive controls: with one guarantee taken away the suite's own checks turn red. A suite that stays green then would prove nothing.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use libtest_mimic::{Failed, Trial};

use crate::host::{NEVER_RAN, UNHARMED, killed, the_job};
use crate::host_end::{INTERRUPTED, nobody_else_consumes};
use crate::processes::{signal, wait_until_stopped};
use crate::support::docker;
use crate::world::{World, quick_task, slow_task};

/// A guarantee, what happens to a world without it, and a word of the check that must turn red.
pub struct Control {
    pub point: &'static str,
    run: fn(&World),
    red: &'static str,
}

pub const CONTROLS: &[Control] = &[
    Control {
        point: "fault.deliverer",
        run: |world| {
            killed(world, &["delegate", "--json", "--", &quick_task()], "deliver.prepared");
            world.aftermath(&the_job(world), &NEVER_RAN);
        },
        red: "never as wanted",
    },
    Control {
        point: "fault.second_start",
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
        run: |world| {
            let job = world.detach(&quick_task());
            world.aftermath(&job, &UNHARMED);
        },
        red: "left:",
    },
    Control {
        point: "fault.claim",
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
];

pub fn trials() -> Vec<Trial> {
    CONTROLS.iter().map(|control| Trial::test(format!("control::{}", control.point), || turns_red(control))).collect()
}

fn turns_red(control: &Control) -> Result<(), Failed> {
    let mut world = World::with(&[("ANCHORHOLD_WEAKEN", control.point)]);
    world.warm_if(control.point != "fault.remove_volumes");
    // What does not happen need not be waited for as long as what does.
    world.patience = Duration::from_secs(15);
    match catch_unwind(AssertUnwindSafe(|| (control.run)(&world))) {
        Ok(()) => Err(Failed::from(format!("nothing turned red without {}", control.point))),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            if text.contains(control.red) { Ok(()) } else { Err(Failed::from(format!("red for another reason: {text}"))) }
        }
    }
}
