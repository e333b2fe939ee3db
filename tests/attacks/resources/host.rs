//! Cases that the host judges: how the job ends, what it leaves, and when.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::each;
use crate::arena::Arena;
use crate::case::{Verdict, Verdicts};
use crate::cell::probe;
use crate::support::{Repo, TestEnv};

/// What a job may outlive its end by.
const GRACE: Duration = Duration::from_secs(10);

pub fn ends(arena: &Arena, wanted: &[&str]) -> Verdicts {
    each(arena, wanted, |arena, id| match id {
        "R02-disk" => over_its_disk(arena, "head -c 96M /dev/zero > big"),
        "R03-inodes" => over_its_disk(arena, "mkdir many; for i in $(seq 6000); do : > many/$i; done"),
        "R03-depth" => depth(arena),
        "R05-output" => output(arena),
        "R06-first-process" => first_process(arena),
        "R09-unkillable" => unkillable(arena),
        "R10-admission" => admission(arena),
        "R12-deadline" => deadline(arena),
        _ => panic!("no such case: {id}"),
    })
}

fn committed(repo: Repo) -> Repo {
    repo.bash("git commit -qm base --allow-empty");
    repo
}

/// A task whose first step leaves something behind.
pub fn task(script: &str) -> String {
    format!("Take all.\n```rehearsal\nshell echo partial > partial\nshell {script}\nmessage done\n```\n")
}

/// The job's files as its patch has them; the patch must hold what was done before.
pub fn patched(env: &TestEnv, repo: &Repo, job: &str) -> Repo {
    let copy = repo.tracked_copy();
    copy.git_apply(&env.diff(job));
    copy
}

/// Blocked: it ends with this reason, and with its partial work.
fn ends_for(env: &TestEnv, repo: &Repo, result: &Value, reasons: &[&str]) -> Verdict {
    let job = result["job_id"].as_str().expect("a job id");
    let partial = patched(env, repo, job).path().join("partial").exists();
    let reason = result["reason"].as_str().unwrap_or("none");
    Verdict::of(
        !partial || !reasons.contains(&reason),
        format!("{} for {reason}, partial work {}", result["state"], if partial { "there" } else { "LOST" }),
    )
}

fn over_its_disk(arena: &Arena, script: &str) -> Verdict {
    let env = arena.env.with("ANCHORHOLD_LIMITS_DISK", "32MiB").with("ANCHORHOLD_LIMITS_INODES", "2000");
    let repo = committed(arena.env.repo());
    let result = env.delegate(&repo, &task(&format!("{script}; sleep 6")));
    ends_for(&env, &repo, &result, &["disk"])
}

fn depth(arena: &Arena) -> Verdict {
    let repo = probe::repository(arena);
    let result = arena.env.delegate(&repo, &task("./probe --limit 1200 r03-depth; true"));
    ends_for(&arena.env, &repo, &result, &["completed", "disk"])
}

/// What is kept of it: the container's log, and what was sealed. Codex cuts the output of a command, so many commands make the flood; its own output is
/// tried as well.
fn output(arena: &Arena) -> Verdict {
    let env = &arena.env;
    let repo = probe::repository(arena);
    let into_codex = "for p in /proc/[0-9]*; do if test \"$(cat $p/comm)\" = codex; then head -c 64M /dev/zero | tr '\\0' x > $p/fd/1 && echo flooded > flooded; fi; done 2> why";
    let floods = "shell ./probe --limit 2 r05-output; true\n".repeat(16);
    let program = format!("Take all.\n```rehearsal\nshell echo partial > partial\nshell {into_codex}; true\n{floods}message done\n```\n");
    let result = env.delegate(&repo, &program);
    let job = result["job_id"].as_str().expect("a job id");
    let container = format!("anchorhold-{job}");
    let log = env.docker(&["logs", &container]).len();
    let to = env.directory();
    env.docker(&["cp", &format!("{container}:/job/out"), to.to_str().expect("a plain name")]);
    let sealed = size(&to);
    let copy = patched(env, &repo, job);
    let why = std::fs::read_to_string(copy.path().join("why")).unwrap_or_default();
    let flooded = copy.path().join("flooded").exists();
    let kept = copy.path().join("partial").exists();
    let detail = format!(
        "{} for {}; log {log} bytes, sealed {sealed} bytes; Codex's output flooded: {flooded} {}",
        result["state"],
        result["reason"],
        why.trim()
    );
    Verdict::of(log > 4 << 20 || sealed > 12 << 20 || !kept, detail)
}

/// Bytes of the regular files below.
fn size(root: &Path) -> u64 {
    let entries = std::fs::read_dir(root).expect("a directory").map(|entry| entry.expect("an entry"));
    entries.map(|entry| if entry.path().is_dir() { size(&entry.path()) } else { entry.metadata().map_or(0, |meta| meta.len()) }).sum()
}

/// Where there is a floor under the score, the agent dies; else PID 1 does, and the second start seals.
fn first_process(arena: &Arena) -> Verdict {
    let env = arena.env.with("ANCHORHOLD_LIMITS_MEMORY", "256MiB");
    let repo = probe::repository(arena);
    let result = env.delegate(&repo, &task("./probe --limit 1024 r06-first-process; sleep 2; true"));
    ends_for(&env, &repo, &result, &["completed", "memory"])
}

/// Cancelled while processes stay that do all they can to stay; one of them writes until the end.
fn unkillable(arena: &Arena) -> Verdict {
    let env = &arena.env;
    let repo = probe::repository(arena);
    let beats = "(trap '' TERM INT HUP USR1; setsid bash -c 'i=0; while :; do i=$((i+1)); echo $i >> beat; done' &)";
    let job =
        env.detach(&repo, &task(&format!("./probe r09-unkillable r09-fork-chain > /dev/null 2>&1; {beats}; sleep 0.3; touch ready; sleep 600")));
    let container = format!("anchorhold-{job}");
    env.wait_for(&job, |s| s["state"] == "running");
    let until = Instant::now() + Duration::from_secs(60);
    while env.docker(&["exec", &container, "sh", "-c", "test -e /workspace/ready && echo yes; true"]).trim() != "yes" {
        assert!(Instant::now() < until, "the processes were never started");
        std::thread::sleep(Duration::from_millis(100));
    }
    let asked = Instant::now();
    let mut cancel = env.command(env.home(), &["cancel", "--json", &job]).spawn().expect("it runs");
    let running = || env.docker(&["inspect", "-f", "{{.State.Running}}", &container]).trim() == "true";
    while running() && asked.elapsed() < GRACE * 2 {
        std::thread::sleep(Duration::from_millis(50));
    }
    let took = asked.elapsed();
    cancel.wait().expect("it ends");
    let result = env.run(&["result", "--json", &job]).flat();
    let copy = patched(env, &repo, &job);
    let sealed = std::fs::read_to_string(copy.path().join("beat")).unwrap_or_default();
    let to = env.directory().join("beat");
    env.docker(&["cp", &format!("{container}:/workspace/beat"), to.to_str().expect("a plain name")]);
    let last = std::fs::read_to_string(to).unwrap_or_default();
    let kept = copy.path().join("partial").exists();
    let detail =
        format!("{}, gone after {} ms, {} beats sealed, {} made", result["state"], took.as_millis(), sealed.lines().count(), last.lines().count());
    Verdict::of(took > GRACE || sealed != last || last.is_empty() || !kept, detail)
}

/// One slot: the second waits until the first has ended.
fn admission(arena: &Arena) -> Verdict {
    let owner = TestEnv::of(arena.binary(), &arena.image(), &pairs(arena));
    let env = owner.with("ANCHORHOLD_ENGINE_MAX_RUNNING_JOBS", "1");
    let repo = committed(env.repo());
    let first = env.detach(&repo, &task("sleep 600"));
    env.wait_for(&first, |s| s["state"] == "running");
    let second = env.detach(&repo, &task("sleep 600"));
    let state = env.wait_for(&second, |s| ["queued", "running", "completed"].iter().any(|state| s["state"] == *state))["state"].clone();
    // It may look queued for a moment in any case.
    std::thread::sleep(Duration::from_secs(2));
    let later = env.run(&["status", "--json", &second]).flat()["state"].clone();
    let still = env.run(&["status", "--json", &first]).flat()["state"].clone();
    assert_eq!(still, "running", "the first job holds its slot");
    Verdict::of(later != "queued", format!("the second job is {state}, later {later}"))
}

fn pairs(arena: &Arena) -> Vec<(&str, &str)> {
    arena.variables().iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// Nobody is there to end it but its own PID 1.
fn deadline(arena: &Arena) -> Verdict {
    let env = arena.env.with("ANCHORHOLD_LIMITS_DEADLINE_SECONDS", "10");
    let repo = committed(arena.env.repo());
    let job = env.detach(&repo, &task("trap '' TERM; sleep 600"));
    let container = format!("anchorhold-{job}");
    let begun = Instant::now();
    let running = || env.docker(&["inspect", "-f", "{{.State.Running}}", &container]).trim() == "true";
    // To start may take its time on a busy machine; the ten seconds count from Codex's start, which nobody outside is told.
    let most = Duration::from_secs(10) + GRACE + Duration::from_secs(6);
    while running() && begun.elapsed() < most {
        std::thread::sleep(Duration::from_millis(200));
    }
    Verdict::of(running(), format!("ran for {} s at most", begun.elapsed().as_secs()))
}
