use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{SOURCE, compact, profile};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Profile {
    default_action: String,
    default_errno_ret: u32,
    arch_map: Vec<Arch>,
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Arch {
    architecture: String,
    sub_architectures: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    names: Vec<String>,
    action: String,
    errno_ret: Option<u64>,
    #[serde(default)]
    args: Vec<Arg>,
    includes: Option<BTreeMap<String, Vec<String>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Arg {
    index: u64,
    /// The mask, for the one comparison that we use.
    value: u64,
    value_two: u64,
    op: String,
}

impl Arg {
    fn matches(&self, args: [u64; 6]) -> bool {
        args[usize::try_from(self.index).unwrap()] & self.value == self.value_two
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Allowed,
    Refused(u64),
}

fn parsed() -> Profile {
    serde_json::from_str(profile()).unwrap()
}

/// What the kernel would answer, and that no two rules disagree about it.
fn verdict(name: &str, args: [u64; 6]) -> Verdict {
    let parsed = parsed();
    let mut hits = parsed.syscalls.iter().filter(|rule| rule.names.iter().any(|n| n == name) && rule.args.iter().all(|arg| arg.matches(args)));
    let verdict = match hits.next() {
        Some(rule) if rule.action == "SCMP_ACT_ALLOW" => Verdict::Allowed,
        Some(rule) => Verdict::Refused(rule.errno_ret.unwrap()),
        None => Verdict::Refused(u64::from(parsed.default_errno_ret)),
    };
    assert!(hits.next().is_none(), "two rules match {name} {args:x?}");
    verdict
}

fn call(name: &str, args: &[u64]) -> Verdict {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    verdict(name, all)
}

const EPERM: Verdict = Verdict::Refused(1);
const ENOSYS: Verdict = Verdict::Refused(38);
const NO_PROTOCOL: Verdict = Verdict::Refused(93);
const NO_FAMILY: Verdict = Verdict::Refused(97);

#[test]
fn an_allow_list_for_two_architectures_alone() {
    let profile = parsed();
    assert_eq!(profile.default_action, "SCMP_ACT_ERRNO");
    assert_eq!(profile.default_errno_ret, 1);
    assert_eq!(profile.arch_map.iter().map(|a| a.architecture.as_str()).collect::<Vec<_>>(), ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"]);
    assert!(profile.arch_map.iter().all(|a| a.sub_architectures.is_empty()));
    for rule in &profile.syscalls {
        match rule.action.as_str() {
            "SCMP_ACT_ALLOW" => assert!(rule.errno_ret.is_none()),
            "SCMP_ACT_ERRNO" => assert!(rule.errno_ret.is_some()),
            other => panic!("action {other}"),
        }
        assert!(rule.args.iter().all(|arg| arg.op == "SCMP_CMP_MASKED_EQ" && arg.index < 6 && arg.value_two & !arg.value == 0));
        // runc turns two comparisons of one argument into "either", which would widen the rule.
        assert_eq!(rule.args.iter().map(|arg| arg.index).collect::<BTreeSet<_>>().len(), rule.args.len());
        // Nothing opens up by a capability, a kernel version or anything else but the architecture.
        assert!(rule.includes.iter().flat_map(|i| i.keys()).all(|key| key == "arches"));
    }
}

#[test]
fn compact_and_without_comments() {
    assert!(SOURCE.contains("\"comment\""));
    assert!(!profile().contains("comment") && !profile().contains('\n'));
    assert!(profile().len() < 16 * 1024);
    assert_eq!(compact("not a profile"), "not a profile");
}

#[test]
fn each_name_stands_in_one_place() {
    let mut seen = BTreeMap::<String, bool>::new();
    for rule in parsed().syscalls {
        for name in rule.names {
            let conditional = !rule.args.is_empty();
            if let Some(before) = seen.insert(name.clone(), conditional) {
                assert!(before && conditional, "{name} stands in a rule without arguments and in another");
            }
        }
    }
}

#[test]
fn what_reaches_beyond_the_cell_is_refused() {
    let refused = "unshare setns mount umount umount2 pivot_root chroot fsopen fsconfig fsmount fspick move_mount open_tree open_tree_attr mount_setattr swapon swapoff
        quotactl quotactl_fd bpf perf_event_open userfaultfd add_key request_key keyctl ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd name_to_handle_at
        open_by_handle_at modify_ldt vmsplice lookup_dcookie kexec_load kexec_file_load init_module finit_module delete_module create_module reboot syslog acct
        settimeofday clock_settime clock_adjtime adjtimex stime iopl ioperm sethostname setdomainname fanotify_init fanotify_mark vhangup nfsservctl uselib ustat sysfs
        _sysctl socketcall ipc set_mempolicy mbind get_mempolicy move_pages migrate_pages remap_file_pages";
    for name in refused.split_whitespace() {
        assert_eq!(call(name, &[]), EPERM, "{name}");
    }
    let absent = "clone3 io_uring_setup io_uring_enter io_uring_register io_setup io_submit mq_open mq_unlink msgget msgsnd memfd_secret process_madvise statmount listmount";
    for name in absent.split_whitespace() {
        assert_eq!(call(name, &[]), ENOSYS, "{name}");
    }
}

#[test]
fn what_work_needs_is_allowed() {
    let needed = "read write openat openat2 statx faccessat2 close_range pidfd_open pidfd_send_signal rseq membarrier landlock_create_ruleset execve execveat vfork wait4 waitid
        epoll_pwait2 eventfd2 futex getrandom memfd_create mmap mprotect pkey_alloc prctl prlimit64 inotify_init1 sendfile splice copy_file_range shmget semget kill
        setresuid setresgid setgroups capset fchown setsid sched_setaffinity timer_create getdents64 renameat2 flock fallocate";
    for name in needed.split_whitespace() {
        assert_eq!(call(name, &[]), Verdict::Allowed, "{name}");
    }
}

#[test]
fn no_new_namespace_by_clone() {
    const THREAD: u64 = 0x003d_0f00;
    assert_eq!(call("clone", &[THREAD]), Verdict::Allowed);
    assert_eq!(call("clone", &[17]), Verdict::Allowed);
    for namespace in [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
        assert_eq!(call("clone", &[namespace | 17]), EPERM, "{namespace:#x}");
        assert_eq!(call("clone", &[namespace | THREAD | 1 << 32]), EPERM, "{namespace:#x} with a high bit");
    }
}

#[test]
fn sockets_of_three_families() {
    const STREAM: u64 = 1;
    const DGRAM: u64 = 2;
    const RAW: u64 = 3;
    const FLAGS: u64 = 0x8_0800;
    const DIRT: u64 = 7 << 32;
    for kind in [STREAM, DGRAM, 5] {
        assert_eq!(call("socket", &[1, kind | FLAGS, 0]), Verdict::Allowed);
        assert_eq!(call("socketpair", &[1, kind | FLAGS, 0]), Verdict::Allowed);
    }
    for (kind, protocol) in [(STREAM, 0), (STREAM, 6), (DGRAM, 0), (DGRAM, 17)] {
        assert_eq!(call("socket", &[2, kind | FLAGS, protocol]), Verdict::Allowed);
        assert_eq!(call("socket", &[2 | DIRT, kind | DIRT, protocol | DIRT]), Verdict::Allowed, "the kernel reads 32 bits");
    }
    assert_eq!(call("socket", &[16, RAW | FLAGS, 0]), Verdict::Allowed);

    for (kind, protocol) in [(RAW, 0), (RAW, 1), (RAW, 255), (DGRAM, 1), (STREAM, 132), (DGRAM, 136), (6, 33), (DGRAM, 115)] {
        assert_eq!(call("socket", &[2, kind, protocol]), EPERM, "{kind} {protocol}");
    }
    assert_eq!(call("socket", &[2, STREAM, 262]), NO_PROTOCOL, "mptcp");
    for protocol in 1..32 {
        assert_eq!(call("socket", &[16, RAW, protocol]), NO_PROTOCOL, "netlink {protocol}");
        assert_eq!(call("socket", &[16 | DIRT, RAW, protocol | DIRT]), NO_PROTOCOL, "netlink {protocol}");
    }
    for family in (0..64).filter(|family| ![1, 2, 16].contains(family)) {
        for args in [[family, STREAM, 0], [family | DIRT, RAW, 0]] {
            assert_eq!(call("socket", &args), NO_FAMILY, "family {family}");
        }
    }
    for family in [64, 4096, 0xffff_ffff] {
        assert_eq!(call("socket", &[family, STREAM, 0]), EPERM);
    }
    for family in (0..64).filter(|family| *family != 1) {
        assert_eq!(call("socketpair", &[family, STREAM, 0]), EPERM);
    }
}

#[test]
fn socket_options_without_kernel_tls() {
    assert_eq!(call("setsockopt", &[3, 1, 2]), Verdict::Allowed);
    assert_eq!(call("setsockopt", &[3, 0, 1]), Verdict::Allowed);
    for option in 0..=30 {
        assert_eq!(call("setsockopt", &[3, 6, option]), Verdict::Allowed, "{option}");
    }
    assert_eq!(call("setsockopt", &[3, 6, 31]), Verdict::Refused(92));
    assert_eq!(call("setsockopt", &[3, 6 | 1 << 32, 31 | 1 << 32]), Verdict::Refused(92));
    for (level, option) in [(6, 32), (6, 38), (17, 100), (41, 1), (255, 1), (263, 1), (279, 1), (282, 1), (284, 1)] {
        assert_eq!(call("setsockopt", &[3, level, option]), EPERM, "{level} {option}");
    }
}

#[test]
fn no_device_by_mknod() {
    for (name, mode) in [("mknod", 1), ("mknodat", 2)] {
        let with = |kind: u64| {
            let mut args = [0; 6];
            args[mode] = kind | 0o644;
            verdict(name, args)
        };
        for kind in [0, 0o100_000, 0o010_000, 0o140_000] {
            assert_eq!(with(kind), Verdict::Allowed, "{name} {kind:o}");
        }
        for kind in [0o020_000, 0o060_000, 0o120_000, 0o040_000] {
            assert_eq!(with(kind), EPERM, "{name} {kind:o}");
        }
    }
}

#[test]
fn the_other_conditions() {
    for persona in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        assert_eq!(call("personality", &[persona]), Verdict::Allowed, "{persona:#x}");
    }
    // ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC, MMAP_PAGE_ZERO.
    for persona in [0x4_0000, 0x40_0000, 0x10_0000] {
        assert_eq!(call("personality", &[persona]), EPERM, "{persona:#x}");
    }
    assert_eq!(call("seccomp", &[1, 1]), Verdict::Allowed);
    assert_eq!(call("seccomp", &[1, 8 | 1]), EPERM);
    assert_eq!(call("sync", &[]), Verdict::Refused(0));
}
