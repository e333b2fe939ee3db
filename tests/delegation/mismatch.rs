//! An engine that makes a container otherwise than asked is caught before anything runs in it.

use serde_json::{Value, json};

use crate::support::tamper::TamperingEngine;
use crate::support::{Repo, TestEnv};

const TASK: &str = "Do it.\n```rehearsal\nshell echo ran > p\nmessage done\n```\n";

/// What the engine does to a job's container, and the field that gives it away.
type Fault = (&'static str, fn(&mut Value));

const FAULTS: &[Fault] = &[
    ("HostConfig.CapDrop", |host| host["CapDrop"] = json!([])),
    ("HostConfig.CapAdd", |host| host["CapAdd"] = json!(["SETUID", "SETGID", "SETPCAP", "KILL", "CHOWN", "DAC_READ_SEARCH", "SYS_ADMIN"])),
    ("HostConfig.ReadonlyRootfs", |host| host["ReadonlyRootfs"] = json!(false)),
    ("HostConfig.NetworkMode", |host| host["NetworkMode"] = json!("bridge")),
    ("HostConfig.Runtime", |host| host["Runtime"] = json!("io.containerd.runc.v2")),
    ("HostConfig.MaskedPaths", |host| host["MaskedPaths"].as_array_mut().unwrap().truncate(20)),
    ("HostConfig.SecurityOpt", |host| host["SecurityOpt"] = json!(["no-new-privileges:true"])),
    ("HostConfig.SecurityOpt", |host| host["SecurityOpt"][0] = json!("no-new-privileges:false")),
    ("HostConfig.PidsLimit", |host| host["PidsLimit"] = json!(-1)),
    ("HostConfig.MemorySwap", |host| host["MemorySwap"] = json!(-1)),
    ("HostConfig.NanoCpus", |host| host["NanoCpus"] = json!(0)),
    ("HostConfig.Ulimits", |host| host["Ulimits"].as_array_mut().unwrap().truncate(3)),
    ("HostConfig.Binds", |host| host["Binds"] = json!(["/etc:/host:ro"])),
    ("HostConfig.Privileged", |host| host["Privileged"] = json!(true)),
];

fn repo(env: &TestEnv) -> Repo {
    let repo = env.repo();
    repo.bash("git commit -q --allow-empty -m base");
    repo
}

/// A user whose engine does this to the containers of jobs.
fn user(env: &TestEnv, change: fn(&mut Value)) -> TestEnv {
    let engine = TamperingEngine::new(env.home(), move |path, body| {
        // The gateway's container is left alone, and so is the stone that is put up for a job that never ran: it is not started.
        if path.contains("anchorhold-") && body["Labels"]["anchorhold.job"].is_string() && body["Labels"]["anchorhold.ended"].is_null() {
            change(&mut body["HostConfig"]);
        }
    });
    env.with("ANCHORHOLD_ENGINE_HOST", &engine.host())
}

#[test]
fn the_proxy_itself_changes_nothing() {
    let env = TestEnv::new();
    let result = user(&env, |_| {}).delegate(&repo(&env), TASK);
    assert_eq!(result["state"], "completed", "{result:#}");
}

#[test]
fn what_the_engine_drops_or_changes_is_refused_before_the_start() {
    let env = TestEnv::new();
    let repo = repo(&env);
    for (field, change) in FAULTS {
        let tampered = user(&env, *change);
        let out = tampered.run_in(repo.path(), &["delegate", "--json", TASK]);
        let json = out.flat();
        assert_eq!((json["error"]["code"].as_str(), out.code), (Some("isolation_mismatch"), 3), "{field}: {json:#}");
        assert!(json["error"].to_string().contains(field), "{field}: {json:#}");
        // What is left says how it ended and was never started: an empty container, and an empty volume that nobody's prune takes.
        let left = env.leftovers();
        assert_eq!(left[1..], [format!("{}-word", left[0])], "{field}: {left:?}");
        assert_eq!(env.docker(&["inspect", "-f", "{{.State.Status}} {{len .Mounts}}", &left[0]]).trim(), "created 1", "{field}");
        let job = left[0].trim_start_matches("anchorhold-");
        let told = env.run(&["status", "--json", job]).flat();
        assert_eq!(told["state"], "failed", "{field}: {told:#}");
        env.run(&["consume", "--json", job]);
        assert_eq!(env.leftovers(), Vec::<String>::new(), "{field}");
    }
}

/// The engine makes volumes before the container. Where it fails between the two, they do not stay: they would look like those of a job whose container
/// somebody removed.
#[test]
fn a_create_that_fails_halfway_leaves_no_volumes() {
    let env = TestEnv::new();
    let tampered = user(&env, |host| {
        let mount = json!({"Type": "volume", "Source": "never-made", "Target": "/x", "VolumeOptions": {"DriverConfig": {"Name": "no-such-driver"}}});
        host["Mounts"].as_array_mut().unwrap().push(mount);
    });
    let out = tampered.run_in(repo(&env).path(), &["delegate", "--json", TASK]);
    let json = out.flat();
    assert_eq!((json["error"]["code"].as_str(), out.code), (Some("engine_error"), 3), "{json:#}");
    assert!(json["error"].to_string().contains("no-such-driver"), "the volumes before it were made: {json:#}");
    assert_eq!(env.leftovers(), Vec::<String>::new());
    let listed = env.run(&["jobs", "--all", "--json"]).flat();
    assert_eq!(listed["jobs"], json!([]), "nothing was handed out: {listed:#}");
}

/// The gateway's container is compared as well.
#[test]
fn a_gateway_that_is_not_as_asked_is_not_started() {
    let env = TestEnv::new().with_own_gateway();
    let engine = TamperingEngine::new(env.home(), |_, body| {
        if body["Labels"]["anchorhold.gateway"].is_string() {
            body["HostConfig"]["ReadonlyRootfs"] = json!(false);
        }
    });
    let out = env.with("ANCHORHOLD_ENGINE_HOST", &engine.host()).run_in(repo(&env).path(), &["delegate", "--json", TASK]);
    let json = out.flat();
    assert_eq!(json["error"]["code"], "isolation_mismatch", "{json:#}");
    assert!(json["error"].to_string().contains("HostConfig.ReadonlyRootfs"), "{json:#}");
    assert_eq!(env.docker(&["ps", "-aq", "--filter", &format!("name=^/{}$", env.gateway_name())]), "");
    assert_eq!(env.leftovers(), Vec::<String>::new());
}
