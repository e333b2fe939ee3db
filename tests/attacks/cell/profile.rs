//! The list of system calls, call by call. Here the profile is the only wall: the container has the capabilities that each call asks for and may gain
//! privileges, so that a call which the profile lets pass does its work.
//!
//! A weakening of this group is no patch of a job, since no job is made: `{"allow": CALL}` lets one call pass, `{"default": true}` all.

use std::path::Path;

use serde_json::{Value, json};

use super::probe;
use crate::arena::Arena;
use crate::case::{Case, Group, Promise, Verdicts, Weakening};
use crate::support::docker;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/engine/seccomp.json");
/// Ends the names of the cases.
const SUFFIX: &str = "-by-profile";
/// Beyond PID 1's own.
const CAPABILITIES: [&str; 23] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "KILL",
    "MKNOD",
    "NET_ADMIN",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
];

macro_rules! cases {
    ($($id:literal $tries:literal,)*) => { &[$(Case { id: concat!($id, "-by-profile"), promise: Promise::Escape, tries: $tries }),*] };
}
macro_rules! allow {
    ($($call:literal $case:literal,)*) => {
        &[$(Weakening::job(concat!("seccomp.json: ", $call), concat!("{\"allow\":\"", $call, "\"}"), &[concat!($case, "-by-profile")])),*]
    };
}

pub const PROFILE: Group = Group {
    name: "profile",
    cases: cases![
        "C02-user-namespace" "with every capability: user namespaces",
        "C02-namespaces" "with every capability: other namespaces",
        "C02-setns" "with every capability: entering namespaces",
        "C02-mounts" "with every capability: mounts, by the old calls and the new",
        "C03-io-uring" "with every capability: io_uring and native asynchronous i/o",
        "C03-bpf" "with every capability: BPF",
        "C03-perf" "with every capability: performance counters",
        "C03-userfaultfd" "with every capability: userfaultfd",
        "C03-keyrings" "with every capability: key rings",
        "C03-ptrace" "with every capability: tracing",
        "C03-other-memory" "with every capability: other processes' memory and descriptors",
        "C03-handles" "with every capability: files by handle",
        "C03-sockets" "with every capability: 39 kinds of socket",
        "C03-kernel-tls" "with every capability: kernel TLS",
        "C03-administration" "with every capability: the calls that administer the machine",
        "C03-ports" "with every capability: the local descriptor table, ports",
        "C03-execution-domain" "with every capability: execution domains",
        "C03-devices" "with every capability: device nodes",
        "C03-message-queues" "with every capability and no limit: message queues",
        "C03-seccomp-listener" "with every capability: a filter with a listener",
        "C03-vmsplice" "with every capability: vmsplice, memfd_secret",
    ],
    run,
    controls: &[
        Weakening::job(
            "seccomp.json: defaultAction",
            r#"{"default":true}"#,
            &[
                "C02-user-namespace-by-profile",
                "C02-namespaces-by-profile",
                "C02-setns-by-profile",
                "C02-mounts-by-profile",
                "C03-bpf-by-profile",
                "C03-perf-by-profile",
                "C03-userfaultfd-by-profile",
                "C03-keyrings-by-profile",
                "C03-ptrace-by-profile",
                "C03-other-memory-by-profile",
                "C03-handles-by-profile",
                "C03-sockets-by-profile",
                "C03-administration-by-profile",
                "C03-ports-by-profile",
                "C03-execution-domain-by-profile",
                "C03-devices-by-profile",
                "C03-seccomp-listener-by-profile",
                "C03-vmsplice-by-profile",
            ],
        ),
        Weakening::job("seccomp.json: io_setup", r#"{"allow":"io_setup"}"#, &["C03-io-uring-by-profile"]),
        Weakening::job("seccomp.json: setsockopt", r#"{"allow":"setsockopt"}"#, &["C03-kernel-tls-by-profile"]),
        Weakening::job("seccomp.json: msgget", r#"{"allow":"msgget"}"#, &["C03-message-queues-by-profile"]),
    ],
    mutations: allow![
        "clone" "C02-user-namespace",
        "clone3" "C02-user-namespace",
        "unshare" "C02-namespaces",
        "setns" "C02-setns",
        "mount" "C02-mounts",
        "umount2" "C02-mounts",
        "pivot_root" "C02-mounts",
        "chroot" "C02-mounts",
        "fsopen" "C02-mounts",
        "fspick" "C02-mounts",
        "move_mount" "C02-mounts",
        "open_tree" "C02-mounts",
        "mount_setattr" "C02-mounts",
        "io_uring_setup" "C03-io-uring",
        "bpf" "C03-bpf",
        "perf_event_open" "C03-perf",
        "userfaultfd" "C03-userfaultfd",
        "add_key" "C03-keyrings",
        "request_key" "C03-keyrings",
        "keyctl" "C03-keyrings",
        "ptrace" "C03-ptrace",
        "process_vm_readv" "C03-other-memory",
        "process_vm_writev" "C03-other-memory",
        "kcmp" "C03-other-memory",
        "pidfd_getfd" "C03-other-memory",
        "name_to_handle_at" "C03-handles",
        "open_by_handle_at" "C03-handles",
        "modify_ldt" "C03-ports",
        "vmsplice" "C03-vmsplice",
        "memfd_secret" "C03-vmsplice",
        "reboot" "C03-administration",
        "syslog" "C03-administration",
        "acct" "C03-administration",
        "swapon" "C03-administration",
        "swapoff" "C03-administration",
        "quotactl" "C03-administration",
        "settimeofday" "C03-administration",
        "clock_settime" "C03-administration",
        "sethostname" "C03-administration",
        "vhangup" "C03-administration",
        "fanotify_init" "C03-administration",
        "personality" "C03-execution-domain",
        "mknod" "C03-devices",
        "mknodat" "C03-devices",
        "seccomp" "C03-seccomp-listener",
        "socket" "C03-sockets",
        "socketpair" "C03-sockets",
        "mq_open" "C03-message-queues",
    ],
    no_control: &[],
};

fn run(arena: &Arena, wanted: &[&str]) -> Verdicts {
    let change: Value = arena
        .variables()
        .iter()
        .find(|(name, _)| name == "ANCHORHOLD_WEAKEN_JOB")
        .map_or(Value::Null, |(_, patch)| serde_json::from_str(patch).expect("JSON"));
    let profile = weakened(&change);
    let dir = arena.env.directory();
    let (file, program) = (dir.join("profile.json"), dir.join("probe"));
    std::fs::write(&file, profile.to_string()).expect("the profile is written");
    std::fs::write(&program, probe::program()).expect("the probe is written");
    executable(&program);
    let cases: Vec<String> = wanted.iter().map(|id| probe::name(id.trim_end_matches(SUFFIX))).collect();
    let report = in_a_container(arena, &file, &program, &cases);
    let (told, errors) = probe::verdicts(&report);
    let verdicts: Verdicts = told.into_iter().map(|(id, verdict)| (format!("{id}{SUFFIX}"), verdict)).collect();
    assert!(verdicts.len() == wanted.len(), "not all could be tried: {errors:#?} {report}");
    verdicts
}

/// Our profile as it stands in the sources, with one rule undone.
fn weakened(change: &Value) -> Value {
    let mut profile: Value = serde_json::from_slice(&std::fs::read(SOURCE).expect("the profile")).expect("JSON");
    if change["default"] == true {
        profile["defaultAction"] = "SCMP_ACT_ALLOW".into();
    }
    if let Some(call) = change["allow"].as_str() {
        let rules = profile["syscalls"].as_array_mut().expect("rules");
        for rule in rules.iter_mut() {
            rule["names"].as_array_mut().expect("names").retain(|name| name != call);
        }
        rules.retain(|rule| rule["names"].as_array().is_some_and(|names| !names.is_empty()));
        rules.push(json!({"names": [call], "action": "SCMP_ACT_ALLOW"}));
    }
    profile
}

fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("executable");
}

/// Runs the probe as root in a container of its own. What it may do wrong is bounded by its arguments: the calls that it makes cannot succeed.
fn in_a_container(arena: &Arena, profile: &Path, program: &Path, cases: &[String]) -> String {
    let name = format!("anchorhold-{}-profile", arena.env.instance());
    let label = format!("anchorhold.instance={}", arena.env.instance());
    let security = format!("seccomp={}", profile.display());
    let image = arena.image();
    let mut args = vec![
        "create",
        "--name",
        &name,
        "--label",
        &label,
        "--network",
        "none",
        "--cgroupns",
        "private",
        "--ipc",
        "private",
        "--log-driver",
        "json-file",
    ];
    args.extend([
        "--cap-drop",
        "ALL",
        "--tmpfs",
        "/tmp",
        "--user",
        "0:0",
        "--ulimit",
        "msgqueue=100000",
        "--memory",
        "256m",
        "--security-opt",
        &security,
    ]);
    for capability in &CAPABILITIES {
        args.extend(["--cap-add", capability]);
    }
    args.extend(["--workdir", "/tmp", "--entrypoint", "/probe", &image, "--dir", "/tmp"]);
    args.extend(cases.iter().map(String::as_str));
    docker(&args);
    docker(&["cp", program.to_str().expect("a plain name"), &format!("{name}:/probe")]);
    let report = docker(&["start", "-a", &name]);
    docker(&["rm", "-fv", &name]);
    report
}
