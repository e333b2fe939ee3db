//! The image that a job runs in: whose it is, and what it may decide; what comes in from the user's own Codex, from a job
//! that another goes on with, and with a change under review.

mod continuing;
mod inherit;
mod reviewing;

use anchorhold::process;

use crate::arena::Arena;
use crate::case::{Case, Group, Promise, Verdict, Verdicts, Weakening};
use crate::export::host;
use crate::support::rehearsal::{Step, task};
use crate::support::{Repo, docker};

pub const GROUPS: &[Group] = &[GROUP, inherit::GROUP, continuing::GROUP, reviewing::GROUP];

const GROUP: Group = Group {
    name: "supply",
    cases: &[
        Case { id: "S01-tag-moved", promise: Promise::Downgrade, tries: "the image's tag is pointed at another image" },
        Case { id: "S01-pinned", promise: Promise::Downgrade, tries: "the tag is moved, but the settings name the image by its id" },
        Case { id: "S02-recorded", promise: Promise::Downgrade, tries: "an image named by a tag: which one it was is on record" },
        Case { id: "S03-other-binary", promise: Promise::Downgrade, tries: "an image with the binary of another build" },
        Case { id: "C15-volumes", promise: Promise::Downgrade, tries: "an image that declares volumes" },
        Case {
            id: "C15-image-settings",
            promise: Promise::Escape,
            tries: "an image with entry point, command, user, health check, working directory, ONBUILD of its own",
        },
    ],
    run,
    controls: &[
        Weakening::point(&["image.build"], &["S01-tag-moved", "S03-other-binary"]),
        Weakening::point(&["image.volumes"], &["C15-volumes"]),
        Weakening {
            name: "image's own settings",
            // What an image adds is found by the comparison, too.
            points: &["engine.inspect"],
            job: r#"{"Entrypoint":null,"User":null,"Healthcheck":null,"WorkingDir":null}"#,
            gateway: "",
            breaches: &["C15-image-settings"],
        },
    ],
    mutations: &[],
    no_control: &[
        ("S01-pinned", "an id is resolved by the engine alone: nothing of ours stands between"),
        ("S02-recorded", "the engine itself keeps the id of the image that a container was made from"),
    ],
};

fn run(arena: &Arena, wanted: &[&str]) -> Verdicts {
    // The gateway stands before the images are made: it must not be made from one of them.
    arena.env.delegate(&repository(arena), &task(&[Step::Say("first")]));
    let tried = |id: &&str| {
        let verdict = match *id {
            "S01-tag-moved" => {
                let image = Image::of(arena, "LABEL anchorhold.build= anchorhold.binary= anchorhold.version=");
                refused(arena, &image.name, "image_mismatch")
            }
            "S01-pinned" | "S02-recorded" => recorded(arena, *id == "S01-pinned"),
            "S03-other-binary" => {
                let image = Image::of(arena, "LABEL anchorhold.build=0123456789abcdef0123456789abcdef");
                refused(arena, &image.name, "image_mismatch")
            }
            "C15-volumes" => {
                let image = Image::of(arena, "VOLUME /workspace /run/anchorhold");
                refused(arena, &image.name, "image_mismatch")
            }
            "C15-image-settings" => settings(arena),
            _ => return None,
        };
        Some(((*id).to_owned(), verdict))
    };
    wanted.iter().filter_map(tried).collect()
}

fn repository(arena: &Arena) -> Repo {
    let repo = arena.env.repo();
    repo.bash("echo x > f; git add .; git commit -qm base");
    repo
}

/// An image on top of the arena's, removed at the end.
struct Image {
    name: String,
}

impl Image {
    fn of(arena: &Arena, instructions: &str) -> Self {
        let name = format!("anchorhold/attack:{}-{}", arena.env.instance(), &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let directory = arena.env.directory();
        std::fs::write(directory.join("Dockerfile"), format!("FROM {}\n{instructions}\n", arena.image())).expect("file");
        let mut command = process::command("docker", &directory);
        if let Ok(host) = std::env::var("DOCKER_HOST") {
            command.env("DOCKER_HOST", host);
        }
        let out = command.args(["build", "-q", "-t", &name, "."]).output().expect("the docker client runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Self { name }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        for container in docker(&["ps", "-aq", "--filter", &format!("ancestor={}", self.name)]).lines() {
            docker(&["rm", "-fv", container]);
        }
        docker(&["rmi", &self.name]);
    }
}

fn refused(arena: &Arena, image: &str, code: &str) -> Verdict {
    let attempt = host::attempt(arena, repository(arena).path(), &[("ANCHORHOLD_IMAGE_NAME", image)]);
    Verdict::of(!attempt.refused_as(&[code]), attempt.detail())
}

/// A job on a tag of its own, which is moved to another image while the job is there; the second runs by the id.
fn recorded(arena: &Arena, pinned: bool) -> Verdict {
    let image = Image::of(arena, "LABEL attack=first");
    let id = docker(&["image", "inspect", "-f", "{{.Id}}", &image.name]).trim().to_owned();
    let (name, moved) = if pinned { (id.clone(), true) } else { (image.name.clone(), false) };
    let other = Image::of(arena, "LABEL attack=second");
    if moved {
        docker(&["tag", &other.name, &image.name]);
    }
    let user = arena.env.with("ANCHORHOLD_IMAGE_NAME", &name);
    let result = user.delegate(&repository(arena), &task(&[Step::Say("done")]));
    let kept = format!("{}-kept", image.name);
    docker(&["tag", &id, &kept]);
    let _kept = Image { name: kept };
    if !moved {
        docker(&["tag", &other.name, &image.name]);
    }
    let job = result["job_id"].as_str().unwrap_or_else(|| panic!("{result:#}"));
    let made_from = docker(&["inspect", "-f", "{{.Image}}", &format!("anchorhold-{job}")]).trim().to_owned();
    let attested = user.run(&["attest", "--json", job]).text();
    docker(&["rm", "-fv", &format!("anchorhold-{job}")]);
    Verdict::of(made_from != id || !attested.contains(&id), format!("made from {made_from}, attested: {}", attested.contains(&id)))
}

/// Whatever the image says about how it is run is overruled.
fn settings(arena: &Arena) -> Verdict {
    let trojan = r#"USER 0
WORKDIR /tmp
ENV LD_PRELOAD=/workspace/f BASH_ENV=/workspace/f GIT_TRACE=/workspace/marker
HEALTHCHECK --interval=1s CMD echo CANARY-C15
ONBUILD RUN touch /onbuild
STOPSIGNAL SIGKILL
ENTRYPOINT ["/bin/sh","-c","echo CANARY-C15"]
CMD ["CANARY-C15"]"#;
    let image = Image::of(arena, trojan);
    let user = arena.env.with("ANCHORHOLD_IMAGE_NAME", &image.name);
    let repo = repository(arena);
    let out = user
        .run_in(
            repo.path(),
            &["delegate", "--json", &task(&[Step::Shell("sleep 2; echo ${GIT_TRACE-none} > seen; ls -A > listing"), Step::Say("done")])],
        )
        .flat();
    if out["error"]["code"] == "isolation_mismatch" {
        return Verdict::Blocked(format!("refused before the start: {}", out["error"]["message"]));
    }
    let job = out["job_id"].as_str().unwrap_or_else(|| panic!("{out:#}")).to_owned();
    let container = format!("anchorhold-{job}");
    let log = docker(&["logs", &container]);
    let health =
        docker(&["inspect", "-f", "{{json .State.Health}}{{json .Config.Entrypoint}}{{.Config.WorkingDir}}{{.Config.StopSignal}}", &container]);
    let patch = String::from_utf8_lossy(&user.diff(&job)).into_owned();
    docker(&["rm", "-fv", &container]);
    let ran = log.contains("CANARY-C15") || health.contains("CANARY-C15") || out["state"] != "completed";
    let environment = !patch.contains("+none") || patch.contains("marker");
    Verdict::of(ran || environment, format!("{} {}, reached the agent's environment: {environment}", out["state"], health.trim()))
}
