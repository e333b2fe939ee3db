//! Several attempts at one task: one snapshot, all patches side by side.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::TestEnv;
use crate::support::rehearsal::{Step, task};

#[test]
fn attempts_begin_with_the_same_snapshot_and_are_listed_side_by_side() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("seq 20 > a.txt; git add .; git commit -qm base; echo edit >> a.txt");
    let program =
        task(&[Step::Shell("hostname > who; sed -i s/^5$/five/ a.txt"), Step::Shell("pytest() { return 3; }; pytest -q"), Step::Say("done")]);
    let out = env.run_in(repo.path(), &["delegate", "--attempts", "3", "--json", &program]);
    let json = out.json();
    assert_eq!((&json["ok"], out.code), (&true.into(), 0), "{out:?}");
    let attempts = json["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 3);
    let mut digests = Vec::new();
    for (number, attempt) in attempts.iter().enumerate() {
        assert_eq!(
            (&attempt["attempt"], &attempt["state"], &attempt["files_count"]),
            (&(number + 1).into(), &"completed".into(), &2.into()),
            "{attempt:#}"
        );
        assert_eq!(
            (&attempt["tests"]["runs"], &attempt["tests"]["passed"], &attempt["tests"]["exit_code"]),
            (&1.into(), &false.into(), &3.into()),
            "{attempt:#}"
        );
        let job = attempt["job_id"].as_str().expect("a job");
        assert_eq!(attempt["patch_bytes"], env.diff(job).len());
        digests.push(env.run(&["attest", "--json", job]).json()["attestation"]["input"]["manifest_sha256"].clone());
    }
    assert!(digests.iter().all(|digest| digest.is_string() && *digest == digests[0]), "{digests:?}");
    // For people; and where nothing is known of tests, that is said.
    let text = env.run_in(repo.path(), &["delegate", "--attempts", "2", &task(&[Step::Shell("echo x > x"), Step::Say("done")])]).text();
    assert!(text.contains("TESTS RUN") && text.matches("unknown").count() == 2 && text.contains("\n2: x"), "{text}");
}

#[test]
fn numbers_out_of_range_start_nothing() {
    let env = TestEnv::new();
    for number in ["0", "9", "x"] {
        let out = env.run(&["delegate", "--json", "--attempts", number, "do it"]);
        assert_eq!((&out.json()["error"]["code"], out.code), (&"invalid_arguments".into(), 2), "{out:?}");
    }
    assert_eq!(env.leftovers(), Vec::<String>::new());
}

#[test]
fn ctrl_c_cancels_all_attempts_and_keeps_their_work() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("echo x > f; git add .; git commit -qm base");
    let program = task(&[Step::Shell("echo half > work"), Step::Shell("sleep 600"), Step::Say("never")]);
    let mut command = env.command(repo.path(), &["delegate", "--attempts", "2", "--json", &program]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let start = std::time::Instant::now();
    loop {
        let listed = env.run_in(repo.path(), &["jobs", "--json"]).json();
        let busy = |job: &serde_json::Value| job["untrusted_activity"].as_str().is_some_and(|said| said.contains("sleep"));
        if listed["jobs"].as_array().is_some_and(|jobs| jobs.len() == 2 && jobs.iter().all(busy)) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "never as wanted: {listed:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
    kill_process(Pid::from_child(&child), Signal::INT).expect("it is there");
    let out = child.wait_with_output().expect("it ends");
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {out:?}"));
    assert_eq!((out.status.code(), &json["error"]["code"]), (Some(8), &"job_cancelled".into()), "{json:#}");
    let attempts = json["attempts"].as_array().expect("attempts");
    assert!(attempts.len() == 2 && attempts.iter().all(|attempt| attempt["state"] == "cancelled" && attempt["files_count"] == 1), "{json:#}");
}
