//! What a cell may take, and what becomes of one that takes more.

use crate::support::{Repo, TestEnv};

fn repo(env: &TestEnv) -> Repo {
    let repo = env.repo();
    // Ignored, so that what fills the disk is not in the patch.
    repo.bash("seq 5 > f; printf 'big\\nmany\\n' > .gitignore; git add .; git commit -qm base");
    repo
}

fn task(program: &str) -> String {
    format!("Run the rehearsal.\n```rehearsal\n{program}\n```\n")
}

/// Ends with a reason and code, and with the work that was done before.
#[track_caller]
fn ends(env: &TestEnv, program: &str, reason: &str, code: &str) -> serde_json::Value {
    let repo = repo(env);
    let out = env.run_in(repo.path(), &["delegate", "--json", "--deadline", "100", &task(program)]);
    let json = out.flat();
    assert_eq!((json["state"].as_str(), json["reason"].as_str()), (Some("failed"), Some(reason)), "{json:#}");
    assert_eq!((json["error"]["code"].as_str(), out.code), (Some(code), 5), "{json:#}");
    let patch = env.diff(json["job_id"].as_str().expect("job id"));
    assert!(String::from_utf8_lossy(&patch).contains("+partial"), "{json:#}");
    repo.tracked_copy().git_apply(&patch);
    json
}

/// Sixty processes of 12 MiB each in a cell of 256: whichever the kernel takes, Codex is the largest.
const HOGS: &str =
    r#"for i in $(seq 60); do python3 -c 'import time; b=bytearray(12<<20); b[::4096]=b"x"*len(b[::4096]); time.sleep(90)' & done; wait"#;

#[test]
fn memory_that_runs_out_ends_the_job_with_that_reason() {
    let owner = TestEnv::new();
    let env = owner.with("ANCHORHOLD_LIMITS_MEMORY", "256MiB");
    ends(&env, &format!("shell echo partial > p\nshell {HOGS}\nmessage done"), "memory", "out_of_memory");
}

/// The agent lowers its own score as far as it may. Where the engine could set no floor, PID 1 goes first, and the second start must know why.
#[test]
fn an_agent_that_pushes_pid_1_to_the_front_gains_nothing() {
    let owner = TestEnv::new();
    let env = owner.with("ANCHORHOLD_LIMITS_MEMORY", "256MiB");
    let lower = "for p in /proc/[0-9]*; do echo 0 > $p/oom_score_adj || echo 500 > $p/oom_score_adj; done";
    ends(&env, &format!("shell echo partial > p\nshell {lower}; {HOGS}\nmessage done"), "memory", "out_of_memory");
}

/// One process that takes too much is killed alone: the agent's processes go before PID 1, and the job goes on.
#[test]
fn one_greedy_process_does_not_end_the_job() {
    let owner = TestEnv::new();
    let env = owner.with("ANCHORHOLD_LIMITS_MEMORY", "512MiB");
    let repo = repo(&env);
    let program = "shell python3 -c 'b=[bytearray(b\"x\"*(1<<20)) for _ in range(4000)]'; echo $? > code\nmessage done";
    let result = env.delegate(&repo, &task(program));
    assert_eq!(result["state"], "completed", "{result:#}");
    let patch = String::from_utf8(env.diff(result["job_id"].as_str().expect("job id"))).expect("text");
    assert!(patch.contains("+137"), "{patch}");
}

#[test]
fn disk_in_the_workspace_and_in_home() {
    let owner = TestEnv::new();
    let env = owner.with("ANCHORHOLD_LIMITS_DISK", "64MiB");
    for place in [".", "$HOME"] {
        let program = format!("shell echo partial > p\nshell head -c 800000000 /dev/zero > {place}/big; sleep 90\nmessage done");
        ends(&env, &program, "disk", "out_of_disk");
    }
}

#[test]
fn names_in_the_workspace_and_in_home() {
    let owner = TestEnv::new();
    let env = owner.with("ANCHORHOLD_LIMITS_INODES", "3000");
    for place in [".", "$HOME"] {
        let program = format!(
            "shell echo partial > p\nshell mkdir {place}/many; cd {place}/many; python3 -c 'for i in range(30000): open(str(i), \"w\").close()'; sleep 90\nmessage done"
        );
        let json = ends(&env, &program, "disk", "out_of_disk");
        assert!(json["error"]["message"].as_str().is_some_and(|m| m.contains("files")), "{json:#}");
    }
}

#[test]
fn temporary_files_are_bounded_by_themselves() {
    let owner = TestEnv::new();
    let env = owner.with("ANCHORHOLD_LIMITS_MEMORY", "512MiB");
    let repo = repo(&env);
    let program = concat!(
        "shell head -c 400000000 /dev/zero > /tmp/big; stat -c %s /tmp/big > tmp-bytes; rm /tmp/big\n",
        "shell head -c 400000000 /dev/zero > /dev/shm/big; stat -c %s /dev/shm/big > shm-bytes; rm /dev/shm/big\n",
        "shell python3 -c 'for i in range(150000): open(\"/tmp/%d\" % i, \"w\").close()'; ls -f /tmp | wc -l > tmp-names\n",
        "message done",
    );
    let result = env.delegate(&repo, &task(program));
    assert_eq!(result["state"], "completed", "{result:#}");
    let copy = repo.tracked_copy();
    copy.git_apply(&env.diff(result["job_id"].as_str().expect("job id")));
    let number = |file: &str| std::fs::read_to_string(copy.path().join(file)).expect("a number").trim().parse::<u64>().expect("a number");
    assert!(number("tmp-bytes") <= 128 << 20 && number("shm-bytes") <= 64 << 20);
    assert!((1_000..=100_002).contains(&number("tmp-names")), "{}", number("tmp-names"));
}

#[test]
fn what_the_cell_is_stands_in_the_status_and_two_like_jobs_have_one_fingerprint() {
    let env = TestEnv::new();
    let repo = repo(&env);
    let [one, two] = [(); 2].map(|()| env.delegate(&repo, &task("message done"))["isolation"].clone());
    assert_ne!(one["agent"]["uid"], two["agent"]["uid"], "{one:#}");
    assert_eq!(one["spec_sha256"], two["spec_sha256"]);
    assert_eq!(one["spec_sha256"].as_str().map(str::len), Some(64), "{one:#}");
    assert!(one["image"].as_str().is_some_and(|id| id.starts_with("sha256:")) && one["runtime"].is_string() && one["inodes"].is_u64());
    let other = env.with("ANCHORHOLD_LIMITS_PIDS", "100").delegate(&repo, &task("message done"));
    assert_ne!(other["isolation"]["spec_sha256"], one["spec_sha256"]);
}
