//! `attest`: what is said about a cell is what the engine and the gateway say.

use sha2::{Digest as _, Sha256};

use crate::support::{TestEnv, docker};

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_cell_is_attested_by_those_who_know() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("echo old > file; git add file; git commit -qm base");
    let result = env.delegate(&repo, "Change it.\n```rehearsal\nshell echo new > file\nmessage done\n```\n");
    let job = result["job_id"].as_str().expect("a job id");
    let said = env.run(&["attest", "--json", job]).json();
    let said = &said["attestation"];

    let name = format!("anchorhold-{job}");
    let inspect = |format: &str| docker(&["inspect", "-f", format, &name]).trim().to_owned();
    assert_eq!(said["state"], "completed", "{said:#}");
    assert_eq!(said["cell"]["container_id"], inspect("{{.Id}}"));
    assert_eq!(said["image"]["id"], inspect("{{.Image}}"));
    assert_eq!(said["image"]["build"], said["attested_by"]["build"]);
    assert_eq!(said["cell"]["network"], "none");
    assert_eq!(said["cell"]["runtime"], inspect("{{.HostConfig.Runtime}}"));
    assert_eq!(said["cell"]["memory_bytes"].to_string(), inspect("{{.HostConfig.Memory}}"));
    assert_eq!(said["own_seccomp"], true);
    assert_eq!(said["output"]["patch_sha256"], sha256(&env.diff(job)));
    assert_eq!(said["input"]["manifest_verified"], true);
    let delivered = said["input"]["manifest_sha256"].as_str().expect("a digest");
    assert_eq!(delivered.len(), 64);
    assert_eq!(said["gateway"]["cell"]["capabilities_added"], serde_json::json!([]));
    assert_eq!(said["gateway"]["account"]["requests"], 2, "{said:#}");
    assert_eq!(said["unknown"], serde_json::json!([]));
    assert_eq!(said["gateway"]["policy_sha256"].as_str().map(str::len), Some(64));
    // The head is one that the ledger really has.
    let head = format!("{}:{}", said["gateway"]["ledger_head"]["seq"], said["gateway"]["ledger_head"]["sha256"].as_str().expect("a digest"));
    let verified = env.run(&["audit", "verify", "--json", "--head", &head]);
    assert_eq!(verified.code, 0, "{verified:?}");
    assert_eq!(said["recorded"]["spec_sha256"].as_str().map(str::len), Some(64));

    // It is read back: what somebody changes behind our back is told.
    docker(&["update", "--pids-limit", "77", &name]);
    let again = env.run(&["attest", "--json", job]).json();
    assert_eq!(again["attestation"]["cell"]["pids"], 77);
    let text = env.run(&["attest", job]).text();
    assert!(text.contains("pids: 77") && text.contains(delivered), "{text}");
}

#[test]
fn what_is_not_known_is_said() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("git commit -qm base --allow-empty");
    let job = env.detach(&repo, "Wait.\n```rehearsal\nshell sleep 300\nmessage done\n```\n");
    env.wait_for(&job, |status| status["state"] == "running");
    let said = env.run(&["attest", "--json", &job]).json();
    assert_eq!(said["attestation"]["output"], serde_json::Value::Null);
    assert!(said["attestation"]["unknown"][0].as_str().is_some_and(|why| why.contains("has not ended")), "{said:#}");
    env.run(&["cancel", &job]);
    let missing = env.run(&["attest", "--json", &"0".repeat(32)]);
    assert_eq!(missing.json()["error"]["code"], "job_not_found");
    assert_ne!(missing.code, 0);
}
