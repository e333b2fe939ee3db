//! No room on the host: for what a command prints, and for its temporary files.

use std::process::Stdio;

use super::{UNHARMED, ended, sleepy_task};
use crate::case::{Case, Row};
use crate::support::docker;
use crate::world::{World, job_id, quick_task};

pub const CASES: &[Case] = &[
    Case { id: "hands.full.stdout", fault: "standard output is full (/dev/full)", step: "result, diff, consume", points: &[], run: stdout_full },
    Case { id: "hands.full.pipe", fault: "nobody reads standard output", step: "consume", points: &[], run: stdout_closed },
    Case { id: "hands.readonly.home", fault: "HOME cannot be written", step: "all", points: &[], run: no_home },
    Case { id: "hands.image.untagged", fault: "docker rmi -f of the image's name", step: "Codex runs", points: &[], run: image_gone },
];

fn stdout_full() -> Row {
    let world = World::product();
    let job = ended(&world);
    for arguments in [&["result", "--json"][..], &["diff"], &["consume", "--json"], &["consume", "--diff"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let out = world.command(&[arguments, &[job.as_str()]].concat(), &[]).stdout(full).stderr(Stdio::piped()).output().expect("it runs");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && said.contains("standard output could not be written"), "{arguments:?}: {:?} {said}", out.status);
    }
    world.aftermath(&job, &UNHARMED)
}

fn stdout_closed() -> Row {
    let world = World::product();
    let job = ended(&world);
    let mut child = world.spawn(&["consume", "--json", &job], &[]);
    drop(child.stdout.take());
    child.wait().expect("it ends");
    world.aftermath(&job, &UNHARMED)
}

fn no_home() -> Row {
    let world = World::product();
    // Root may write in any other directory.
    let variables = [("HOME", "/proc"), ("XDG_CONFIG_HOME", "/proc"), ("XDG_CACHE_HOME", "/proc")];
    let (code, out, err) = world.run(&["delegate", "--json", "--", &quick_task()], &variables);
    assert_eq!(code, Some(0), "{out}{err}");
    world.aftermath(&job_id(&out), &UNHARMED)
}

/// The running job goes on; the next one is refused with the command that mends it.
fn image_gone() -> Row {
    let world = World::product();
    let image = crate::support::weakened::product_image();
    let name = format!("anchorhold/runtime:{}", world.env.instance());
    docker(&["tag", &image, &name]);
    let own = [("ANCHORHOLD_IMAGE_NAME", name.as_str())];
    let (code, out, err) = world.run(&["delegate", "--detach", "--json", "--", &sleepy_task(3)], &own);
    assert_eq!(code, Some(0), "{out}{err}");
    let job = job_id(&out);
    world.wait_until_it_ran(&job);
    docker(&["rmi", "-f", &name]);
    let (code, out, err) = world.run(&["delegate", "--json", "--", &quick_task()], &own);
    assert!(code != Some(0) && out.contains("image_missing") && out.contains("image build"), "{code:?} {out}{err}");
    world.aftermath(&job, &UNHARMED)
}
