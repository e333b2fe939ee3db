/*
 * The attacker inside the cell: one static program that tries what a job must not be able to do.
 *
 *   cc -static -O1 -Wall -Wextra -o probe probe.c
 *   probe [--drop UID] [--caps HEX] [--limit N] [--dir DIR] [--cpus F] CASE | all | list
 *
 * It prints one JSON line for each case: {"case": …, "outcome": "blocked" | "succeeded" | "error", "detail": …}. Outcomes are about effects: "succeeded" says
 * that the attack worked in at least one of its ways, "blocked" that none did, "error" that the case could not be tried or that nobody inside can judge it.
 * The exit status is 0 when nothing succeeded, 1 when something did, 2 for an error. README.md has the table of cases, and which of them the host must judge.
 *
 *   --drop UID   be the cell's PID 1: drop to UID with no capability at all, as `anchorhold init` does, and try the case as its child
 *   --caps HEX   the capabilities that are meant to be there (c01 only; 0 by default)
 *   --limit N    how far a resource case goes before it says "succeeded": processes, MiB, files or seconds
 *   --dir DIR    where resource cases write (the current directory by default)
 *   --cpus F     the processors that the cell was given (r08-cpu)
 * Environment: PROBE_CANARY_REVERSED, a string of the host's environment, written backwards, that c11 looks for; PROBE_SETUID, a set-user-ID copy of this
 * program owned by root, for c09-setuid-exec.
 *
 * Calls with an effect on the host (modules, reboot, clocks) are made with arguments that the kernel refuses after its permission checks: an answer other than
 * a refusal says that they were reached.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Numbers that are the same on x86-64 and aarch64, for libraries older than the call. */
enum {
	NR_pidfd_send_signal = 424, NR_io_uring_setup = 425, NR_open_tree = 428, NR_move_mount = 429, NR_fsopen = 430, NR_fsconfig = 431, NR_fspick = 433,
	NR_pidfd_open = 434, NR_clone3 = 435, NR_pidfd_getfd = 438, NR_mount_setattr = 442, NR_quotactl_fd = 443
};

static unsigned long long expected_caps;
static long limit = -1;
static const char *dir = ".";
static double cpus = 1.0;

/* ---- what a case has found out ---- */

struct finding {
	int succeeded, blocked, error;
	char detail[6000];
};
static struct finding *found; /* shared with the process that tries */

static void note(const char *format, ...)
{
	size_t used = strlen(found->detail);
	va_list args;
	if (used + 2 >= sizeof found->detail)
		return;
	if (used) {
		strcpy(found->detail + used, "; ");
		used += 2;
	}
	va_start(args, format);
	vsnprintf(found->detail + used, sizeof found->detail - used, format, args);
	va_end(args);
}

static int is_refusal(int code)
{
	switch (code) {
	case EPERM: case EACCES: case ENOSYS: case EROFS:
	case EAFNOSUPPORT: case EPROTONOSUPPORT: case ESOCKTNOSUPPORT: case ENOPROTOOPT: case ENOPKG:
	case ENETUNREACH: case EHOSTUNREACH: case ENETDOWN: case EADDRNOTAVAIL:
		return 1;
	default:
		return 0;
	}
}

static const char *errno_name(int code)
{
	const char *name = strerrorname_np(code);
	return name ? name : "unknown";
}

/* The call has an effect when it succeeds; any other answer than a refusal leaves the case undecided. */
static int attempt(const char *what, long result)
{
	int code = errno;
	if (result >= 0) {
		found->succeeded++;
		note("%s WORKED", what);
		return 1;
	}
	note("%s %s", what, errno_name(code));
	if (is_refusal(code))
		found->blocked++;
	else
		found->error++;
	return 0;
}

/* The call is made with arguments that cannot work: to be told so means to have got past every check of permission. */
static void reach(const char *what, long result)
{
	int code = errno;
	if (result < 0 && is_refusal(code)) {
		found->blocked++;
		note("%s %s", what, errno_name(code));
	} else {
		found->succeeded++;
		note("%s REACHED (%s)", what, result < 0 ? errno_name(code) : "done");
	}
}

static void yes(const char *format, ...)
{
	char text[600];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	found->succeeded++;
	note("%s", text);
}

static void no(const char *format, ...)
{
	char text[600];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	found->blocked++;
	note("%s", text);
}

static void undecided(const char *format, ...)
{
	char text[600];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	found->error++;
	note("%s", text);
}

/* Runs `try` in a child of its own, so that what it changes about itself stays there, and so that a signal tells on it alone. */
static void apart(const char *what, void (*try)(void))
{
	int status;
	pid_t child = fork();
	if (child == 0) {
		try();
		_exit(0);
	}
	if (child < 0) {
		undecided("%s: fork %s", what, errno_name(errno));
		return;
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status)) {
		if (WTERMSIG(status) == SIGSYS)
			no("%s SIGSYS", what);
		else
			undecided("%s ended by signal %d", what, WTERMSIG(status));
	}
}

static ssize_t slurp(const char *path, char *buffer, size_t size)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ssize_t got, total = 0;
	if (fd < 0)
		return -1;
	while ((size_t)total + 1 < size && (got = read(fd, buffer + total, size - 1 - (size_t)total)) > 0)
		total += got;
	buffer[total] = 0;
	close(fd);
	return total;
}

/* ---- C01: privileges ---- */

static void c01_privileges(void)
{
	static const char *const sets[] = { "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:" };
	char text[8192];
	char *line;
	size_t i;
	if (slurp("/proc/self/status", text, sizeof text) < 0) {
		undecided("/proc/self/status %s", errno_name(errno));
		return;
	}
	for (i = 0; i < sizeof sets / sizeof *sets; i++) {
		unsigned long long set;
		if (!(line = strstr(text, sets[i])))
			continue;
		set = strtoull(line + strlen(sets[i]), NULL, 16);
		if (set & ~expected_caps)
			yes("%s %llx", sets[i], set);
		else
			no("%s %llx", sets[i], set);
	}
	line = strstr(text, "NoNewPrivs:");
	if (line && atoi(line + 11) == 1)
		no("no new privileges");
	else
		yes("new privileges possible");
	line = strstr(text, "\nSeccomp:");
	if (line && atoi(line + 9) == 2)
		no("seccomp filter");
	else if (getenv("PROBE_NO_SECCOMP"))
		note("no seccomp filter, as announced");
	else
		yes("no seccomp filter");
}

/* A field of /proc/1/status, as a number of this base; -1 where it is not. */
static long long of_pid_1(const char *field, int base)
{
	static char text[8192];
	char *line, what[32];
	snprintf(what, sizeof what, "\n%s:", field);
	if (slurp("/proc/1/status", text, sizeof text) < 0 || !(line = strstr(text, what)))
		return -1;
	return (long long)strtoull(line + strlen(what), NULL, base);
}

/* PID 1 is the one that must not gain anything either: all that it may ever have are CHOWN, DAC_READ_SEARCH, KILL, SETGID, SETUID and SETPCAP. */
static void c01_first_process(void)
{
	static const char *const sets[] = { "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb" };
	const unsigned long long wanted = 1 << 0 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8;
	size_t i;
	for (i = 0; i < sizeof sets / sizeof *sets; i++) {
		long long set = of_pid_1(sets[i], 16);
		if (set < 0)
			undecided("no %s", sets[i]);
		else if ((unsigned long long)set & ~wanted)
			yes("%s of PID 1 %llx", sets[i], set);
		else
			no("%s of PID 1 %llx", sets[i], set);
	}
	if (of_pid_1("NoNewPrivs", 10) == 1)
		no("PID 1 gains no new privileges");
	else
		yes("PID 1 may gain NEW PRIVILEGES");
	if (of_pid_1("Seccomp", 10) == 2 || getenv("PROBE_NO_SECCOMP"))
		no("PID 1 has a filter");
	else
		yes("PID 1 has NO FILTER");
}

/* ---- C02: namespaces and mounts ---- */

static const struct { const char *name; unsigned long flag; } namespaces[] = {
	{ "USER", CLONE_NEWUSER }, { "NS", CLONE_NEWNS }, { "NET", CLONE_NEWNET }, { "PID", CLONE_NEWPID },
	{ "UTS", CLONE_NEWUTS }, { "IPC", CLONE_NEWIPC }, { "CGROUP", CLONE_NEWCGROUP }
};
#define NAMESPACES (sizeof namespaces / sizeof *namespaces)
static unsigned long flag;
static char label[64];

static void try_unshare(void)
{
	attempt(label, unshare((int)flag));
}

static void try_clone(void)
{
	long pid = syscall(SYS_clone, flag | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		_exit(0);
	attempt(label, pid);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, 0);
}

static void try_clone3(void)
{
	uint64_t args[8] = { flag, 0, 0, 0, SIGCHLD, 0, 0, 0 };
	long pid = syscall(NR_clone3, args, sizeof args);
	if (pid == 0)
		_exit(0);
	attempt(label, pid);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, 0);
}

static void with_flag(const char *verb, const char *name, unsigned long value, void (*try)(void))
{
	snprintf(label, sizeof label, "%s(%s)", verb, name);
	flag = value;
	apart(label, try);
}

static void c02_user_namespace(void)
{
	with_flag("unshare", "USER", CLONE_NEWUSER, try_unshare);
	with_flag("clone", "USER", CLONE_NEWUSER, try_clone);
	with_flag("clone3", "USER", CLONE_NEWUSER, try_clone3);
	/* The kernel looks at 32 bits, a filter at 64. */
	with_flag("clone", "USER, high bit", CLONE_NEWUSER | 1UL << 32, try_clone);
	with_flag("unshare", "USER|NS|NET", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET, try_unshare);
}

static void c02_namespaces(void)
{
	size_t i;
	for (i = 1; i < NAMESPACES; i++) {
		with_flag("unshare", namespaces[i].name, namespaces[i].flag, try_unshare);
		with_flag("clone", namespaces[i].name, namespaces[i].flag, try_clone);
		with_flag("clone3", namespaces[i].name, namespaces[i].flag, try_clone3);
	}
	with_flag("unshare", "TIME", 0x80, try_unshare);
}

static void c02_setns(void)
{
	static const char *const names[] = { "uts", "ipc", "net", "mnt", "cgroup" };
	size_t i;
	int fd;
	for (i = 0; i < sizeof names / sizeof *names; i++) {
		char path[64];
		snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
		if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) {
			undecided("%s %s", path, errno_name(errno));
			continue;
		}
		attempt(names[i], setns(fd, 0));
		close(fd);
	}
	if ((fd = (int)syscall(NR_pidfd_open, getpid(), 0)) >= 0) {
		attempt("by pidfd", setns(fd, CLONE_NEWUTS));
		close(fd);
	}
}

/* The kernel gives the namespaces of the host these numbers. A cell has its own. */
static void c02_own_namespaces(void)
{
	static const struct { const char *name; const char *first; } kinds[] = {
		{ "ipc", "ipc:[4026531839]" }, { "uts", "uts:[4026531838]" }, { "pid", "pid:[4026531836]" }, { "cgroup", "cgroup:[4026531835]" }
	};
	char path[64], link[64], text[256];
	size_t i;
	for (i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		ssize_t got;
		snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[i].name);
		got = readlink(path, link, sizeof link - 1);
		if (got < 0) {
			undecided("%s %s", path, errno_name(errno));
			continue;
		}
		link[got] = 0;
		if (strcmp(link, kinds[i].first) == 0)
			yes("%s is the HOST'S", kinds[i].name);
		else
			no("%s is its own", kinds[i].name);
	}
	if (gethostname(text, sizeof text) == 0 && strcmp(text, "anchorhold") == 0)
		no("a name of its own");
	else
		yes("the name %.60s", text);
}

static void try_mounts(void)
{
	static const char *const covers[] = { "/proc/kcore", "/proc/keys", "/proc/acpi", "/sys/firmware", "/proc/sys", "/dev/shm", "/etc/hosts" };
	size_t i;
	int fd;
	long tree;
	uint64_t attributes[4] = { 0, 1, 0, 0 };
	attempt("mount tmpfs", mount("none", "/tmp", "tmpfs", 0, NULL));
	attempt("mount proc", mount("proc", "/tmp", "proc", 0, NULL));
	attempt("bind", mount("/", "/tmp", NULL, MS_BIND | MS_REC, NULL));
	attempt("remount rw", mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL));
	attempt("propagation", mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL));
	for (i = 0; i < sizeof covers / sizeof *covers; i++) {
		char what[64];
		if (access(covers[i], F_OK) < 0)
			continue;
		snprintf(what, sizeof what, "umount %s", covers[i]);
		if (umount2(covers[i], MNT_DETACH) < 0 && errno == EINVAL)
			continue; /* nothing is mounted there */
		attempt(what, umount2(covers[i], MNT_DETACH) < 0 && errno == EINVAL ? 0 : -1);
	}
	fd = (int)syscall(NR_fsopen, "tmpfs", 0);
	attempt("fsopen", fd);
	tree = syscall(NR_open_tree, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */);
	attempt("open_tree", tree);
	reach("move_mount", syscall(NR_move_mount, -1, "", -1, "", 4));
	reach("fspick", syscall(NR_fspick, AT_FDCWD, "/nonexistent", 0));
	reach("mount_setattr", syscall(NR_mount_setattr, AT_FDCWD, "/nonexistent", 0, attributes, sizeof attributes));
	reach("pivot_root", syscall(SYS_pivot_root, "/nonexistent", "/nonexistent"));
	attempt("chroot", chroot("/tmp"));
}

static void c02_mounts(void)
{
	apart("mounts", try_mounts);
}

/* ---- C03: the kernel's other doors ---- */

static void c03_io_uring(void)
{
	uint32_t params[30] = { 0 };
	unsigned long context = 0;
	attempt("io_uring_setup", syscall(NR_io_uring_setup, 4, params));
	attempt("io_setup", syscall(SYS_io_setup, 1, &context));
}

static void c03_bpf(void)
{
	/* BPF_MAP_CREATE of an array, and BPF_PROG_LOAD of a socket filter that returns 0. */
	uint32_t map[32] = { 2, 4, 8, 1 };
	uint64_t code[2] = { 0x00000000000000b7ULL, 0x0000000000000095ULL };
	struct { uint32_t type, count; uint64_t code, licence; char rest[120]; } program = { 1, 2, (uintptr_t)code, (uintptr_t)"GPL", { 0 } };
	attempt("map", syscall(SYS_bpf, 0, map, 72));
	attempt("program", syscall(SYS_bpf, 5, &program, 72));
}

static void c03_perf(void)
{
	uint32_t attribute[32] = { 1 /* software */, 128, 0 /* cpu clock */ };
	attribute[10] = 1 | 1 << 5 | 1 << 6; /* disabled, without the kernel and the hypervisor */
	attempt("of oneself", syscall(SYS_perf_event_open, attribute, 0, -1, -1, 0));
	attempt("of a processor", syscall(SYS_perf_event_open, attribute, -1, 0, -1, 0));
}

static void c03_userfaultfd(void)
{
	attempt("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC));
	attempt("user mode only", syscall(SYS_userfaultfd, O_CLOEXEC | 1));
	attempt("/dev/userfaultfd", open("/dev/userfaultfd", O_RDWR | O_CLOEXEC) < 0 && errno == ENOENT ? (errno = ENOSYS, -1) : 0);
}

static void c03_keyrings(void)
{
	attempt("add_key", syscall(SYS_add_key, "user", "anchorhold-probe", "x", 1UL, -2 /* process */));
	attempt("request_key", syscall(SYS_request_key, "user", "anchorhold-probe", NULL, -2) < 0 && errno != EPERM && errno != ENOSYS ? 0 : -1);
	attempt("keyctl", syscall(SYS_keyctl, 1 /* join session */, NULL));
}

static void try_traceme(void)
{
	attempt("traceme", ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

/* A child of ours that does nothing. */
static pid_t sleeper(void)
{
	pid_t child = fork();
	if (child == 0) {
		prctl(PR_SET_PTRACER, -1L, 0, 0, 0);
		for (;;)
			pause();
	}
	return child;
}

static void end(pid_t child)
{
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
}

static void c03_ptrace(void)
{
	pid_t child = sleeper();
	apart("traceme", try_traceme);
	attempt("seize a child", ptrace(PTRACE_SEIZE, child, NULL, NULL));
	if (getpid() != 1)
		attempt("seize PID 1", ptrace(PTRACE_SEIZE, 1, NULL, NULL));
	end(child);
}

static void c03_other_memory(void)
{
	static char secret[8] = "secret";
	char copy[8];
	pid_t child = sleeper();
	struct iovec here = { copy, sizeof copy }, there = { secret, sizeof secret };
	int fd;
	attempt("process_vm_readv", syscall(SYS_process_vm_readv, child, &here, 1UL, &there, 1UL, 0UL));
	attempt("process_vm_writev", syscall(SYS_process_vm_writev, child, &here, 1UL, &there, 1UL, 0UL));
	fd = (int)syscall(NR_pidfd_open, child, 0);
	if (fd >= 0)
		attempt("pidfd_getfd", syscall(NR_pidfd_getfd, fd, 1, 0));
	else
		undecided("pidfd_open %s", errno_name(errno));
	attempt("kcmp", syscall(SYS_kcmp, getpid(), child, 0, 0, 0));
	end(child);
}

struct handle { uint32_t bytes; int32_t type; unsigned char data[128]; };

/* name_to_handle_at on the job's own file, and open_by_handle_at through a mount: with CAP_DAC_READ_SEARCH the latter reads any file of the host. */
static void c03_handles(void)
{
	static const char *const places[] = { "/etc/hosts", "/workspace", "/tmp", "/" };
	struct handle handle = { .bytes = 128 };
	int mount_id, base, fd;
	size_t i;
	long named = -1;
	for (i = 0; named < 0 && i < sizeof places / sizeof *places; i++) {
		handle.bytes = 128;
		named = syscall(SYS_name_to_handle_at, AT_FDCWD, places[i], &handle, &mount_id, 0);
		if (named < 0 && is_refusal(errno))
			break;
	}
	attempt("name_to_handle_at", named);
	if (named < 0) { /* the handle of inode 2, the root of an ext4 */
		handle.bytes = 8;
		handle.type = 1;
		memset(handle.data, 0, sizeof handle.data);
		handle.data[0] = 2;
		i = 1;
	}
	base = open(places[i - 1], O_RDONLY | O_CLOEXEC);
	fd = (int)syscall(SYS_open_by_handle_at, base, &handle, O_RDONLY);
	if (fd < 0 && errno == ESTALE)
		reach("open_by_handle_at", fd);
	else
		attempt("open_by_handle_at", fd);
	/* Inode 2 through a bind of a host file system is the host's root. */
	base = open("/etc/hosts", O_RDONLY | O_CLOEXEC);
	if (base >= 0) {
		struct handle root = { .bytes = 8, .type = 1, .data = { 2 } };
		fd = (int)syscall(SYS_open_by_handle_at, base, &root, O_RDONLY | O_DIRECTORY);
		if (fd >= 0) {
			struct stat status;
			int names = 0;
			DIR *listing = fdopendir(fd);
			while (listing && readdir(listing))
				names++;
			yes("the root of the host's file system lists %d names%s", names,
			    fstatat(dirfd(listing), "etc/shadow", &status, 0) == 0 ? ", etc/shadow among them" : "");
		} else if (is_refusal(errno)) {
			no("host root %s", errno_name(errno));
		} else {
			note("host root %s", errno_name(errno));
		}
	}
}

static void c03_sockets(void)
{
	static const struct { const char *name; int family, type, protocol; } kinds[] = {
		{ "inet6", AF_INET6, SOCK_STREAM, 0 }, { "inet6 dgram", AF_INET6, SOCK_DGRAM, 0 }, { "vsock", AF_VSOCK, SOCK_STREAM, 0 },
		{ "alg", AF_ALG, SOCK_SEQPACKET, 0 }, { "packet", AF_PACKET, SOCK_RAW, 0x0300 }, { "packet dgram", AF_PACKET, SOCK_DGRAM, 0 },
		{ "raw", AF_INET, SOCK_RAW, 255 }, { "raw icmp", AF_INET, SOCK_RAW, 1 }, { "ping", AF_INET, SOCK_DGRAM, 1 },
		{ "sctp", AF_INET, SOCK_STREAM, 132 }, { "mptcp", AF_INET, SOCK_STREAM, 262 }, { "udplite", AF_INET, SOCK_DGRAM, 136 },
		{ "dccp", AF_INET, 6, 33 }, { "l2tp", AF_INET, SOCK_DGRAM, 115 }, { "smc", 43, SOCK_STREAM, 0 },
		{ "netlink usersock", AF_NETLINK, SOCK_RAW, 2 }, { "netlink sock_diag", AF_NETLINK, SOCK_RAW, 4 }, { "netlink nflog", AF_NETLINK, SOCK_RAW, 5 },
		{ "netlink xfrm", AF_NETLINK, SOCK_RAW, 6 }, { "netlink selinux", AF_NETLINK, SOCK_RAW, 7 }, { "netlink audit", AF_NETLINK, SOCK_RAW, 9 },
		{ "netlink connector", AF_NETLINK, SOCK_DGRAM, 11 }, { "netlink netfilter", AF_NETLINK, SOCK_RAW, 12 },
		{ "netlink uevent", AF_NETLINK, SOCK_RAW, 15 }, { "netlink generic", AF_NETLINK, SOCK_RAW, 16 }, { "netlink crypto", AF_NETLINK, SOCK_RAW, 21 },
		{ "rds", AF_RDS, SOCK_SEQPACKET, 0 }, { "tipc", AF_TIPC, SOCK_SEQPACKET, 0 }, { "can", AF_CAN, SOCK_RAW, 1 },
		{ "bluetooth", AF_BLUETOOTH, SOCK_RAW, 1 }, { "kcm", 41, SOCK_DGRAM, 0 }, { "qipcrtr", 42, SOCK_DGRAM, 0 }, { "xdp", 44, SOCK_RAW, 0 },
		{ "key", AF_KEY, SOCK_RAW, 2 }, { "rxrpc", AF_RXRPC, SOCK_DGRAM, AF_INET }, { "pppox", AF_PPPOX, SOCK_STREAM, 0 },
		{ "llc", AF_LLC, SOCK_STREAM, 0 }, { "nfc", AF_NFC, SOCK_SEQPACKET, 0 }, { "phonet", AF_PHONET, SOCK_DGRAM, 0 }
	};
	size_t i;
	int pair[2];
	for (i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		int fd = socket(kinds[i].family, kinds[i].type, kinds[i].protocol);
		if (fd >= 0)
			yes("%s OPEN", kinds[i].name);
		else
			found->blocked++;
		if (fd >= 0)
			close(fd);
		/* The kernel reads an int; a filter that compares 64 bits is passed by with a high bit set. */
		fd = (int)syscall(SYS_socket, (long)kinds[i].family | 1L << 32, (long)kinds[i].type, (long)kinds[i].protocol);
		if (fd >= 0) {
			yes("%s OPEN by a high bit", kinds[i].name);
			close(fd);
		}
	}
	/* The kernel has no pairs of these: EOPNOTSUPP says that it was asked. */
	reach("a pair of inet", socketpair(AF_INET, SOCK_STREAM, 0, pair));
	if (!found->succeeded)
		note("%zu kinds of socket refused", sizeof kinds / sizeof *kinds);
}

/* The positive half of c03-sockets: without these a job does not work, and its refusals say nothing. */
static void c03_sockets_needed(void)
{
	int fds[5], pair[2];
	size_t i;
	fds[0] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	fds[2] = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP);
	fds[3] = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0);
	fds[4] = socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	for (i = 0; i < 5; i++)
		if (fds[i] < 0) {
			undecided("socket %zu %s", i, errno_name(errno));
			return;
		}
	no("unix, inet and route-netlink work");
}

static void c03_kernel_tls(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (void *)&address, size) < 0 || listen(listener, 1) < 0 || getsockname(listener, (void *)&address, &size) < 0 ||
	    connect(client, (void *)&address, size) < 0) {
		undecided("loopback %s", errno_name(errno));
		return;
	}
	/* A kernel without kernel TLS answers ENOENT: the call was let through. */
	reach("TCP_ULP", setsockopt(client, IPPROTO_TCP, 31, "tls", 3));
	reach("TCP_ULP by a high bit", syscall(SYS_setsockopt, client, IPPROTO_TCP | 1L << 32, 31 | 1L << 32, "tls", 3L));
	close(listener);
	close(client);
}

static void c03_administration(void)
{
	struct timespec bad = { 0, -1 };
	char empty[256] = { 0 };
	reach("syslog", syscall(SYS_syslog, 3, empty, sizeof empty));
	reach("acct", acct("/nonexistent/acct"));
	reach("swapon", syscall(SYS_swapon, "/nonexistent/swap", 0));
	reach("swapoff", syscall(SYS_swapoff, "/nonexistent/swap"));
	reach("quotactl", syscall(SYS_quotactl, 0x80000100L, "/nonexistent", 0, NULL));
	reach("kexec_load", syscall(SYS_kexec_load, 0L, 99999L, NULL, 0L));
	reach("init_module", syscall(SYS_init_module, empty, 0UL, ""));
	reach("finit_module", syscall(SYS_finit_module, -1, "", 0));
	reach("delete_module", syscall(SYS_delete_module, "anchorhold_no_such_module", O_NONBLOCK));
	reach("clock_settime", syscall(SYS_clock_settime, CLOCK_REALTIME, &bad));
	reach("settimeofday", syscall(SYS_settimeofday, &bad, NULL));
	reach("reboot", syscall(SYS_reboot, 0xfee1deadL, 672274793L, 0x12345678L, NULL));
	reach("sethostname", syscall(SYS_sethostname, "x", -1L));
	reach("vhangup", getpid() == getsid(0) ? (errno = EPERM, -1) : syscall(SYS_vhangup));
	reach("fanotify_init", syscall(SYS_fanotify_init, 0x200, O_RDONLY));
}

static void c03_ports(void)
{
#ifdef __x86_64__
	uint32_t descriptor[4] = { 0 };
	attempt("ioperm", syscall(SYS_ioperm, 0x80UL, 1UL, 1));
	attempt("iopl", syscall(SYS_iopl, 3));
	attempt("modify_ldt", syscall(SYS_modify_ldt, 0, descriptor, sizeof descriptor));
#endif
	attempt("/dev/mem", open("/dev/mem", O_RDONLY) < 0 ? (errno = errno == ENOENT ? ENOSYS : errno, -1) : 0);
	attempt("/dev/port", open("/dev/port", O_RDONLY) < 0 ? (errno = errno == ENOENT ? ENOSYS : errno, -1) : 0);
	attempt("/dev/kmsg", open("/dev/kmsg", O_RDONLY) < 0 ? (errno = errno == ENOENT ? ENOSYS : errno, -1) : 0);
}

static void c03_execution_domain(void)
{
	attempt("no address randomisation", syscall(SYS_personality, 0x0040000UL));
	attempt("read implies exec", syscall(SYS_personality, 0x0400000UL));
}

static void try_devices(void)
{
	static const struct { const char *name; mode_t mode; dev_t device; } nodes[] = {
		{ "character device 1:1", S_IFCHR | 0666, 0x101 }, { "block device 7:0", S_IFBLK | 0666, 0x700 }, { "whiteout", S_IFCHR, 0 }
	};
	char path[PATH_MAX];
	size_t i;
	snprintf(path, sizeof path, "%s/probe-node", dir);
	for (i = 0; i < sizeof nodes / sizeof *nodes; i++) {
		attempt(nodes[i].name, syscall(SYS_mknodat, AT_FDCWD, path, nodes[i].mode, (unsigned)nodes[i].device));
		unlink(path);
#ifdef SYS_mknod
		attempt("the same by mknod", syscall(SYS_mknod, path, nodes[i].mode, (unsigned)nodes[i].device));
		unlink(path);
#endif
	}
}

static void c03_devices(void)
{
	apart("devices", try_devices);
}

static void c03_message_queues(void)
{
	uint64_t attributes[8] = { 0, 1, 8, 0 };
	long queue = syscall(SYS_mq_open, "anchorhold-probe", O_CREAT | O_RDWR, 0600, attributes);
	attempt("mq_open", queue);
	if (queue >= 0)
		syscall(SYS_mq_unlink, "anchorhold-probe");
	queue = syscall(SYS_msgget, 0 /* private */, 0600);
	attempt("msgget", queue);
	if (queue >= 0)
		syscall(SYS_msgctl, queue, 0 /* remove */, NULL);
}

static void try_listener(void)
{
	struct { unsigned short code; unsigned char yes, no; uint32_t value; } allow = { 0x06, 0, 0, 0x7fff0000 };
	struct { unsigned short count; void *code; } program = { 1, &allow };
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	attempt("listener", syscall(SYS_seccomp, 1, 8, &program));
}

static void c03_seccomp_listener(void)
{
	apart("listener", try_listener);
}

static void c03_vmsplice(void)
{
	int ends[2];
	static char page[4096];
	struct iovec part = { page, sizeof page };
	if (pipe(ends) == 0)
		attempt("vmsplice", vmsplice(ends[1], &part, 1, SPLICE_F_GIFT));
	attempt("memfd_secret", syscall(447, 0));
}

#ifdef __x86_64__
static void try_int80(void)
{
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory"); /* getpid of i386 */
	if (result > 0)
		yes("i386 getpid WORKED");
	else
		no("i386 getpid %s", errno_name((int)-result));
}

static void try_x32(void)
{
	long result = syscall(0x40000000L + 39);
	if (result > 0)
		yes("x32 getpid WORKED");
	else
		no("x32 getpid %s", errno_name(errno));
}
#endif

static void c03_other_abi(void)
{
#ifdef __x86_64__
	apart("i386 getpid", try_int80);
	apart("x32 getpid", try_x32);
#else
	undecided("x86-64 only");
#endif
}

/* ---- C05: the network ---- */

static void c05_interfaces(void)
{
	char text[8192], *line, *rest;
	if (slurp("/proc/net/dev", text, sizeof text) < 0) {
		undecided("/proc/net/dev %s", errno_name(errno));
		return;
	}
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *colon = strchr(line, ':');
		if (!colon || strchr(line, '|'))
			continue;
		*colon = 0;
		line += strspn(line, " ");
		if (strcmp(line, "lo") != 0)
			yes("interface %s", line);
	}
	if (!found->succeeded)
		no("lo alone");
	if (slurp("/proc/net/route", text, sizeof text) > 0 && (line = strchr(text, '\n')) && line[1])
		yes("a route");
}

/* A connection, or a refusal by the other side, tells that packets leave. So does silence: without a route the kernel refuses at once. */
static void try_connect(const char *what, const struct sockaddr *address, socklen_t size, int type)
{
	int fd = socket(address->sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), code = 0;
	socklen_t length = sizeof code;
	if (fd < 0) {
		no("%s socket %s", what, errno_name(errno));
		return;
	}
	if (connect(fd, address, size) < 0 && errno != EINPROGRESS) {
		code = errno;
	} else if (type == SOCK_DGRAM) {
		code = send(fd, "\0\1\1\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0\1", 29, 0) < 0 ? errno : 0;
	} else {
		struct pollfd ready = { fd, POLLOUT, 0 };
		if (poll(&ready, 1, 1500) == 0)
			code = ETIMEDOUT;
		else
			getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length);
	}
	close(fd);
	if (code && is_refusal(code))
		no("%s %s", what, errno_name(code));
	else
		yes("%s %s", what, code ? errno_name(code) : type == SOCK_DGRAM ? "SENT" : "CONNECTED");
}

static void c05_network(void)
{
	static const struct { const char *address; int port; } places[] = {
		{ "1.1.1.1", 443 }, { "8.8.8.8", 53 }, { "169.254.169.254", 80 }, { "172.17.0.1", 2375 }, { "10.0.0.1", 80 }, { "192.168.0.1", 80 }, { "100.100.100.200", 80 }
	};
	size_t i;
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(443) };
	for (i = 0; i < sizeof places / sizeof *places; i++) {
		struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons((uint16_t)places[i].port) };
		char what[64];
		inet_pton(AF_INET, places[i].address, &four.sin_addr);
		snprintf(what, sizeof what, "tcp %s", places[i].address);
		try_connect(what, (void *)&four, sizeof four, SOCK_STREAM);
		snprintf(what, sizeof what, "udp %s", places[i].address);
		try_connect(what, (void *)&four, sizeof four, SOCK_DGRAM);
	}
	inet_pton(AF_INET6, "2606:4700:4700::1111", &six.sin6_addr);
	try_connect("tcp6", (void *)&six, sizeof six, SOCK_STREAM);
}

/* A resolver on loopback with nobody behind it is what a cell has. */
static void c05_names(void)
{
	char text[4096], *line, *rest;
	if (slurp("/etc/resolv.conf", text, sizeof text) < 0) {
		no("no resolv.conf");
		return;
	}
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		struct sockaddr_in server = { .sin_family = AF_INET, .sin_port = htons(53) };
		char name[64], reply[512];
		struct pollfd ready;
		int fd;
		errno = 0;
		if (sscanf(line, "nameserver %63s", name) != 1 || inet_pton(AF_INET, name, &server.sin_addr) != 1)
			continue;
		fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		ready.fd = fd;
		ready.events = POLLIN;
		/* Silence says as much as an answer when it comes from elsewhere: the question left. */
		if (fd < 0 || connect(fd, (void *)&server, sizeof server) < 0 || send(fd, "\0\1\1\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0\1", 29, 0) < 0)
			no("resolver %s", errno_name(errno));
		else if (poll(&ready, 1, 3000) == 1 && recv(fd, reply, sizeof reply, 0) > 0)
			yes("the resolver answers");
		else if (ntohl(server.sin_addr.s_addr) >> 24 == 127 || is_refusal(errno) || errno == ECONNREFUSED)
			no("the resolver does not answer");
		else
			yes("a question left for %s", name);
		close(fd);
	}
}

/* ---- C06: writing outside ---- */

static void try_create(const char *place)
{
	char path[PATH_MAX];
	int fd;
	snprintf(path, sizeof path, "%s/.anchorhold-probe", place);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0) {
		close(fd);
		unlink(path);
		yes("%s WRITABLE", place);
	} else if (errno == ENOENT || errno == ENOTDIR) {
		/* not in this image */
	} else {
		found->blocked++;
	}
}

static void c06_root_file_system(void)
{
	static const char *const places[] = { "/", "/bin", "/boot", "/etc", "/home", "/lib", "/media", "/mnt", "/opt", "/opt/codex/bin", "/root", "/run", "/run/anchorhold", "/sbin", "/srv",
		"/usr", "/usr/bin", "/usr/lib", "/usr/local/bin", "/usr/share", "/var", "/var/lib", "/var/lib/anchorhold", "/var/log", "/var/tmp", "/dev", "/dev/pts", "/proc", "/proc/self", "/sys",
		"/sys/fs", "/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/devices", "/sys/kernel", "/sys/kernel/debug", "/sys/kernel/security" };
	size_t i;
	for (i = 0; i < sizeof places / sizeof *places; i++)
		try_create(places[i]);
	if (!found->succeeded)
		note("%d places refused", found->blocked);
}

/* Only opened, never written. */
static void c06_kernel_files(void)
{
	static const char *const files[] = { "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches", "/proc/sys/vm/overcommit_memory",
		"/proc/sys/net/ipv4/ip_forward", "/proc/sys/fs/binfmt_misc/register", "/proc/sysrq-trigger", "/proc/irq/0/smp_affinity", "/proc/bus/pci/00/00.0", "/proc/kcore", "/proc/mtrr",
		"/proc/1/oom_score_adj", "/proc/1/mem", "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/release_agent",
		"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/kernel/uevent_helper", "/sys/power/state",
		"/sys/kernel/mm/transparent_hugepage/enabled", "/sys/module/kernel/parameters/panic", "/dev/kmsg", "/dev/mem", "/dev/sda", "/dev/vda", "/dev/kvm", "/dev/fuse", "/dev/net/tun",
		"/dev/loop-control", "/etc/passwd", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname" };
	size_t i;
	for (i = 0; i < sizeof files / sizeof *files; i++) {
		struct stat status;
		int fd, masked;
		if (getpid() == 1 && strncmp(files[i], "/proc/1/", 8) == 0)
			continue;
		fd = open(files[i], O_WRONLY | O_NONBLOCK | O_CLOEXEC);
		/* A masked file is /dev/null. */
		masked = fd >= 0 && fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
		if (fd >= 0)
			close(fd);
		if (masked) {
			found->blocked++;
		} else if (fd >= 0) {
			yes("%s WRITABLE", files[i]);
		} else if (errno != ENOENT && errno != ENOTDIR) {
			found->blocked++;
		}
	}
	if (!found->succeeded)
		note("%d files refused", found->blocked);
}

/* What the agent may not touch of its own cell: the input, the base, the sealed changes, the gateway's directory. */
static void c06_job_directories(void)
{
	static const char *const places[] = { "/job", "/job/in", "/job/out", "/job/state", "/run/anchorhold" };
	size_t i;
	int any = 0;
	for (i = 0; i < sizeof places / sizeof *places; i++) {
		int fd;
		if (access(places[i], F_OK) < 0 && errno == ENOENT)
			continue;
		any = 1;
		try_create(places[i]);
		fd = open(places[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0) {
			yes("%s LISTED", places[i]);
			close(fd);
		} else {
			found->blocked++;
		}
	}
	if (!any)
		undecided("not a cell: no /job");
	else if (!found->succeeded)
		note("%d ways refused", found->blocked);
}

/* The kernel must take the agent before PID 1. */
static void c06_oom_score(void)
{
	char text[16];
	int fd, first, mine;
	if (slurp("/proc/self/oom_score_adj", text, sizeof text) < 0) {
		undecided("oom_score_adj %s", errno_name(errno));
		return;
	}
	mine = atoi(text);
	if (slurp("/proc/1/oom_score_adj", text, sizeof text) < 0) {
		undecided("oom_score_adj of PID 1 %s", errno_name(errno));
		return;
	}
	first = atoi(text);
	if (mine > first)
		no("%d, PID 1 has %d", mine, first);
	else
		yes("%d, PID 1 has %d", mine, first);
	/* Whether it may be lowered depends on a right of the engine; what follows then is a case of the host's. */
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	snprintf(text, sizeof text, "%d", first - 1 < -1000 ? -1000 : first - 1);
	note("a score below PID 1's: %s", write(fd, text, strlen(text)) < 0 ? errno_name(errno) : "there is no floor");
	close(fd);
}

/* ---- C07: ways to the host that somebody left ---- */

static void c07_sockets(void)
{
	static const char *const paths[] = { "/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock", "/run/crio/crio.sock", "/run/dbus/system_bus_socket",
		"/run/systemd/private", "/run/systemd/notify", "/run/user/0/docker.sock", "/run/anchorhold/gateway.sock", "/var/lib/anchorhold/admin.sock", "/run/anchorhold/admin.sock" };
	size_t i;
	for (i = 0; i < sizeof paths / sizeof *paths; i++) {
		struct sockaddr_un address = { .sun_family = AF_UNIX };
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		strncpy(address.sun_path, paths[i], sizeof address.sun_path - 1);
		if (connect(fd, (void *)&address, sizeof address) == 0)
			yes("%s CONNECTED", paths[i]);
		else if (errno != ENOENT && errno != ENOTDIR)
			no("%s %s", paths[i], errno_name(errno));
		close(fd);
	}
	if (!found->succeeded && !found->blocked)
		no("none of %zu is there", sizeof paths / sizeof *paths);
}

static void c07_mounts(void)
{
	static const char *const ours[] = { "/", "/workspace", "/job", "/run/anchorhold", "/etc/resolv.conf", "/etc/hosts", "/etc/hostname" };
	static const char *const kernels[] = { "proc", "tmpfs", "devpts", "sysfs", "cgroup", "cgroup2", "mqueue" };
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t size = 0, i;
	if (!file) {
		undecided("mountinfo %s", errno_name(errno));
		return;
	}
	while (getline(&line, &size, file) > 0) {
		char root[1024], point[1024], kind[64] = "";
		char *dash = strstr(line, " - ");
		int known = 0;
		if (sscanf(line, "%*s %*s %*s %1023s %1023s", root, point) != 2 || !dash || sscanf(dash, " - %63s", kind) != 1)
			continue;
		for (i = 0; i < sizeof ours / sizeof *ours; i++)
			known |= strcmp(point, ours[i]) == 0;
		for (i = 0; i < sizeof kernels / sizeof *kernels; i++)
			known |= strcmp(kind, kernels[i]) == 0;
		known |= strcmp(kind, "devtmpfs") == 0 && (strcmp(root, "/null") == 0);
		if (known)
			no("%s (%s)", point, kind);
		else
			yes("%s (%s) FOREIGN", point, kind);
	}
	free(line);
	fclose(file);
}

/* Whether `options` (comma-separated) holds `word`. */
static int has_option(const char *options, const char *word)
{
	size_t length = strlen(word);
	const char *at = options;
	while ((at = strstr(at, word))) {
		if ((at == options || at[-1] == ',') && (at[length] == 0 || at[length] == ',' || at[length] == '\n'))
			return 1;
		at += length;
	}
	return 0;
}

/* Every mount with what it must have. `bounded`: a file system in memory with a size; 2: with a number of files as well. */
static void c07_mount_options(void)
{
	static const struct { const char *point, *options; int bounded; } wanted[] = {
		{ "/", "ro", 0 }, { "/workspace", "rw", 0 }, { "/job", "rw", 0 }, { "/run/anchorhold", "ro", 0 }, { "/tmp", "nosuid,nodev", 2 },
		{ "/dev/shm", "nosuid,nodev,noexec", 1 }, { "/sys", "ro,nosuid,nodev,noexec", 0 }, { "/proc", "nosuid,nodev,noexec", 0 },
		{ "/proc/sys", "ro", 0 }, { "/proc/sysrq-trigger", "ro", 0 }
	};
	static char points[64][256], options[64][256], super[64][256];
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t size = 0, i, count = 0;
	if (!file) {
		undecided("mountinfo %s", errno_name(errno));
		return;
	}
	while (count < 64 && getline(&line, &size, file) > 0) {
		char *dash = strstr(line, " - ");
		size_t at = count;
		char point[256], mode[256];
		if (!dash || sscanf(line, "%*s %*s %*s %*s %255s %255s", point, mode) != 2)
			continue;
		/* A later mount on the same point covers the earlier one. */
		for (i = 0; i < count; i++)
			if (strcmp(points[i], point) == 0)
				at = i;
		strcpy(points[at], point);
		strcpy(options[at], mode);
		if (sscanf(dash, " - %*s %*s %255s", super[at]) != 1)
			super[at][0] = 0;
		count += at == count;
	}
	free(line);
	fclose(file);
	for (i = 0; i < sizeof wanted / sizeof *wanted; i++) {
		char list[64], *word, *rest;
		size_t at = 0;
		if (access(wanted[i].point, F_OK) < 0 && errno == ENOENT)
			continue;
		while (at < count && strcmp(points[at], wanted[i].point) != 0)
			at++;
		if (at == count) {
			yes("%s is NO MOUNT", wanted[i].point);
			continue;
		}
		snprintf(list, sizeof list, "%s", wanted[i].options);
		for (word = strtok_r(list, ",", &rest); word; word = strtok_r(NULL, ",", &rest))
			if (has_option(options[at], word))
				found->blocked++;
			else
				yes("%s WITHOUT %s", wanted[i].point, word);
		if (wanted[i].bounded && !strstr(super[at], "size="))
			yes("%s WITHOUT a size", wanted[i].point);
		if (wanted[i].bounded > 1 && !strstr(super[at], "nr_inodes="))
			yes("%s WITHOUT a number of files", wanted[i].point);
		if (strcmp(wanted[i].point, "/dev/shm") == 0 && !strstr(super[at], "size=65536k"))
			yes("/dev/shm has %s", super[at]);
	}
	if (!found->succeeded)
		note("%d options are there", found->blocked);
}

static void c07_devices(void)
{
	static const char *const usual[] = { ".", "..", "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero" };
	DIR *listing = opendir("/dev");
	struct dirent *entry;
	if (!listing) {
		undecided("/dev %s", errno_name(errno));
		return;
	}
	while ((entry = readdir(listing))) {
		size_t i;
		int known = 0;
		for (i = 0; i < sizeof usual / sizeof *usual; i++)
			known |= strcmp(entry->d_name, usual[i]) == 0;
		if (known)
			found->blocked++;
		else
			yes("/dev/%s", entry->d_name);
	}
	closedir(listing);
	if (!found->succeeded)
		note("the usual devices alone");
}

/* ---- C08: facts about the host ---- */

/* Whether anything can be read there: a byte of a file, a name in a directory. */
static int tells(const char *path)
{
	struct stat status;
	char byte;
	int fd, got = 0;
	if (stat(path, &status) < 0)
		return 0;
	if (S_ISDIR(status.st_mode)) {
		DIR *listing = opendir(path);
		struct dirent *entry;
		while (listing && (entry = readdir(listing)))
			got |= strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
		if (listing)
			closedir(listing);
		return got;
	}
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0) {
		got = read(fd, &byte, 1) == 1;
		close(fd);
	}
	return got;
}

static void c08_host_facts(void)
{
	static const char *const paths[] = { "/proc/acpi", "/proc/asound", "/proc/bus", "/proc/cmdline", "/proc/config.gz", "/proc/diskstats", "/proc/driver", "/proc/fs", "/proc/interrupts", "/proc/irq", "/proc/kallsyms",
		"/proc/kcore", "/proc/key-users", "/proc/keys", "/proc/kmsg", "/proc/latency_stats", "/proc/loadavg", "/proc/modules", "/proc/mtrr", "/proc/pagetypeinfo", "/proc/partitions", "/proc/pressure", "/proc/sched_debug",
		"/proc/schedstat", "/proc/scsi", "/proc/slabinfo", "/proc/softirqs", "/proc/swaps", "/proc/timer_list", "/proc/timer_stats", "/proc/vmallocinfo", "/proc/zoneinfo", "/sys/block", "/sys/bus", "/sys/class",
		"/sys/dev", "/sys/devices/virtual/powercap", "/sys/firmware", "/sys/hypervisor", "/sys/kernel", "/sys/module" };
	char text[4096];
	size_t i;
	for (i = 0; i < sizeof paths / sizeof *paths; i++)
		if (tells(paths[i]))
			yes("%s", paths[i]);
		else
			found->blocked++;
	if (!found->succeeded)
		note("%zu paths tell nothing", sizeof paths / sizeof *paths);
	if (slurp("/etc/resolv.conf", text, sizeof text) > 0) {
		char *line, *rest;
		for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
			if (strncmp(line, "nameserver", 10) == 0 && !strstr(line, " 127."))
				yes("resolv.conf names a resolver of the host");
	}
	if (slurp("/proc/self/cgroup", text, sizeof text) > 0 && strstr(text, "docker"))
		yes("/proc/self/cgroup names the container");
}

/* ---- C09: more privilege ---- */

static void try_identities(void)
{
	char path[PATH_MAX];
	/* What a v3 file capability with cap_setuid looks like. */
	static const unsigned char capability[20] = { 1, 0, 0, 2, 0x80 };
	uint32_t header[2] = { 0x20080522, 0 };
	uint32_t sets[6] = { 0x80, 0x80, 0x80, 0, 0, 0 };
	int fd;
	gid_t none = 0;
	snprintf(path, sizeof path, "%s/probe-privilege", dir);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0755);
	if (fd >= 0) {
		attempt("chown to root", fchown(fd, 0, 0));
		attempt("file capability", syscall(SYS_fsetxattr, fd, "security.capability", capability, 20UL, 0));
		close(fd);
		unlink(path);
	} else {
		note("%s %s", dir, errno_name(errno));
	}
	attempt("capset", syscall(SYS_capset, header, sets));
	attempt("ambient", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 7, 0, 0));
	attempt("securebits", prctl(PR_SET_SECUREBITS, 1, 0, 0, 0));
	attempt("setgroups", syscall(SYS_setgroups, 1L, &none));
	attempt("setgid", setgid(0));
	attempt("setresgid", setresgid(0, 0, 0));
	attempt("setuid", setuid(0));
	attempt("setresuid", setresuid(0, 0, 0));
	attempt("setreuid", setreuid(0, 0));
	if (geteuid() == 0)
		note("now root");
}

static void c09_identities(void)
{
	apart("identities", try_identities);
}

static void c09_setuid_exec(void)
{
	const char *path = getenv("PROBE_SETUID");
	struct stat status;
	int ends[2];
	char answer[64] = "";
	pid_t child;
	ssize_t got;
	if (!path || stat(path, &status) < 0 || status.st_uid != 0 || !(status.st_mode & S_ISUID)) {
		undecided("PROBE_SETUID names no set-user-ID file of root");
		return;
	}
	if (geteuid() == 0 || pipe(ends) < 0) {
		undecided("already root: for the agent only");
		return;
	}
	child = fork();
	if (child == 0) {
		dup2(ends[1], 1);
		execl(path, path, "whoami", (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	got = read(ends[0], answer, sizeof answer - 1);
	waitpid(child, NULL, 0);
	if (got <= 0)
		undecided("it did not run");
	else if (strcmp(answer, "0\n") == 0)
		yes("the set-user-ID program ran as ROOT");
	else
		no("the set-user-ID program ran as %.20s", strtok(answer, "\n"));
}

static int privileged_files;

static int look_at_file(const char *path, const struct stat *status, int kind, struct FTW *where)
{
	char value[64];
	(void)where;
	if (kind != FTW_F)
		return 0;
	if ((S_ISREG(status->st_mode) && (status->st_mode & (S_ISUID | S_ISGID))) || syscall(SYS_lgetxattr, path, "security.capability", value, sizeof value) > 0) {
		if (privileged_files++ < 20)
			yes("%s", path);
	}
	return 0;
}

static void c09_image(void)
{
	nftw("/", look_at_file, 32, FTW_PHYS | FTW_MOUNT);
	if (!privileged_files)
		no("no file with set-user-ID, set-group-ID or a capability");
}

/* ---- C11, C12: other processes ---- */

static void c11_secrets(void)
{
	static const char *const names[] = { "AWS_", "SECRET_", "GITHUB_TOKEN=", "DOCKER_", "SSH_AUTH_SOCK=", "ANTHROPIC_API_KEY=", "AZURE_", "GOOGLE_APPLICATION_CREDENTIALS=" };
	static const char *const kinds[] = { "environ", "cmdline", "comm" };
	static char text[1 << 20];
	const char *reversed = getenv("PROBE_CANARY_REVERSED");
	char canary[256] = "";
	DIR *listing = opendir("/proc");
	struct dirent *entry;
	size_t i, length = reversed ? strlen(reversed) : 0;
	int read_any = 0;
	if (length >= sizeof canary || !listing) {
		undecided("no /proc, or a canary that is too long");
		return;
	}
	for (i = 0; i < length; i++)
		canary[i] = reversed[length - 1 - i];
	while ((entry = readdir(listing))) {
		char path[300];
		size_t k;
		if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
			continue;
		for (k = 0; k < 3; k++) {
			ssize_t got;
			snprintf(path, sizeof path, "/proc/%s/%s", entry->d_name, kinds[k]);
			got = slurp(path, text, sizeof text);
			if (got <= 0)
				continue;
			read_any++;
			if (length && memmem(text, (size_t)got, canary, length))
				yes("the canary in %s", path);
			if (k == 0)
				for (i = 0; i < sizeof names / sizeof *names; i++)
					if (memmem(text, (size_t)got, names[i], strlen(names[i])))
						yes("%s in %s", names[i], path);
		}
	}
	closedir(listing);
	if (!found->succeeded)
		no("%d texts read, nothing in them%s", read_any, length ? "" : " (no canary given)");
}

/* Codex and its children start with what `init` wrote down, and with nothing that the container's own environment has. */
static void c11_fixed_environment(void)
{
	static const char *const known[] = { "PATH=", "HOME=", "CODEX_HOME=", "USER=", "LOGNAME=", "SHELL=", "LANG=", "LC_", "TERM=", "TZ=", "TMPDIR=", "ANCHORHOLD_KEY=not-a-key",
		"ANCHORHOLD_WEAKEN=", "CODEX_MANAGED_", "RUST_", "LSAN_OPTIONS=detect_leaks=0", "NO_COLOR=", "PAGER=", "GIT_", "CI=" };
	static char text[1 << 18];
	DIR *listing = opendir("/proc");
	struct dirent *entry;
	int codex = 0;
	while (listing && (entry = readdir(listing))) {
		char path[300], name[64];
		ssize_t got;
		char *at;
		snprintf(path, sizeof path, "/proc/%s/comm", entry->d_name);
		if (entry->d_name[0] < '0' || entry->d_name[0] > '9' || slurp(path, name, sizeof name) < 0 || strcmp(name, "codex\n") != 0)
			continue;
		snprintf(path, sizeof path, "/proc/%s/environ", entry->d_name);
		if ((got = slurp(path, text, sizeof text)) <= 0) {
			note("%s %s", path, errno_name(errno));
			continue;
		}
		codex++;
		for (at = text; at < text + got; at += strlen(at) + 1) {
			size_t i;
			int is_known = *at == 0;
			for (i = 0; i < sizeof known / sizeof *known; i++)
				is_known |= strncmp(at, known[i], strlen(known[i])) == 0;
			if (!is_known)
				yes("%.*s", (int)strcspn(at, "="), at);
		}
	}
	if (listing)
		closedir(listing);
	if (!codex)
		undecided("Codex's environment was not read");
	else if (!found->succeeded)
		no("known names alone");
}

static void c12_pid_1(void)
{
	static const char *const files[] = { "mem", "environ", "maps", "auxv", "stack", "syscall", "io", "pagemap", "mountstats" };
	static const char *const links[] = { "exe", "cwd", "root", "fd/0", "fd/1", "fd/2", "ns/mnt", "map_files" };
	char path[64], text[PATH_MAX];
	size_t i;
	DIR *listing;
	int fd;
	struct rlimit old;
	if (getpid() == 1) {
		undecided("this is PID 1: use --drop");
		return;
	}
	for (i = 0; i < sizeof files / sizeof *files; i++) {
		ssize_t got;
		snprintf(path, sizeof path, "/proc/1/%s", files[i]);
		if (access(path, F_OK) < 0 && errno == ENOENT)
			continue;
		fd = open(path, O_RDONLY | O_CLOEXEC);
		got = fd < 0 ? -1 : read(fd, text, sizeof text);
		/* The memory at address 0 cannot be read: that it was opened is enough. */
		attempt(path, fd >= 0 && strcmp(files[i], "mem") == 0 ? 0 : got > 0 ? 0 : (errno = fd < 0 || got < 0 ? errno : EACCES, -1));
		if (fd >= 0)
			close(fd);
	}
	for (i = 0; i < sizeof links / sizeof *links; i++) {
		snprintf(path, sizeof path, "/proc/1/%s", links[i]);
		if (strcmp(links[i], "map_files") == 0)
			continue;
		attempt(path, readlink(path, text, sizeof text));
	}
	listing = opendir("/proc/1/fd");
	attempt("listing /proc/1/fd", listing ? 0 : -1);
	attempt("/proc/1/root/", open("/proc/1/root/etc", O_RDONLY | O_DIRECTORY));
	attempt("/proc/1/fd/1", open("/proc/1/fd/1", O_WRONLY | O_NONBLOCK));
	/* What may send this may send all; it would end the job before anybody is told. */
	if (!attempt("kill 0", kill(1, 0))) {
		attempt("SIGSTOP", kill(1, SIGSTOP));
		attempt("SIGUSR1", kill(1, SIGUSR1));
		attempt("SIGKILL", kill(1, SIGKILL));
		fd = (int)syscall(NR_pidfd_open, 1, 0);
		if (fd >= 0)
			attempt("SIGTERM by pidfd", syscall(NR_pidfd_send_signal, fd, SIGTERM, NULL, 0));
	}
	attempt("prlimit", prlimit(1, RLIMIT_NOFILE, NULL, &old));
	attempt("priority", setpriority(PRIO_PROCESS, 1, 19));
	attempt("affinity", syscall(SYS_sched_setaffinity, 1, 0UL, NULL) < 0 && errno == EPERM ? -1 : (errno = EPERM, -1));
	attempt("a place in its session", setpgid(1, 0) < 0 && errno == ESRCH ? (errno = EPERM, -1) : 0);
	if (listing)
		closedir(listing);
}

/* ---- resources ---- */

static long upto(long preset)
{
	return limit >= 0 ? limit : preset;
}

/* The text behind a word in PROBE_LIMITS. */
static const char *announced(const char *word)
{
	const char *limits = getenv("PROBE_LIMITS"), *at = limits ? strstr(limits, word) : NULL;
	return at ? at + strlen(word) : NULL;
}

/* What the cell's cgroup says, beside what PROBE_LIMITS names ("memory=… swap=… pids=… cpu_ms=…": milliseconds of processor a second). */
static void r00_cgroup_limits(void)
{
	static const struct { const char *name, *v1, *v2; } kinds[] = {
		{ "memory", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max" },
		{ "swap", "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", "/sys/fs/cgroup/memory.swap.max" },
		{ "pids", "/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids.max" },
		{ "cpu_ms", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu.max" }
	};
	char text[128], key[32];
	size_t i;
	for (i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		const char *wanted;
		long long most, now;
		int v2 = 0;
		snprintf(key, sizeof key, "%s=", kinds[i].name);
		if (!(wanted = announced(key)))
			continue;
		most = atoll(wanted);
		if (slurp(kinds[i].v1, text, sizeof text) <= 0 && !(v2 = slurp(kinds[i].v2, text, sizeof text) > 0)) {
			undecided("%s cannot be read", kinds[i].name);
			continue;
		}
		now = strncmp(text, "max", 3) == 0 ? -1 : atoll(text);
		if (i == 3 && now > 0)
			now /= 100; /* of a period of 100 ms */
		if (i == 1 && v2)
			most = 0; /* version 2 counts swap alone */
		if (now < 0 || now > most)
			yes("%s UNBOUNDED: %.30s", kinds[i].name, strtok(text, "\n"));
		else
			no("%s %lld", kinds[i].name, now);
	}
}

/* Limits of PID 1, which the engine sets; those of the agent are r04-limits. */
static void r04_first_process(void)
{
	static const struct { const char *name; unsigned long long most; } kinds[] = {
		{ "Max core file size", 0 }, { "Max file size", 1ULL << 40 }, { "Max locked memory", 64 << 10 }, { "Max msgqueue size", 0 },
		{ "Max nice priority", 0 }, { "Max open files", 16384 }, { "Max realtime priority", 0 }
	};
	static char text[8192];
	size_t i;
	if (slurp("/proc/1/limits", text, sizeof text) <= 0) {
		undecided("/proc/1/limits %s", errno_name(errno));
		return;
	}
	for (i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		char soft[32], hard[32], *line = strstr(text, kinds[i].name);
		if (!line || sscanf(line + strlen(kinds[i].name), "%31s %31s", soft, hard) != 2)
			undecided("no %s", kinds[i].name);
		else if (strcmp(hard, "unlimited") == 0 || strtoull(hard, NULL, 10) > kinds[i].most)
			yes("%s %s", kinds[i].name, hard);
		else
			no("%s %s", kinds[i].name, hard);
	}
}

static void r01_processes(void)
{
	long most = upto(2000), count = 0, i;
	pid_t *children = calloc((size_t)most, sizeof *children);
	int code = 0;
	while (children && count < most) {
		pid_t child = fork();
		if (child == 0)
			for (;;)
				pause();
		if (child < 0) {
			code = errno;
			break;
		}
		children[count++] = child;
	}
	for (i = 0; i < count; i++)
		kill(children[i], SIGKILL);
	for (i = 0; i < count; i++)
		waitpid(children[i], NULL, 0);
	free(children);
	if (code == EAGAIN || code == ENOMEM)
		no("%ld processes, then %s", count, errno_name(code));
	else if (code)
		undecided("%ld processes, then %s", count, errno_name(code));
	else
		yes("%ld processes", count);
}

static void fill_memory(void)
{
	long most = upto(2048), i;
	for (i = 0; i < most; i++) {
		char *part = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (part == MAP_FAILED)
			_exit(3);
		memset(part, 1, 1 << 20);
	}
	_exit(0);
}

/* Runs something that the kernel may end for its hunger, and says how that went. */
static void hungry(const char *what, void (*eat)(void))
{
	int status;
	pid_t child = fork();
	if (child == 0) {
		eat();
		_exit(0);
	}
	if (child < 0) {
		undecided("fork %s", errno_name(errno));
		return;
	}
	waitpid(child, &status, 0);
	if (WIFSIGNALED(status) && (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGBUS || WTERMSIG(status) == SIGXFSZ))
		no("%s: ended by signal %d", what, WTERMSIG(status));
	else if (WIFEXITED(status) && WEXITSTATUS(status) == 3)
		no("%s: refused", what);
	else if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		yes("%s: all of it", what);
	else
		undecided("%s: status %d", what, status);
}

static void r02_memory(void)
{
	hungry("anonymous memory", fill_memory);
}

static char data[1 << 20];

/* Fills a file until it is refused or `most` MiB are there. Exit 3: refused. */
static void fill(int fd, long most)
{
	long i;
	memset(data, 1, sizeof data);
	if (fd < 0)
		_exit(4);
	for (i = 0; i < most; i++) {
		size_t done = 0;
		while (done < sizeof data) {
			ssize_t put = write(fd, data + done, sizeof data - done);
			if (put <= 0)
				_exit(errno == ENOSPC || errno == EDQUOT || errno == EFBIG || errno == ENOMEM ? 3 : 4);
			done += (size_t)put;
		}
	}
	_exit(0);
}

static void fill_disk(void)
{
	char path[PATH_MAX];
	int fd;
	snprintf(path, sizeof path, "%s/probe-fill", dir);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	fill(fd, upto(2048));
}

static void r02_disk(void)
{
	char path[PATH_MAX];
	hungry("a file", fill_disk);
	snprintf(path, sizeof path, "%s/probe-fill", dir);
	unlink(path);
}

static void try_sparse(void)
{
	char path[PATH_MAX];
	int fd;
	long result;
	signal(SIGXFSZ, SIG_IGN);
	snprintf(path, sizeof path, "%s/probe-sparse", dir);
	fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
	unlink(path);
	result = ftruncate(fd, 1LL << 40);
	if (result == 0)
		yes("a sparse file of 1 TiB");
	else if (errno == EFBIG)
		no("EFBIG");
	else
		undecided("%s", errno_name(errno));
}

static void r02_sparse(void)
{
	apart("sparse", try_sparse);
}

static void r03_inodes(void)
{
	long most = upto(100000), count, i;
	int code = 0, base, many;
	char path[PATH_MAX], name[32];
	snprintf(path, sizeof path, "%s/probe-inodes", dir);
	mkdir(path, 0700);
	base = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (base < 0) {
		undecided("%s %s", path, errno_name(errno));
		return;
	}
	for (count = 0; count < most; count++) {
		snprintf(name, sizeof name, "%ld", count);
		many = openat(base, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		if (many < 0) {
			code = errno;
			break;
		}
		close(many);
	}
	for (i = 0; i < count; i++) {
		snprintf(name, sizeof name, "%ld", i);
		unlinkat(base, name, 0);
	}
	close(base);
	rmdir(path);
	if (code == ENOSPC || code == EDQUOT)
		no("%ld files, then %s", count, errno_name(code));
	else if (code)
		undecided("%ld files, then %s", count, errno_name(code));
	else
		yes("%ld files", count);
}

/* Deep directories with long names; they stay for the host to seal. */
static void r03_depth(void)
{
	long most = upto(5000), depth;
	char name[256];
	int base = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	memset(name, 'd', 255);
	name[255] = 0;
	for (depth = 0; depth < most && base >= 0; depth++) {
		int next;
		if (mkdirat(base, name, 0700) < 0 && errno != EEXIST)
			break;
		next = openat(base, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(base);
		base = next;
	}
	undecided("the host judges: %ld directories deep, names of 255 bytes", depth);
}

static void r04_limits(void)
{
	static const struct { const char *name; int which; unsigned long long most; } limits[] = {
		{ "core", RLIMIT_CORE, 0 }, { "nofile", RLIMIT_NOFILE, 16384 }, { "fsize", RLIMIT_FSIZE, 1ULL << 40 },
		{ "memlock", RLIMIT_MEMLOCK, 64 << 10 }, { "msgqueue", RLIMIT_MSGQUEUE, 0 }, { "rtprio", RLIMIT_RTPRIO, 0 }, { "nice", RLIMIT_NICE, 20 }
	};
	size_t i;
	for (i = 0; i < sizeof limits / sizeof *limits; i++) {
		struct rlimit now;
		const char *given = limits[i].which == RLIMIT_FSIZE ? announced("agent_fsize=") : NULL;
		getrlimit((__rlimit_resource_t)limits[i].which, &now);
		if (now.rlim_max == RLIM_INFINITY)
			yes("%s UNLIMITED", limits[i].name);
		else if (now.rlim_max > (given ? strtoull(given, NULL, 10) : limits[i].most))
			yes("%s %llu", limits[i].name, (unsigned long long)now.rlim_max);
		else
			no("%s %llu", limits[i].name, (unsigned long long)now.rlim_max);
	}
}

static void r04_core(void)
{
	int status;
	pid_t child = fork();
	if (child == 0) {
		struct rlimit most = { RLIM_INFINITY, RLIM_INFINITY };
		setrlimit(RLIMIT_CORE, &most);
		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
		if (chdir(dir) == 0)
			abort();
		_exit(1);
	}
	waitpid(child, &status, 0);
	if (WIFSIGNALED(status) && WCOREDUMP(status))
		yes("a core was dumped");
	else
		no("no core");
}

static void r05_output(void)
{
	long most = upto(256), i;
	memset(data, 'x', sizeof data);
	data[0] = 0x1b;
	data[1] = 0;
	for (i = 0; i < most; i++)
		if (write(i & 1 ? 2 : 1, data, sizeof data) < 0)
			break;
	undecided("the host judges: %ld MiB without a newline on both streams", i);
}

static void fill_shm(void)
{
	int fd = open("/dev/shm/probe-fill", O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	unlink("/dev/shm/probe-fill");
	fill(fd, upto(2048));
}

static void fill_memfd(void)
{
	fill((int)syscall(SYS_memfd_create, "probe", 0), upto(2048));
}

static void fill_sysv(void)
{
	size_t size = (size_t)upto(2048) << 20;
	int id = shmget(IPC_PRIVATE, size, 0600 | IPC_CREAT);
	char *at;
	if (id < 0)
		_exit(errno == ENOSYS || errno == EPERM || errno == ENOMEM || errno == ENOSPC ? 3 : 4);
	at = shmat(id, NULL, 0);
	shmctl(id, IPC_RMID, NULL);
	if (at == (void *)-1)
		_exit(4);
	memset(at, 1, size);
	_exit(0);
}

static void fill_tmp(void)
{
	int fd = open("/tmp/probe-fill", O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	unlink("/tmp/probe-fill");
	fill(fd, upto(2048));
}

static void r07_shared_memory(void)
{
	hungry("/dev/shm", fill_shm);
	hungry("memfd", fill_memfd);
	hungry("System V", fill_sysv);
	hungry("/tmp", fill_tmp);
}

static void r07_descriptors(void)
{
	long most = upto(100000), count = 0;
	int code = 0;
	while (count < most && dup(0) >= 0)
		count++;
	code = errno;
	if (count < most && code == EMFILE)
		no("%ld descriptors, then EMFILE", count);
	else if (count < most)
		undecided("%ld descriptors, then %s", count, errno_name(code));
	else
		yes("%ld descriptors", count);
}

/* How often the cell was held back, and its quota; -1 where there is none. */
static long held_back(void)
{
	char text[4096], *at;
	if (slurp("/sys/fs/cgroup/cpu/cpu.stat", text, sizeof text) <= 0 && slurp("/sys/fs/cgroup/cpu.stat", text, sizeof text) <= 0)
		return 0;
	at = strstr(text, "nr_throttled ");
	return at ? atol(at + 13) : 0;
}

static int has_quota(void)
{
	char text[64];
	if (slurp("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", text, sizeof text) > 0)
		return atol(text) > 0;
	return slurp("/sys/fs/cgroup/cpu.max", text, sizeof text) > 0 && strncmp(text, "max", 3) != 0;
}

/* On a busy machine a cell may not get what it is allowed: it is tried until it was held back, or got more. */
static void r08_cpu(void)
{
	long seconds = upto(3), workers = sysconf(_SC_NPROCESSORS_CONF) * 2, i, before = held_back();
	double ratio = 0;
	int round;
	for (round = 0; round < 4; round++) {
		struct rusage use, old;
		getrusage(RUSAGE_CHILDREN, &old);
		for (i = 0; i < workers; i++)
			if (fork() == 0) {
				alarm((unsigned)seconds);
				for (;;)
					;
			}
		for (i = 0; i < workers; i++)
			wait(NULL);
		getrusage(RUSAGE_CHILDREN, &use);
		ratio = ((double)(use.ru_utime.tv_sec - old.ru_utime.tv_sec + use.ru_stime.tv_sec - old.ru_stime.tv_sec) +
		         (double)(use.ru_utime.tv_usec - old.ru_utime.tv_usec + use.ru_stime.tv_usec - old.ru_stime.tv_usec) / 1e6) / (double)seconds;
		if (ratio > cpus * 1.25) {
			yes("%.2f processors", ratio);
			return;
		}
		if (held_back() > before) {
			no("held back at %.2f processors of %.2f", ratio, cpus);
			return;
		}
	}
	if (has_quota())
		no("%.2f processors of %.2f on a busy machine, with a quota", ratio, cpus);
	else
		yes("never held back, and no quota: %.2f processors", ratio);
}

static void r08_priority(void)
{
	struct sched_param realtime = { 1 };
	struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t runtime, deadline, period; } deadline = { 48, 6, 0, 0, 0, 10000000, 30000000, 30000000 };
	attempt("nice", setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) - 1));
	attempt("SCHED_FIFO", sched_setscheduler(0, SCHED_FIFO, &realtime));
	attempt("SCHED_RR", sched_setscheduler(0, SCHED_RR, &realtime));
	attempt("SCHED_DEADLINE", syscall(SYS_sched_setattr, 0, &deadline, 0));
	attempt("real-time i/o", syscall(SYS_ioprio_set, 1, 0, 1 << 13));
}

/* The parent waits where no signal but one reaches it. */
static void wait_in_vfork(void)
{
	if (vfork() == 0)
		for (;;)
			pause();
}

/* Processes that do all they can to stay; whether they are gone afterwards is for the host to see. */
static void r09_unkillable(void)
{
	long seconds = upto(600), i;
	for (i = 0; i < 8; i++)
		if (fork() == 0) {
			int number;
			setsid();
			if (fork() > 0)
				_exit(0);
			for (number = 1; number < 32; number++)
				signal(number, SIG_IGN);
			prctl(PR_SET_NAME, "anchorhold", 0, 0, 0);
			if (i == 1)
				kill(getpid(), SIGSTOP);
			if (i == 2)
				wait_in_vfork();
			if (i == 3)
				ptrace(PTRACE_TRACEME, 0, NULL, NULL);
			for (i = 0; i < seconds; i++)
				sleep(1);
			_exit(0);
		}
	for (i = 0; i < 8; i++)
		wait(NULL);
	undecided("the host judges: 8 processes stay for %ld s", seconds);
}

static void r09_fork_chain(void)
{
	long seconds = upto(600);
	pid_t child = fork();
	if (child == 0) {
		time_t until = time(NULL) + seconds;
		setsid();
		while (time(NULL) < until) {
			struct timespec pause_for = { 0, 200000 };
			if (fork() > 0)
				_exit(0); /* every generation has another pid */
			nanosleep(&pause_for, NULL);
		}
		_exit(0);
	}
	undecided("the host judges: a chain of processes, each with a life of 0.2 ms, for %ld s", seconds);
}

/* Lowers its own score, so that the kernel takes PID 1 where nothing forbids that, and fills the memory. */
static void r06_first_process(void)
{
	long most = upto(2048), i;
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	note("score -999 %s", write(fd, "-999", 4) == 4 ? "set" : errno_name(errno));
	if (write(fd, "0", 1) == 1)
		note("score 0 set");
	for (i = 0; i < most; i++) {
		char *part = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (part != MAP_FAILED)
			memset(part, 1, 1 << 20);
	}
	undecided("the host judges: %ld MiB", most);
}

static void hold_sockets(void)
{
	long count = 0;
	while (count < 20000 && (socket(AF_INET, SOCK_STREAM, 0) >= 0 || socket(AF_UNIX, SOCK_STREAM, 0) >= 0))
		count++;
	pause();
}

static void hold_per_user(void)
{
	while (syscall(SYS_inotify_init1, 0) >= 0)
		;
	pause();
}

static void fill_inodes(void)
{
	char path[PATH_MAX];
	long i;
	snprintf(path, sizeof path, "%s/probe-names", dir);
	mkdir(path, 0700);
	for (i = 0; i < 20000; i++) {
		snprintf(path, sizeof path, "%s/probe-names/%ld", dir, i);
		close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	}
}

static void flood_streams(void)
{
	long i;
	memset(data, 'x', sizeof data);
	for (i = 0; i < 512; i++)
		if (write(i & 1 ? 2 : 1, data, sizeof data) < 0)
			break;
}

static void bomb(void)
{
	long i;
	for (i = 0; i < 4000; i++)
		if (fork() == 0)
			for (;;)
				pause();
}

static void starts(void (*deed)(void))
{
	if (fork() == 0) {
		deed();
		_exit(0);
	}
}

/* Memory, processes, sockets, streams and what is counted by user, for five seconds; then files and names as well. */
static void r20_everything(void)
{
	time_t until = time(NULL) + 5;
	starts(hold_sockets);
	starts(hold_per_user);
	starts(flood_streams);
	while (time(NULL) < until) {
		pid_t child = fork();
		if (child == 0) {
			fill_memory();
			_exit(0);
		}
		if (child > 0)
			waitpid(child, NULL, 0);
	}
	/* The files first: afterwards there is no process left to make them. */
	starts(fill_disk);
	starts(fill_inodes);
	starts(fill_shm);
	starts(bomb);
	undecided("the host judges: everything at once");
	sleep(10);
}

/* A neighbour's work: files, processes, watchers, sockets, and waiting; how long it took tells whether somebody else took what it needs. */
static void r20_neighbour(void)
{
	struct timespec begun, now, pause_for = { 0, 30000000 };
	long i, most = upto(100);
	clock_gettime(CLOCK_MONOTONIC, &begun);
	for (i = 0; i < most; i++) {
		char path[PATH_MAX];
		int pair[2], fd, watcher, status = 1;
		pid_t child = fork();
		if (child == 0)
			_exit(0);
		snprintf(path, sizeof path, "%s/probe-work", dir);
		fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
		watcher = (int)syscall(SYS_inotify_init1, 0);
		if (child < 0 || waitpid(child, &status, 0) < 0 || status || fd < 0 || write(fd, data, 65536) != 65536 || watcher < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) {
			yes("the work FAILED: %s", errno_name(errno));
			return;
		}
		close(fd);
		close(watcher);
		close(pair[0]);
		close(pair[1]);
		unlink(path);
		nanosleep(&pause_for, NULL);
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	no("%ld ms", (long)(now.tv_sec - begun.tv_sec) * 1000 + (now.tv_nsec - begun.tv_nsec) / 1000000);
}

/* Things of which the kernel counts so many per user, not per container: another job under the same uid goes without. */
static void r11_per_user(void)
{
	long count = 0, most = upto(5000);
	int code;
	while (count < most && syscall(SYS_inotify_init1, 0) >= 0)
		count++;
	code = errno;
	if (count == 0)
		yes("no inotify instance is LEFT: %s", errno_name(code));
	else
		no("%ld inotify instances, then %s", count, count < most ? errno_name(code) : "the limit");
	fflush(stdout);
	if (getenv("PROBE_HOLD"))
		sleep((unsigned)atoi(getenv("PROBE_HOLD")));
}

/* ---- the table ---- */

enum { INSIDE = 0, HOST = 1, HEAVY = 2 };
static const struct {
	const char *name;
	void (*try)(void);
	int flags; /* HOST: judged outside, HEAVY: only when asked for; `all` leaves both out */
} cases[] = {
	{ "c01-privileges", c01_privileges, INSIDE },
	{ "c01-first-process", c01_first_process, INSIDE },
	{ "c02-user-namespace", c02_user_namespace, INSIDE },
	{ "c02-namespaces", c02_namespaces, INSIDE },
	{ "c02-setns", c02_setns, INSIDE },
	{ "c02-own-namespaces", c02_own_namespaces, INSIDE },
	{ "c02-mounts", c02_mounts, INSIDE },
	{ "c03-io-uring", c03_io_uring, INSIDE },
	{ "c03-bpf", c03_bpf, INSIDE },
	{ "c03-perf", c03_perf, INSIDE },
	{ "c03-userfaultfd", c03_userfaultfd, INSIDE },
	{ "c03-keyrings", c03_keyrings, INSIDE },
	{ "c03-ptrace", c03_ptrace, INSIDE },
	{ "c03-other-memory", c03_other_memory, INSIDE },
	{ "c03-handles", c03_handles, INSIDE },
	{ "c03-sockets", c03_sockets, INSIDE },
	{ "c03-sockets-needed", c03_sockets_needed, INSIDE },
	{ "c03-kernel-tls", c03_kernel_tls, INSIDE },
	{ "c03-administration", c03_administration, INSIDE },
	{ "c03-ports", c03_ports, INSIDE },
	{ "c03-execution-domain", c03_execution_domain, INSIDE },
	{ "c03-devices", c03_devices, INSIDE },
	{ "c03-message-queues", c03_message_queues, INSIDE },
	{ "c03-seccomp-listener", c03_seccomp_listener, INSIDE },
	{ "c03-vmsplice", c03_vmsplice, INSIDE },
	{ "c03-other-abi", c03_other_abi, INSIDE },
	{ "c05-interfaces", c05_interfaces, INSIDE },
	{ "c05-network", c05_network, INSIDE },
	{ "c05-names", c05_names, INSIDE },
	{ "c06-root-file-system", c06_root_file_system, INSIDE },
	{ "c06-kernel-files", c06_kernel_files, INSIDE },
	{ "c06-job-directories", c06_job_directories, INSIDE },
	{ "c06-oom-score", c06_oom_score, INSIDE },
	{ "c07-sockets", c07_sockets, INSIDE },
	{ "c07-mounts", c07_mounts, INSIDE },
	{ "c07-mount-options", c07_mount_options, INSIDE },
	{ "c07-devices", c07_devices, INSIDE },
	{ "c08-host-facts", c08_host_facts, INSIDE },
	{ "c09-identities", c09_identities, INSIDE },
	{ "c09-setuid-exec", c09_setuid_exec, INSIDE },
	{ "c09-image", c09_image, INSIDE },
	{ "c11-secrets", c11_secrets, INSIDE },
	{ "c11-fixed-environment", c11_fixed_environment, INSIDE },
	{ "c12-pid-1", c12_pid_1, INSIDE },
	{ "r00-cgroup-limits", r00_cgroup_limits, HEAVY },
	{ "r01-processes", r01_processes, HEAVY },
	{ "r02-memory", r02_memory, HEAVY },
	{ "r02-disk", r02_disk, HEAVY },
	{ "r02-sparse", r02_sparse, INSIDE },
	{ "r03-inodes", r03_inodes, HEAVY },
	{ "r03-depth", r03_depth, HOST },
	{ "r04-limits", r04_limits, INSIDE },
	{ "r04-first-process", r04_first_process, INSIDE },
	{ "r04-core", r04_core, INSIDE },
	{ "r05-output", r05_output, HOST },
	{ "r06-first-process", r06_first_process, HOST },
	{ "r07-shared-memory", r07_shared_memory, HEAVY },
	{ "r07-descriptors", r07_descriptors, HEAVY },
	{ "r08-cpu", r08_cpu, HEAVY },
	{ "r08-priority", r08_priority, INSIDE },
	{ "r09-unkillable", r09_unkillable, HOST },
	{ "r09-fork-chain", r09_fork_chain, HOST },
	{ "r11-per-user", r11_per_user, HOST },
	{ "r20-everything", r20_everything, HOST },
	{ "r20-neighbour", r20_neighbour, HEAVY }
};
#define CASES (sizeof cases / sizeof *cases)

static void print_text(const char *text)
{
	const unsigned char *at;
	for (at = (const unsigned char *)text; *at; at++)
		if (*at == '"' || *at == '\\')
			printf("\\%c", *at);
		else if (*at < 0x20 || *at >= 0x7f)
			printf("\\u%04x", *at);
		else
			putchar(*at);
}

/* Each case has a process to itself. Returns 0 blocked, 1 succeeded, 2 error. */
static int run(size_t index)
{
	int status, outcome;
	pid_t child;
	memset(found, 0, sizeof *found);
	fflush(stdout);
	child = fork();
	if (child == 0) {
		if (!(cases[index].flags & HOST))
			alarm(120);
		cases[index].try();
		_exit(0);
	}
	if (child < 0) {
		undecided("fork %s", errno_name(errno));
	} else {
		while (waitpid(child, &status, 0) < 0 && errno == EINTR)
			;
		if (WIFSIGNALED(status)) {
			if (WTERMSIG(status) == SIGSYS)
				no("SIGSYS");
			else
				undecided("ended by signal %d", WTERMSIG(status));
		}
	}
	outcome = found->succeeded ? 1 : found->error || !found->blocked ? 2 : 0;
	printf("{\"case\":\"%s\",\"outcome\":\"%s\",\"detail\":\"", cases[index].name, outcome == 1 ? "succeeded" : outcome == 2 ? "error" : "blocked");
	print_text(found->detail);
	printf("\"}\n");
	fflush(stdout);
	return outcome;
}

static int run_all(void)
{
	size_t i;
	int worst = 0;
	for (i = 0; i < CASES; i++)
		if (cases[i].flags == INSIDE) {
			int outcome = run(i);
			worst = outcome == 1 || worst == 1 ? 1 : outcome > worst ? outcome : worst;
		}
	return worst;
}

static int chosen(const char *name)
{
	size_t i;
	if (strcmp(name, "all") == 0)
		return run_all();
	if (strcmp(name, "list") == 0) {
		for (i = 0; i < CASES; i++)
			printf("%s%s\n", cases[i].name, cases[i].flags & HOST ? " host" : cases[i].flags & HEAVY ? " heavy" : "");
		return 0;
	}
	for (i = 0; i < CASES; i++)
		if (strcmp(name, cases[i].name) == 0)
			return run(i);
	fprintf(stderr, "no case %s\n", name);
	return 2;
}

/* What `anchorhold init` does before it starts the agent. */
static void become(uid_t user)
{
	int capability;
	for (capability = 0; capability < 64; capability++)
		prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
	if (setgroups(0, NULL) < 0 || setresgid(user, user, user) < 0 || setresuid(user, user, user) < 0) {
		fprintf(stderr, "cannot become %u: %s\n", user, errno_name(errno));
		_exit(2);
	}
}

int main(int argc, char **argv)
{
	long drop = -1;
	int i, rest, status, result, names = 0;
	for (i = 1; i < argc; i++) {
		if (strcmp(argv[i], "whoami") == 0) {
			printf("%u\n", geteuid());
			return 0;
		} else if (argv[i][0] != '-') {
			names++;
		} else if (i + 1 >= argc) {
			break;
		} else if (strcmp(argv[i], "--drop") == 0) {
			drop = atol(argv[++i]);
		} else if (strcmp(argv[i], "--caps") == 0) {
			expected_caps = strtoull(argv[++i], NULL, 16);
		} else if (strcmp(argv[i], "--limit") == 0) {
			limit = atol(argv[++i]);
		} else if (strcmp(argv[i], "--dir") == 0) {
			dir = argv[++i];
		} else if (strcmp(argv[i], "--cpus") == 0) {
			cpus = atof(argv[++i]);
		} else {
			break;
		}
	}
	found = mmap(NULL, sizeof *found, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (i < argc || names == 0 || found == MAP_FAILED) {
		fprintf(stderr, "usage: probe [--drop UID] [--caps HEX] [--limit N] [--dir DIR] [--cpus F] CASE...|all|list\n");
		return 2;
	}
	{
		/* The host's own PID namespace has this fixed number. There "PID 1" would be the host's. */
		char link[64] = "";
		if (readlink("/proc/self/ns/pid", link, sizeof link - 1) < 0 || strcmp(link, "pid:[4026531836]") == 0) {
			fprintf(stderr, "the probe runs in a container with a PID namespace of its own, never on a host\n");
			return 2;
		}
	}
	if (drop >= 0) {
		pid_t child = fork();
		if (child > 0) {
			while (waitpid(child, &status, 0) < 0 && errno == EINTR)
				;
			return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
		}
		if (child < 0)
			return 2;
		become((uid_t)drop);
		/* Like the agent, a program started afresh: until then the kernel keeps its /proc files from the new user. */
		for (i = 1, rest = 1; i < argc; i++)
			if (strcmp(argv[i], "--drop") == 0)
				i++;
			else
				argv[rest++] = argv[i];
		argv[rest] = NULL;
		execv("/proc/self/exe", argv);
		fprintf(stderr, "cannot start again as %ld: %s\n", drop, errno_name(errno));
		return 2;
	}
	for (i = 1, result = 0; i < argc; i++) {
		if (argv[i][0] == '-') {
			i++;
		} else {
			int outcome = chosen(argv[i]);
			result = outcome == 1 || result == 1 ? 1 : outcome > result ? outcome : result;
		}
	}
	return result;
}
