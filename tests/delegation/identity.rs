//! Each job has a uid of its own, and a name for it.

use std::path::Path;

use anchorhold::process;

use crate::support::{Repo, TestEnv};

fn task(program: &str) -> String {
    format!("Run the rehearsal.\n```rehearsal\n{program}\n```\n")
}

#[test]
fn the_agent_has_a_name_that_it_cannot_change() {
    let env = TestEnv::new();
    let repo = env.repo();
    let program = concat!(
        "shell { whoami; id -gn; python3 -c 'import getpass; print(getpass.getuser())'; getent passwd agent | cut -d: -f6; } > names\n",
        "shell for f in /etc/passwd /job/etc/passwd /etc/group; do echo x >> $f; unlink $f; mv $f /tmp/x; chmod 666 $f; done 2>/dev/null; mv /job/etc /job/x; whoami > still\n",
        "shell git commit -q --allow-empty -m mine; git log -1 --format=%s > committed\n",
        "message done",
    );
    let result = env.delegate(&repo, &task(program));
    assert_eq!(result["state"], "completed", "{result:#}");
    let copy = repo.tracked_copy();
    copy.git_apply(&env.diff(result["job_id"].as_str().expect("job id")));
    let text = |file: &str| std::fs::read_to_string(copy.path().join(file)).expect("a file");
    assert_eq!(text("names"), "agent\nagent\nagent\n/job/home\n");
    assert_eq!((text("still").as_str(), text("committed").as_str()), ("agent\n", "mine\n"));
}

fn with_probe(env: &TestEnv) -> Repo {
    let repo = env.repo();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attacks/probe.c");
    let out = process::command("cc", repo.path()).args(["-static", "-O1", "-o", "probe"]).arg(source).output().expect("cc runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    repo.bash("git add probe; git commit -qm probe");
    repo
}

/// The kernel counts inotify instances by user: a job that takes all of its own leaves its neighbour's alone.
#[test]
fn what_the_kernel_counts_by_user_is_not_shared() {
    let env = TestEnv::new();
    let repo = with_probe(&env);
    let greedy = env.detach(&repo, &task("shell PROBE_HOLD=100 ./probe r11-per-user\nmessage done"));
    env.wait_for(&greedy, |s| s["state"] == "running" && s["answers"].as_u64().is_some_and(|n| n >= 1));
    let count = "shell sleep 3; python3 -c 'import ctypes; c=ctypes.CDLL(None); print(sum(c.inotify_init1(0) >= 0 for _ in range(20)))' > taken\nmessage done";
    let result = env.delegate(&repo, &task(count));
    assert_eq!(result["state"], "completed", "{result:#}");
    let patch = String::from_utf8(env.diff(result["job_id"].as_str().expect("job id"))).expect("text");
    assert!(patch.contains("+20"), "{patch}");
    // The greedy one did hold what it took.
    assert_eq!(env.run(&["status", "--json", &greedy]).flat()["state"], "running");
    env.run(&["cancel", "--json", &greedy]);
}
