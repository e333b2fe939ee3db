//! The engine's side of the cell: an engine that does not do as it is asked, and what it leaves to us to bound.

use serde_json::{Value, json};

use crate::arena::Arena;
use crate::case::{Case, Group, Promise, Verdict, Weakening};
use crate::support::tamper::TamperingEngine;

pub const GROUPS: &[Group] = &[MISMATCH, BOUNDS];

const MISMATCH: Group = Group {
    name: "engine-mismatch",
    cases: &[Case {
        id: "C13-engine-departs",
        promise: Promise::Downgrade,
        tries: "an engine that leaves out a field of the job's specification, or changes it: capabilities, root, network, profile, limits, a bind mount",
    }],
    run: departs,
    controls: &[Weakening::point(&["engine.inspect"], &["C13-engine-departs"])],
    mutations: &[],
    no_control: &[],
};

/// A field, and what the engine makes of it.
type Departure = (&'static str, fn(&mut Value));
/// A case, and how it is tried.
type Try = (&'static str, fn(&Arena) -> Verdict);

/// Each as one engine might: by an older version, by a plug-in, by a mistake.
const DEPARTURES: &[Departure] = &[
    ("ReadonlyRootfs", |host| host["ReadonlyRootfs"] = json!(false)),
    ("SecurityOpt", |host| host["SecurityOpt"] = json!(["no-new-privileges:true"])),
    ("NetworkMode", |host| host["NetworkMode"] = json!("bridge")),
    ("CapDrop", |host| host["CapDrop"] = json!([])),
    ("PidsLimit", |host| host["PidsLimit"] = json!(-1)),
    ("Binds", |host| host["Binds"] = json!(["/etc:/host:ro"])),
];

fn departs(arena: &Arena, _: &[&str]) -> Vec<(String, Verdict)> {
    let repo = arena.env.repo();
    repo.bash("git commit -q --allow-empty -m base");
    let mut started = Vec::new();
    // One is enough where it is let.
    let tried = if arena.is_weakened() { &DEPARTURES[..1] } else { DEPARTURES };
    for (name, change) in tried {
        let engine = TamperingEngine::new(arena.env.home(), move |_, body| {
            if body["Labels"]["anchorhold.job"].is_string() && body["Labels"]["anchorhold.ended"].is_null() {
                change(&mut body["HostConfig"]);
            }
        });
        let env = arena.env.with("ANCHORHOLD_ENGINE_HOST", &engine.host());
        let result = env.delegate(&repo, "Do it.\n```rehearsal\nmessage done\n```\n");
        if result["state"] == "completed" {
            started.push(*name);
        } else {
            assert_eq!(result["error"]["code"], "isolation_mismatch", "{name}: neither refused nor run: {result:#}");
        }
    }
    let detail = if started.is_empty() { "refused before the start".to_owned() } else { format!("ran without {}", started.join(", ")) };
    vec![("C13-engine-departs".to_owned(), Verdict::of(!started.is_empty(), detail))]
}

const BOUNDS: Group = Group {
    name: "engine-bounds",
    cases: &[
        Case { id: "R02-disk", promise: Promise::DenialOfService, tries: "writing far more than the disk limit, then going on" },
        Case { id: "R03-inodes", promise: Promise::DenialOfService, tries: "making far more files than the limit, in HOME" },
        Case { id: "R04-oom-order", promise: Promise::DenialOfService, tries: "being no likelier than PID 1 to be killed for memory" },
        Case {
            id: "R11-per-user",
            promise: Promise::Lateral,
            tries: "taking every inotify instance that the kernel gives to a user, away from a job beside it",
        },
    ],
    run: bounds,
    controls: &[
        Weakening::point(&["watch.disk"], &["R02-disk", "R03-inodes"]),
        Weakening::point(&["init.oom_score"], &["R04-oom-order"]),
        Weakening::point(&["job.uid"], &["R11-per-user"]),
    ],
    mutations: &[],
    no_control: &[],
};

fn bounds(arena: &Arena, wanted: &[&str]) -> Vec<(String, Verdict)> {
    let tries: [Try; 4] = [("R02-disk", disk), ("R03-inodes", inodes), ("R04-oom-order", oom_order), ("R11-per-user", per_user)];
    tries.into_iter().filter(|(id, _)| wanted.contains(id)).map(|(id, run)| (id.to_owned(), run(arena))).collect()
}

/// Whether a job that takes too much still comes to its end.
fn overdone(arena: &Arena, limit: (&str, &str), program: &str) -> Verdict {
    let env = arena.env.with(limit.0, limit.1);
    let repo = env.repo();
    repo.bash("echo big > .gitignore; git add .; git commit -qm base");
    let result = env.delegate(&repo, &format!("Do it.\n```rehearsal\nshell {program}; sleep 12\nmessage done\n```\n"));
    let reason = result["reason"].as_str().unwrap_or_default();
    assert!(matches!(reason, "disk" | "completed"), "neither ended for it nor at its end: {result:#}");
    Verdict::of(reason == "completed", format!("ended: {reason}"))
}

fn disk(arena: &Arena) -> Verdict {
    overdone(arena, ("ANCHORHOLD_LIMITS_DISK", "64MiB"), "head -c 300000000 /dev/zero > big")
}

fn inodes(arena: &Arena) -> Verdict {
    let many = r#"cd $HOME; python3 -c 'for i in range(20000): open(str(i), "w").close()'"#;
    overdone(arena, ("ANCHORHOLD_LIMITS_INODES", "3000"), many)
}

fn oom_order(arena: &Arena) -> Verdict {
    let repo = arena.env.repo();
    let task = "Do it.\n```rehearsal\nshell cat /proc/self/oom_score_adj /proc/1/oom_score_adj > scores\nmessage done\n```\n";
    let result = arena.env.delegate(&repo, task);
    let copy = repo.tracked_copy();
    copy.git_apply(&arena.env.diff(result["job_id"].as_str().expect("job id")));
    let text = std::fs::read_to_string(copy.path().join("scores")).expect("two scores");
    let scores: Vec<i32> = text.lines().map(|line| line.parse().expect("a score")).collect();
    let [agent, first] = scores[..] else { panic!("two scores: {text}") };
    Verdict::of(agent <= first, format!("agent {agent}, PID 1 {first}"))
}

fn per_user(arena: &Arena) -> Verdict {
    let env = &arena.env;
    let repo = env.repo();
    repo.bash("git commit -q --allow-empty -m base");
    // Holds until it is cancelled.
    let take = "import ctypes,time; c=ctypes.CDLL(None); n=[c.inotify_init1(0) for _ in range(15000)]; time.sleep(100)";
    let greedy = env.detach(&repo, &format!("Do it.\n```rehearsal\nshell python3 -c '{take}'\nmessage done\n```\n"));
    env.wait_for(&greedy, |status| status["state"] == "running" && status["answers"].as_u64().is_some_and(|answers| answers >= 1));
    let count = "sleep 3; python3 -c 'import ctypes; c=ctypes.CDLL(None); print(sum(c.inotify_init1(0) >= 0 for _ in range(20)))' > taken";
    let result = env.delegate(&repo, &format!("Do it.\n```rehearsal\nshell {count}\nmessage done\n```\n"));
    assert_eq!(env.run(&["status", "--json", &greedy]).flat()["state"], "running", "the greedy job did not hold what it took");
    env.run(&["cancel", "--json", &greedy]);
    let copy = repo.tracked_copy();
    copy.git_apply(&env.diff(result["job_id"].as_str().expect("job id")));
    let taken: u32 = std::fs::read_to_string(copy.path().join("taken")).expect("a number").trim().parse().expect("a number");
    Verdict::of(taken < 20, format!("the neighbour got {taken} of 20"))
}
