//! The runtime image, given another name, its name given to another image, or removed. Each case has an image of its own: the product's layers under
//! another id and another name, so that nobody else's is touched.

use std::time::Instant;

use serde_json::{Value, json};

use super::{INTERRUPTED, UNHARMED, endless, sleepy_task, there};
use crate::case::{Case, Row};
use crate::support::docker;
use crate::support::weakened::product_image;
use crate::world::{World, quick_task};

pub const CASES: &[Case] = &[
    Case { id: "hands.image.untagged", fault: "docker rmi -f of the image's name", step: "Codex runs", points: &[], run: untagged },
    Case {
        id: "hands.image.retagged_running",
        fault: "the image's name is given to another image, then docker kill",
        step: "Codex runs",
        points: &[],
        run: retagged_before_the_second_start,
    },
    Case {
        id: "hands.image.retagged_between",
        fault: "the image's name is given to an image of another build",
        step: "between two delegations",
        points: &[],
        run: retagged_between,
    },
    Case {
        id: "hands.image.removed_died",
        fault: "docker kill, then docker rmi -f of the image",
        step: "before the second start",
        points: &[],
        run: removed_before_the_second_start,
    },
    Case {
        id: "hands.image.removed_restored",
        fault: "docker rm -f of job and gateway, docker rmi -f of the image",
        step: "before its container is made again",
        points: &[],
        run: removed_before_it_is_restored,
    },
];

/// An image of the case's own; untagged and removed when dropped.
struct OwnImage {
    name: String,
    id: String,
    /// What got its name.
    others: Vec<String>,
}

impl OwnImage {
    fn new() -> Self {
        let name = format!("anchorhold-test/own:{}", uuid::Uuid::new_v4().simple());
        let id = Self::derive(&name, &format!("anchorhold.test={name}"));
        Self { name, id, others: Vec::new() }
    }

    /// Gives a name to what the product's image becomes with another label.
    fn derive(name: &str, label: &str) -> String {
        let container = docker(&["create", "--network", "none", &product_image(), "true"]);
        let id = docker(&["commit", "--change", &format!("LABEL {label}"), container.trim(), name]);
        docker(&["rm", "-f", container.trim()]);
        let id = id.trim().to_owned();
        assert!(id.starts_with("sha256:"), "no image was made: {id}");
        id
    }

    /// Gives its name to an image that holds another build.
    fn give_the_name_away(&mut self) {
        let other = Self::derive(&self.name, "anchorhold.build=0000");
        assert_ne!(other, self.id);
        assert_eq!(docker(&["image", "inspect", "-f", "{{.Id}}", &self.name]).trim(), other);
        self.others.push(other);
    }

    /// Removes it from the engine, which takes that where nothing runs from it.
    fn remove(&self) {
        docker(&["rmi", "-f", &self.id]);
        assert!(docker(&["image", "ls", "-aq", "--no-trunc"]).lines().all(|id| id != self.id), "the fault did not happen");
    }
}

impl Drop for OwnImage {
    fn drop(&mut self) {
        for image in [&self.name, &self.id].into_iter().chain(&self.others) {
            docker(&["rmi", "-f", image]);
        }
    }
}

/// A user of an image; the image is dropped after the user's jobs.
fn user() -> (World, OwnImage) {
    let image = OwnImage::new();
    (World::product_with(&[("ANCHORHOLD_IMAGE_NAME", &image.name)]), image)
}

/// One JSON document of a command with the product's image; its exit code.
fn said(world: &World, arguments: &[&str]) -> (Option<i32>, Value) {
    let (code, out, err) = world.run(arguments, &[]);
    (code, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}")))
}

/// The running job goes on; the next one is refused with the command that mends it.
fn untagged() -> Row {
    let (world, image) = user();
    let job = world.detach(&sleepy_task(3));
    world.wait_until_it_ran(&job);
    docker(&["rmi", "-f", &image.name]);
    let (code, answer) = said(&world, &["delegate", "--json", "--", &quick_task()]);
    assert_eq!((code, &answer["error"]["code"]), (Some(3), &json!("image_missing")), "{answer:#}");
    assert!(answer["error"]["hint"].as_str().is_some_and(|hint| hint.contains("image build")), "{answer:#}");
    docker(&["tag", &product_image(), &image.name]);
    world.aftermath(&job, &UNHARMED)
}

/// A container knows its image by id, whatever its name means by now.
fn retagged_before_the_second_start() -> Row {
    let (world, mut image) = user();
    let job = endless(&world);
    image.give_the_name_away();
    docker(&["kill", "-s", "KILL", &World::container(&job)]);
    let row = world.look(&job, &INTERRUPTED);
    assert_eq!(docker(&["inspect", "-f", "{{.Image}}", &World::container(&job)]).trim(), image.id, "it was sealed in another image");
    world.gone_after_consume(&job);
    docker(&["tag", &product_image(), &image.name]);
    world.next_one_works();
    row
}

fn retagged_between() -> Row {
    let (world, mut image) = user();
    world.warm();
    image.give_the_name_away();
    let begun = Instant::now();
    let (code, answer) = said(&world, &["delegate", "--json", "--", &quick_task()]);
    let answered = begun.elapsed().as_secs_f64();
    assert_eq!((code, &answer["error"]["code"]), (Some(3), &json!("image_mismatch")), "{answer:#}");
    assert!(answer["error"]["hint"].as_str().is_some_and(|hint| hint.contains("image build")), "{answer:#}");
    assert_eq!(world.jobs(), Vec::<String>::new());
    world.nothing_is_left();
    docker(&["tag", &product_image(), &image.name]);
    world.next_one_works();
    Row { state: "none".into(), reason: "none".into(), patch: "none".into(), answered, note: "image_mismatch".into() }
}

/// A container that has died keeps its image's layers, though the image is gone.
fn removed_before_the_second_start() -> Row {
    let (world, image) = user();
    let job = endless(&world);
    docker(&["kill", "-s", "KILL", &World::container(&job)]);
    // What runs from it keeps the engine from removing it.
    docker(&["rm", "-f", &world.env.gateway_name()]);
    image.remove();
    let row = world.look(&job, &INTERRUPTED);
    world.gone_after_consume(&job);
    docker(&["tag", &product_image(), &image.name]);
    world.next_one_works();
    row
}

/// Nothing is left to make its container from, and that is said with what mends it; then it is made from another image of the same build.
fn removed_before_it_is_restored() -> Row {
    let (world, image) = user();
    let job = endless(&world);
    for container in [&World::container(&job), &world.env.gateway_name()] {
        docker(&["rm", "-f", container]);
        assert!(!there(container), "the fault did not happen");
    }
    image.remove();
    let status = world.status(&job);
    assert_eq!((&status["state"], &status["reason"]), (&json!("lost"), &json!("lost")), "{status:#}");
    assert!(status["detail"].as_str().is_some_and(|detail| detail.contains("image build")), "{status:#}");
    docker(&["tag", &product_image(), &image.name]);
    world.aftermath(&job, &INTERRUPTED)
}
