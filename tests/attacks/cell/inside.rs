//! One delegation in which Codex runs all light cases of the probe, while the host looks at the container.

use serde_json::Value;

use super::mutations::{CONTROLS, MUTATIONS};
use super::probe::{self, case, name};
use super::record;
use crate::arena::Arena;
use crate::case::{Case, Group, Promise, Verdict, Verdicts};
use crate::support::TestEnv;

pub const CELL: Group = Group { name: "cell", cases: CASES, run, controls: CONTROLS, mutations: MUTATIONS, no_control: &[] };

/// Compared from outside.
const RECORD: &str = "C13-record";
/// Tried from inside and from beside.
const SETUID: &str = "C09-setuid-exec";
/// Comes last: where it succeeds, it may end the job.
const LAST: &str = "C12-pid-1";

const CASES: &[Case] = &[
    case("C01-privileges", Promise::Escape, "the agent: five capability sets empty, no new privileges, a filter"),
    case("C01-first-process", Promise::Escape, "PID 1: six capabilities at most, no new privileges, a filter"),
    case("C02-user-namespace", Promise::Escape, "a user namespace by unshare, clone and clone3, also with a high bit in the flags"),
    case("C02-namespaces", Promise::Escape, "seven other kinds of namespace by all three calls"),
    case("C02-setns", Promise::Escape, "entering namespaces by file and by pidfd"),
    case("C02-own-namespaces", Promise::Escape, "sharing the host's namespaces or name"),
    case("C02-mounts", Promise::Escape, "mounting, remounting, uncovering what is masked, pivot_root, chroot"),
    case("C03-io-uring", Promise::Escape, "io_uring and native asynchronous i/o"),
    case("C03-bpf", Promise::Escape, "a BPF map and program"),
    case("C03-perf", Promise::HostLeak, "performance counters of oneself and of a processor"),
    case("C03-userfaultfd", Promise::Escape, "userfaultfd in both modes and by its device"),
    case("C03-keyrings", Promise::Lateral, "the kernel's key rings, which no namespace divides"),
    case("C03-ptrace", Promise::Escape, "tracing a child and PID 1"),
    case("C03-other-memory", Promise::Escape, "another process's memory and descriptors"),
    case("C03-handles", Promise::HostLeak, "files of the host by handle"),
    case("C03-sockets", Promise::Exfiltration, "39 kinds of socket, each also with a high bit"),
    case("C03-kernel-tls", Promise::Escape, "loading kernel TLS by a socket option"),
    case("C03-administration", Promise::Escape, "15 calls that administer the machine"),
    case("C03-ports", Promise::Escape, "ports, the local descriptor table, /dev/mem"),
    case("C03-execution-domain", Promise::Escape, "switching off address randomisation"),
    case("C03-devices", Promise::Escape, "making device nodes"),
    case("C03-message-queues", Promise::DenialOfService, "POSIX and System V message queues"),
    case("C03-seccomp-listener", Promise::Escape, "a filter with a listener"),
    case("C03-vmsplice", Promise::Escape, "vmsplice, memfd_secret"),
    case("C03-other-abi", Promise::Escape, "i386 and x32 system calls"),
    case("C05-interfaces", Promise::Exfiltration, "interfaces beside lo, and routes"),
    case("C05-network", Promise::Exfiltration, "TCP and UDP to public, private, metadata and gateway addresses"),
    case("C05-names", Promise::Exfiltration, "asking a resolver"),
    case("C06-root-file-system", Promise::Persistence, "creating a file in 37 places"),
    case("C06-kernel-files", Promise::Escape, "opening 37 files of /proc, /sys, /dev and /etc for writing"),
    case("C06-job-directories", Promise::Deception, "listing or changing the input, the base and the sealed result"),
    case("C06-oom-score", Promise::Loss, "having PID 1 killed before the agent when memory is short"),
    case("C07-sockets", Promise::Exfiltration, "connecting to sockets of engines and of the gateway"),
    case("C07-mounts", Promise::HostLeak, "a mount that is neither ours nor the kernel's"),
    case("C07-mount-options", Promise::Escape, "mounts without the options that they must have"),
    case("C07-devices", Promise::Escape, "devices beyond the usual set"),
    case("C08-host-facts", Promise::HostLeak, "41 paths and three files that tell about the host"),
    case("C09-identities", Promise::Escape, "owners, file capabilities, capset, every set-id call"),
    case(SETUID, Promise::Escape, "running a set-user-ID program of root, from inside and by the engine's exec"),
    case("C09-image", Promise::Escape, "files with set-user-ID or capabilities, and putting one into the root file system"),
    case("C11-secrets", Promise::Key, "secrets of the server's environment in any environment or command line inside"),
    case("C11-fixed-environment", Promise::Key, "variables of the container in Codex's environment"),
    case(LAST, Promise::Loss, "PID 1's memory, files, signals, limits"),
    case(RECORD, Promise::Downgrade, "the engine's record of the container against an expectation written in the test, field by field"),
    case("R00-cgroup-limits", Promise::DenialOfService, "memory, swap, processes and processor without their limits"),
    case("R02-sparse", Promise::DenialOfService, "a sparse file of 1 TiB"),
    case("R04-limits", Promise::DenialOfService, "the agent's limits of core, descriptors, file size, locked memory, queues, priorities"),
    case("R04-first-process", Promise::DenialOfService, "PID 1's limits, which the engine sets"),
    case("R08-priority", Promise::DenialOfService, "raising the own priority, real-time classes"),
];

/// A file that the job waits for, put there from outside: set-user-ID and root's.
const PRIVILEGED: &str = "/job/privileged";

fn run(arena: &Arena, wanted: &[&str]) -> Verdicts {
    let canary = format!("canary-{}", uuid::Uuid::new_v4().simple());
    let mut env = arena.env.with("ANCHORHOLD_LIMITS_CPUS", "1.5").with("ANCHORHOLD_LIMITS_MEMORY", "1GiB").with("ANCHORHOLD_LIMITS_PIDS", "200");
    env = env.with("ANCHORHOLD_LIMITS_DISK", "2GiB").with("ANCHORHOLD_WORKSPACE_MAX_BYTES", "1GiB");
    for name in ["OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "SECRET_CANARY", "GITHUB_TOKEN", "SSH_AUTH_SOCK"] {
        env = env.with(name, &canary);
    }
    let mut inside: Vec<String> = wanted.iter().filter(|id| ![RECORD, LAST].contains(*id)).map(|id| name(id)).collect();
    if wanted.contains(&LAST) {
        inside.push(name(LAST));
    }
    // A cell in which nothing works would block everything.
    inside.insert(0, "c03-sockets-needed".to_owned());

    let repo = probe::repository(arena);
    let reversed: String = canary.chars().rev().collect();
    let settings = format!(
        "PROBE_SETUID={PRIVILEGED} PROBE_CANARY_REVERSED={reversed} PROBE_LIMITS='memory={} swap={} pids=200 cpu_ms=1500 agent_fsize={}'",
        1_i64 << 30,
        1_i64 << 30,
        2_i64 << 30
    );
    let script = format!(
        "n=0; until test -u {PRIVILEGED} || test $n = 300; do n=$((n + 1)); sleep 0.1; done; {settings} ./probe {} > report 2>&1; true",
        inside.join(" ")
    );
    let program = format!("Run the probe.\n```rehearsal\nshell {script}\nmessage done\n```\n");
    let job = env.detach(&repo, &program);
    let container = format!("anchorhold-{job}");
    let mut verdicts = Verdicts::new();
    if wanted.contains(&RECORD) {
        verdicts.push((RECORD.to_owned(), record::verdict(&env, &arena.image(), &container)));
        if wanted.len() == 1 {
            env.docker(&["rm", "-fv", &container]);
            return verdicts;
        }
    }
    let status = env.wait_for(&job, |status| status["state"] == "running" || ended(status));
    assert_eq!(status["state"], "running", "nothing was tried, for the job came to an end: {} {}", status["state"], status["detail"]);
    let beside = beside(&env, &container, wanted);
    env.wait_for(&job, ended);
    let copy = repo.tracked_copy();
    copy.git_apply(&env.diff(&job));
    let report = std::fs::read_to_string(copy.path().join("report")).expect("a report");
    let (mut told, errors) = probe::verdicts(&report);
    if let Some(breach) = beside {
        told.retain(|(id, _)| id != SETUID);
        told.push((SETUID.to_owned(), breach));
    }
    let works = told.iter().any(|(id, verdict)| id == "C03-sockets-needed" && !verdict.breached());
    assert!(works, "the sockets that a job needs do not work: {report}");
    for id in wanted {
        assert!(*id == RECORD || told.iter().any(|(told, _)| told == id), "{id} was not tried: {errors:#?}\n{report}");
    }
    verdicts.extend(told.into_iter().filter(|(id, _)| id != "C03-sockets-needed"));
    verdicts
}

fn ended(status: &Value) -> bool {
    !["preparing", "queued", "running", "sealing"].iter().any(|state| status["state"] == *state)
}

/// Some user without privileges.
const ANYBODY: &str = "54321:54321";

/// Puts the set-user-ID program in place, tries to put it into the root file system, and runs it as somebody without privileges, by the engine. Only a breach
/// is a verdict: what is blocked here must be blocked inside as well.
fn beside(env: &TestEnv, container: &str, wanted: &[&str]) -> Option<Verdict> {
    let put = format!(
        "cp /workspace/probe {PRIVILEGED}.new && chmod 4755 {PRIVILEGED}.new && mv {PRIVILEGED}.new {PRIVILEGED}; cp -p {PRIVILEGED} / 2>/dev/null; true"
    );
    env.docker(&["exec", "-u", "0:0", container, "sh", "-c", &put]);
    if !wanted.contains(&SETUID) {
        return None;
    }
    let variable = format!("PROBE_SETUID={PRIVILEGED}");
    let report = env.docker(&["exec", "-u", ANYBODY, "-e", &variable, container, "/workspace/probe", "c09-setuid-exec"]);
    let (told, errors) = probe::verdicts(&report);
    let verdict = told.into_iter().next().unwrap_or_else(|| panic!("not tried beside: {errors:?} {report}")).1;
    verdict.breached().then_some(verdict)
}
