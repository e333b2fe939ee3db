//! An engine that does not do what it is asked to, or cannot: in front of the real one stands a proxy that changes a few bytes.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::arena::Arena;
use crate::case::{Case, Group, Promise, Verdict, Verdicts, Weakening};

pub const ENGINE: Group = Group {
    name: "engine",
    cases: &[
        Case {
            id: "C13-another-container",
            promise: Promise::Downgrade,
            tries: "an engine that makes the root file system writable although asked not to",
        },
        Case { id: "C13-without-seccomp", promise: Promise::Downgrade, tries: "an engine that has no seccomp" },
    ],
    run,
    controls: &[
        Weakening::point(&["engine.inspect"], &["C13-another-container"]),
        Weakening::point(&["isolation.required"], &["C13-without-seccomp"]),
    ],
    mutations: &[],
    no_control: &[],
};

/// Bytes that are replaced by others of the same length, so that no length in a head has to change.
#[derive(Clone, Copy)]
struct Change {
    in_requests: bool,
    from: &'static [u8],
    to: &'static [u8],
}

fn run(arena: &Arena, wanted: &[&str]) -> Verdicts {
    wanted
        .iter()
        .map(|id| {
            let change = match *id {
                "C13-another-container" => Change { in_requests: true, from: b"\"ReadonlyRootfs\":true", to: b"\"ReadonlyRootfs\":null" },
                "C13-without-seccomp" => Change { in_requests: false, from: b"name=seccomp", to: b"name=notthis" },
                _ => panic!("no such case: {id}"),
            };
            ((*id).to_owned(), refused(arena, change))
        })
        .collect()
}

/// Blocked: the job is refused before it starts, and leaves nothing.
fn refused(arena: &Arena, change: Change) -> Verdict {
    // The gateway is made over the real engine, of which nothing is said here.
    let repo = arena.env.repo();
    let warm = arena.env.delegate(&repo, "Say a word.\n```rehearsal\nmessage done\n```\n");
    assert_eq!(warm["state"], "completed", "{}", warm["detail"]);
    let socket = proxy(&arena.env.directory(), change);
    let env = arena.env.with("ANCHORHOLD_ENGINE_HOST", &format!("unix://{}", socket.display()));
    let result = env.delegate(&repo, "Say a word.\n```rehearsal\nmessage done\n```\n");
    let code = result["error"]["code"].as_str().unwrap_or("none");
    assert!(result["state"] == "completed" || code == "isolation_mismatch", "neither refused nor run: {code} {}", result["error"]["message"]);
    Verdict::of(code != "isolation_mismatch", format!("{} {}", result["state"], result["error"]["message"]))
}

/// The engine's own socket; the suite runs on an engine of this machine.
fn engine_socket() -> PathBuf {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    host.strip_prefix("unix://").map_or_else(|| PathBuf::from("/var/run/docker.sock"), PathBuf::from)
}

fn proxy(dir: &Path, change: Change) -> PathBuf {
    let socket = dir.join("engine.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(engine) = UnixStream::connect(engine_socket()) else { return };
            let halves =
                [(client.try_clone(), engine.try_clone(), change.in_requests), (engine.try_clone(), client.try_clone(), !change.in_requests)];
            for (from, to, applies) in halves {
                let (Ok(from), Ok(to)) = (from, to) else { return };
                std::thread::spawn(move || pass_on(from, to, applies.then_some(change)));
            }
        }
    });
    socket
}

/// What could be the beginning of the phrase waits for its rest; no message ends with such a piece.
fn pass_on(mut from: UnixStream, mut to: UnixStream, change: Option<Change>) {
    let mut held = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        held.extend_from_slice(&buffer[..read]);
        let mut keep = 0;
        if let Some(Change { from: phrase, to: other, .. }) = change {
            while let Some(at) = memchr::memmem::find(&held, phrase) {
                held[at..at + phrase.len()].copy_from_slice(other);
            }
            keep = (1..phrase.len()).rev().find(|n| held.ends_with(&phrase[..*n])).unwrap_or(0);
        }
        let rest = held.split_off(held.len() - keep);
        if to.write_all(&held).is_err() {
            break;
        }
        held = rest;
    }
    let _ = to.write_all(&held);
    let _ = to.shutdown(std::net::Shutdown::Write);
}
