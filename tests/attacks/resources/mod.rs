//! A job that takes all it can get: it ends with its reason and its partial patch, and neither the host nor a neighbour goes without.

mod deeds;
mod host;
mod neighbour;

use crate::arena::Arena;
use crate::case::{Case, Group, Promise, Verdict, Verdicts, Weakening};

pub const GROUPS: &[Group] = &[BOUNDS, ENDS, NEIGHBOURS];

/// Every case has a job of its own; they run side by side.
fn each(arena: &Arena, wanted: &[&str], attack: impl Fn(&Arena, &str) -> Verdict + Sync) -> Verdicts {
    std::thread::scope(|scope| {
        let attack = &attack;
        let threads: Vec<_> = wanted.iter().map(|id| (*id, scope.spawn(move || attack(arena, id)))).collect();
        threads.into_iter().map(|(id, thread)| (id.to_owned(), thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))).collect()
    })
}

const fn dos(id: &'static str, tries: &'static str) -> Case {
    Case { id, promise: Promise::DenialOfService, tries }
}

/// What the kernel refuses at the limit; the job goes on.
const BOUNDS: Group = Group {
    name: "bounds",
    cases: &[
        dos("R01-processes", "a fork bomb"),
        dos("R02-memory", "anonymous memory beyond the limit"),
        dos("R07-shared-memory", "/dev/shm, memfd, System V and /tmp beyond the memory limit"),
        dos("R08-cpu", "spinning on all processors"),
    ],
    run: deeds::bounds,
    controls: &[Weakening {
        name: "no limits",
        points: &[],
        job: r#"{"HostConfig":{"PidsLimit":0,"Memory":4294967296,"MemorySwap":4294967296,"ShmSize":2147483648,"NanoCpus":0,"Tmpfs":{"/tmp":"rw,exec,nosuid,nodev,mode=1777"}}}"#,
        gateway: "",
        breaches: &["R01-processes", "R02-memory", "R07-shared-memory", "R08-cpu"],
    }],
    mutations: &[
        Weakening::job("HostConfig.PidsLimit", r#"{"HostConfig":{"PidsLimit":0}}"#, &["R01-processes"]),
        Weakening::job("HostConfig.Memory", r#"{"HostConfig":{"Memory":4294967296,"MemorySwap":4294967296}}"#, &["R02-memory", "R07-shared-memory"]),
        Weakening::job("HostConfig.NanoCpus", r#"{"HostConfig":{"NanoCpus":0}}"#, &["R08-cpu"]),
    ],
    no_control: &[],
};

/// What ends the job: with its reason, its partial patch, and in time.
const ENDS: Group = Group {
    name: "ends",
    cases: &[
        dos("R02-disk", "writing beyond the disk limit"),
        dos("R03-inodes", "files beyond their number"),
        dos("R03-depth", "directories 1200 deep with names of 255 bytes"),
        dos("R05-output", "a flood without newlines, also into Codex's own output"),
        dos("R06-first-process", "having PID 1 killed for memory"),
        Case {
            id: "R09-unkillable",
            promise: Promise::Persistence,
            tries: "surviving a cancel: ignored signals, own sessions, stopped, in vfork, a chain of forks",
        },
        dos("R10-admission", "running beside a job for which there was one slot"),
        Case { id: "R12-deadline", promise: Promise::Persistence, tries: "outliving the deadline while no process of the host's is there" },
    ],
    run: host::ends,
    controls: &[
        Weakening { name: "watch.disk", points: &["watch.disk"], job: "", gateway: "", breaches: &["R02-disk", "R03-inodes"] },
        Weakening::point(&["init.spool"], &["R05-output"]),
        Weakening::point(&["init.kill_all"], &["R09-unkillable"]),
        Weakening::point(&["init.slot"], &["R10-admission"]),
        Weakening::point(&["init.deadline"], &["R12-deadline"]),
    ],
    mutations: &[],
    no_control: &[
        ("R03-depth", "what bounds it is how the seal walks, not one rule that could be taken away"),
        ("R06-first-process", "what holds is the second start, which is no rule of the cell's"),
    ],
};

/// What one job does to another.
const NEIGHBOURS: Group = Group {
    name: "neighbours",
    cases: &[
        Case { id: "R11-per-user", promise: Promise::Lateral, tries: "taking what the kernel counts by user away from another job" },
        dos("R20-everything", "memory, disk, names, processes, streams and sockets at once"),
        Case { id: "R20-neighbour", promise: Promise::Lateral, tries: "slowing down or failing another job's work by all of that" },
    ],
    run: neighbour::run,
    controls: &[
        Weakening::point(&["job.uid"], &["R11-per-user", "R20-neighbour"]),
        Weakening {
            name: "nothing ends it",
            points: &["watch.disk"],
            job: r#"{"HostConfig":{"PidsLimit":0,"Memory":4294967296,"MemorySwap":4294967296}}"#,
            gateway: "",
            breaches: &["R20-everything"],
        },
    ],
    mutations: &[],
    no_control: &[],
};
