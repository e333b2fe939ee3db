//! What the engine says that a job's container is, compared with what it must be: written down here a second time, and everything that is not
//! written down must be empty.

use serde_json::{Value, json};

use crate::case::Verdict;
use crate::support::TestEnv;

/// Fields that say what became of the container, or that only repeat others.
const TOLD_ELSEWHERE: [&str; 4] = ["ContainerIDFile", "ConsoleSize", "Isolation", "MaskedPaths"];

/// `Config` of a job with the settings of the group.
fn config(image: &str) -> Value {
    json!({
        "Hostname": "anchorhold", "Domainname": "", "User": "0:0",
        "AttachStdin": false, "AttachStdout": false, "AttachStderr": false, "Tty": false, "OpenStdin": false, "StdinOnce": false,
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "Cmd": [], "Healthcheck": {"Test": ["NONE"]}, "Image": image, "Volumes": null, "WorkingDir": "/",
        "Entrypoint": ["/usr/local/bin/anchorhold", "init"], "OnBuild": null, "StopSignal": "SIGTERM", "StopTimeout": 30,
    })
}

/// `HostConfig` of a job with the settings of the group: 1 GiB of memory, 1.5 processors, 200 processes, 2 GiB of disk.
fn host_config(container: &str, gateway: &str) -> Value {
    let volume = |name: String, target: &str, extra: Value| {
        let mut mount = json!({"Type": "volume", "Source": name, "Target": target, "VolumeOptions": {"NoCopy": true}});
        if let (Some(mount), Some(extra)) = (mount.as_object_mut(), extra.as_object()) {
            mount.extend(extra.clone());
        }
        mount
    };
    // Three times: the disk limit, twice the largest workspace, half a GiB.
    let largest_file = 3 * ((2_i64 << 30) + (2 << 30) + (512 << 20));
    let ulimits: Vec<Value> =
        [("core", 0), ("fsize", largest_file), ("memlock", 64 << 10), ("msgqueue", 0), ("nice", 0), ("nofile", 16_384), ("rtprio", 0)]
            .map(|(name, value)| json!({"Name": name, "Hard": value, "Soft": value}))
            .to_vec();
    let runtime = std::env::var("ANCHORHOLD_ENGINE_RUNTIME").unwrap_or_else(|_| "runc".to_owned());
    json!({
        "NetworkMode": "none", "Dns": ["127.0.0.1"], "DnsSearch": ["."], "DnsOptions": [],
        "CapDrop": ["ALL"], "CapAdd": ["CHOWN", "DAC_READ_SEARCH", "KILL", "SETGID", "SETPCAP", "SETUID"],
        "IpcMode": "private", "CgroupnsMode": "private", "ReadonlyRootfs": true,
        "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "LogConfig": {"Type": "json-file", "Config": {"max-file": "2", "max-size": "2097152"}},
        "Runtime": runtime, "Memory": 1_i64 << 30, "MemorySwap": 1_i64 << 30, "NanoCpus": 1_500_000_000, "PidsLimit": 200,
        "OomScoreAdj": 500, "ShmSize": 64 << 20, "Ulimits": ulimits, "Sysctls": {"kernel.shm_rmid_forced": "1"},
        "Tmpfs": {"/tmp": format!("rw,exec,nosuid,nodev,size={},nr_inodes=100000,mode=1777", 256 << 20)},
        "Mounts": [
            volume(format!("{container}-workspace"), "/workspace", json!({})),
            volume(format!("{container}-job"), "/job", json!({})),
            volume(format!("{gateway}-socket"), "/run/anchorhold", json!({"ReadOnly": true})),
        ],
    })
}

/// Breached where the record differs.
pub fn verdict(env: &TestEnv, image: &str, container: &str) -> Verdict {
    let record: Value = serde_json::from_str(&env.docker(&["inspect", container])).expect("the engine's record");
    let record = &record[0];
    let image = env.docker(&["image", "inspect", "-f", "{{.Id}}", image]);
    let mut differences = Vec::new();
    let job = container.trim_start_matches("anchorhold-");
    let mut config_now = record["Config"].clone();
    if config_now["Labels"]["anchorhold.job"] != job {
        differences.push("the label is another".to_owned());
    }
    // A weakened build says so in a variable.
    if let Some(variables) = config_now["Env"].as_array_mut() {
        variables.retain(|variable| !variable.as_str().is_some_and(|text| text.starts_with("ANCHORHOLD_WEAKEN")));
    }
    compare("Config", &config_now, &config(image.trim()), &["Labels"], &mut differences);
    let mut host_now = record["HostConfig"].clone();
    differences.extend(masks(&host_now));
    differences.extend(security(&mut host_now));
    for list in ["CapAdd", "ReadonlyPaths"] {
        if let Some(items) = host_now[list].as_array_mut() {
            items.sort_by_key(ToString::to_string);
        }
    }
    if let Some(mounts) = host_now["Mounts"].as_array_mut() {
        for options in mounts.iter_mut().filter_map(|mount| mount.get_mut("VolumeOptions")?.as_object_mut()) {
            options.remove("Labels");
            // An engine with quotas is asked for one.
            options.remove("DriverConfig");
        }
    }
    compare("HostConfig", &host_now, &host_config(container, &env.gateway_name()), &TOLD_ELSEWHERE, &mut differences);
    Verdict::of(!differences.is_empty(), if differences.is_empty() { "as it must be".to_owned() } else { differences.join("; ") })
}

/// Each expected field as expected; each other one empty.
fn compare(what: &str, now: &Value, expected: &Value, skip: &[&str], differences: &mut Vec<String>) {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    };
    for (name, wanted) in expected.as_object().into_iter().flatten() {
        if now[name] != *wanted && !(empty(&now[name]) && empty(wanted)) {
            differences.push(format!("{what}.{name} is {}", now[name]));
        }
    }
    for (name, value) in now.as_object().into_iter().flatten() {
        if expected.get(name).is_none() && !skip.contains(&name.as_str()) && !empty(value) {
            differences.push(format!("{what}.{name} is {value}"));
        }
    }
}

/// The paths that every engine masks by itself must be masked still, since a list of ours replaces its list.
fn masks(host: &Value) -> Option<String> {
    const ALWAYS: [&str; 10] = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/sys/firmware",
    ];
    let masked = host["MaskedPaths"].as_array().map_or(&[][..], Vec::as_slice);
    let missing: Vec<&str> = ALWAYS.into_iter().filter(|path| !masked.iter().any(|masked| masked == path)).collect();
    (!missing.is_empty()).then(|| format!("not masked: {}", missing.join(" ")))
}

/// No new privileges, and a profile that refuses by default. Takes the options out.
fn security(host: &mut Value) -> Option<String> {
    let options = host["SecurityOpt"].take();
    let options: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let profile = options.iter().find_map(|option| option.strip_prefix("seccomp="));
    let refuses =
        profile.and_then(|text| serde_json::from_str::<Value>(text).ok()).is_some_and(|profile| profile["defaultAction"] == "SCMP_ACT_ERRNO");
    let good = options.len() == 2 && refuses && options.contains(&"no-new-privileges:true");
    (!good).then(|| format!("SecurityOpt is {}", options.iter().map(|o| &o[..o.len().min(60)]).collect::<Vec<_>>().join(", ")))
}
