//! G13: too much, too slowly, or never. The gateway's memory stays bounded, and a neighbour is served meanwhile.

use std::time::{Duration, Instant};

use super::credential::good_bytes;
use super::provider::{self, created, delta};
use super::rig::{Job, PATIENCE, Rig, Terms, good, preamble};
use crate::case::Verdict;

/// MiB that a gateway may have resident under all this; each case has one of its own.
const BOUND: u64 = 200;
const MIB: usize = 1 << 20;

/// A request of the neighbour's; how long it took. Beyond this a neighbour is not served.
fn served_within(rig: &Rig, neighbour: &Job, at_most: Duration) -> Result<Duration, String> {
    let begun = Instant::now();
    let before = rig.arrived(neighbour).len();
    let mut conn = rig.open(neighbour);
    conn.send(&good_bytes());
    let text = conn.until("response.completed", at_most);
    let took = begun.elapsed();
    if text.contains("response.completed") && rig.arrived(neighbour).len() > before {
        Ok(took)
    } else {
        Err(format!("a neighbour was not served within {took:?}: {text:?}"))
    }
}

fn judged(rig: &Rig, neighbour: &Job, at_most: Duration, what: &str) -> Verdict {
    let served = served_within(rig, neighbour, at_most);
    let memory = rig.memory("VmHWM");
    match served {
        Err(why) => Verdict::Breached(why),
        Ok(_) if memory > BOUND => Verdict::Breached(format!("{memory} MiB resident")),
        Ok(took) => Verdict::Blocked(format!("{what}; at most {memory} MiB, a neighbour served in {took:?}")),
    }
}

/// Connections that say nothing, more than the gateway takes at once.
pub fn silent_connections(rig: &Rig) -> Verdict {
    let neighbour = rig.job(&Terms::default());
    // Some may find no room in the listener's queue: they block, so each is given up at once.
    let silent: Vec<_> = (0..1100).map_while(|_| connect_at_once(rig)).collect();
    let kept = || {
        let mut byte = [0u8; 1];
        let open = |conn: &&rustix::fd::OwnedFd| rustix::net::recv(conn, &mut byte, rustix::net::RecvFlags::PEEK) == Err(rustix::io::Errno::AGAIN);
        silent.iter().filter(open).count()
    };
    let verdict = judged(rig, &neighbour, Duration::from_secs(3), &format!("{} connections were opened", silent.len()));
    std::thread::sleep(Duration::from_millis(200));
    let kept = kept();
    if !verdict.breached() && kept > 300 {
        return Verdict::Breached(format!("{kept} connections that said nothing were kept"));
    }
    verdict
}

fn connect_at_once(rig: &Rig) -> Option<rustix::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None).expect("a socket");
    let address = SocketAddrUnix::new(rig.socket()).expect("an address");
    connect(&socket, &address).ok().map(|()| socket)
}

/// A byte now and then.
pub fn slow_heads(rig: &Rig) -> Verdict {
    let (job, neighbour) = (rig.job(&Terms::default()), rig.job(&Terms::default()));
    let mut slow: Vec<_> = (0..16).map(|_| rig.open(&job)).collect();
    let mut nameless: Vec<_> = (0..100).map(|_| rig.open_with(b"{")).collect();
    let mut worst = Duration::ZERO;
    for byte in b"POST /v1" {
        for conn in slow.iter_mut().chain(&mut nameless) {
            conn.send(&[*byte]);
        }
        match served_within(rig, &neighbour, Duration::from_secs(10)) {
            Ok(took) => worst = worst.max(took),
            Err(why) => return Verdict::Breached(why),
        }
        std::thread::sleep(Duration::from_millis(900));
    }
    // Seven seconds on, none that has not even said who it is may still be there.
    let mut kept = 0;
    for conn in &mut nameless {
        kept += usize::from(!conn.answer(Duration::from_millis(20)).closed);
    }
    if kept > 0 {
        return Verdict::Breached(format!("{kept} of 100 connections that never said who they are were kept"));
    }
    judged(rig, &neighbour, Duration::from_secs(10), &format!("nameless ones were closed, the slowest neighbour took {worst:?}"))
}

/// Bodies without end: announced as a gigabyte, or in chunks that never end, from all of a job's connections.
pub fn endless_bodies(rig: &Rig) -> Verdict {
    let neighbour = rig.job(&Terms::default());
    let head = "POST /v1/responses HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n";
    let piece = vec![b'a'; MIB];
    let chunk = [format!("{MIB:x}\r\n").as_bytes(), &piece, b"\r\n"].concat();
    let jobs: Vec<Job> = (0..4).map(|_| rig.job(&Terms::default())).collect();
    let taken = std::thread::scope(|scope| {
        let workers: Vec<_> = jobs
            .iter()
            .flat_map(|job| [(job, true), (job, false)])
            .map(|(job, announced)| {
                let (piece, chunk) = (&piece, &chunk);
                scope.spawn(move || {
                    let mut conn = rig.open(job);
                    let kind =
                        if announced { format!("Content-Length: {}\r\n\r\n", 1 << 30) } else { "Transfer-Encoding: chunked\r\n\r\n{\"".to_owned() };
                    conn.send(format!("{head}{}", kind.replace("{\"", "")).as_bytes());
                    (0..300).take_while(|_| conn.send(if announced { piece } else { chunk })).count()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker")).max().unwrap_or_default()
    });
    if taken > 12 {
        return Verdict::Breached(format!("{taken} MiB of one body were taken; {} MiB resident", rig.memory("VmHWM")));
    }
    judged(rig, &neighbour, Duration::from_secs(10), &format!("at most {taken} MiB of one body were taken"))
}

/// Bodies of the largest size that is let in, many at once and never finished.
pub fn many_bodies(rig: &Rig) -> Verdict {
    let neighbour = rig.job(&Terms::default());
    let size = 8 * MIB;
    let head = format!("POST /v1/responses HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n");
    let piece = vec![b' '; size - 10];
    let jobs: Vec<Job> = (0..16).map(|_| rig.job(&Terms::default())).collect();
    let conns = std::thread::scope(|scope| {
        let workers: Vec<_> = jobs
            .iter()
            .map(|job| {
                let (piece, head) = (&piece, &head);
                scope.spawn(move || {
                    (0..4)
                        .map(|_| {
                            let mut conn = rig.open(job);
                            conn.send(head.as_bytes());
                            conn.0.set_write_timeout(Some(Duration::from_millis(1500))).expect("a timeout");
                            let _ = std::io::Write::write_all(&mut conn.0, piece);
                            conn
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect::<Vec<_>>()
    });
    let memory = rig.memory("VmHWM");
    if memory > BOUND {
        return Verdict::Breached(format!("{memory} MiB resident with {} bodies of 8 MiB begun", conns.len()));
    }
    // Somebody's memory is full of them now; once they are gone there is room again.
    drop(conns);
    judged(rig, &neighbour, Duration::from_secs(10), "64 bodies of 8 MiB were begun")
}

/// Heads of a megabyte, and of many headers.
pub fn huge_heads(rig: &Rig) -> Verdict {
    let (job, neighbour) = (rig.job(&Terms::default()), rig.job(&Terms::default()));
    let body = good().to_string();
    let with = |headers: String| super::rig::post_with(&headers, body.as_bytes());
    let heads = [
        ("one header of 1 MiB", with(format!("X: {}\r\n", "a".repeat(MIB)))),
        ("a name of 1 MiB", with(format!("{}: x\r\n", "a".repeat(MIB)))),
        ("a path of 1 MiB", super::rig::request(&format!("POST /{} HTTP/1.1", "a".repeat(MIB)), "", body.as_bytes())),
        ("a method of 1 MiB", super::rig::request(&format!("{} / HTTP/1.1", "A".repeat(MIB)), "", body.as_bytes())),
        ("100 000 headers", with("X: y\r\n".repeat(100_000))),
        ("200 headers", with("X: y\r\n".repeat(200))),
        ("80 KiB in 40 headers", with(format!("X: {}\r\n", "a".repeat(2048)).repeat(40))),
    ];
    for (name, bytes) in heads {
        rig.raw(&job, &bytes);
        if !rig.arrived(&job).is_empty() {
            return Verdict::Breached(format!("{name}: the request arrived"));
        }
    }
    // Endless ones, from all connections at once.
    let conns: Vec<_> = (0..16)
        .map(|_| {
            let mut conn = rig.open(&job);
            conn.send(b"POST / HTTP/1.1\r\nX: ");
            for _ in 0..8 {
                if !conn.send(&vec![b'a'; MIB]) {
                    break;
                }
            }
            conn
        })
        .collect();
    let verdict = judged(rig, &neighbour, Duration::from_secs(10), "none arrived");
    drop(conns);
    verdict
}

/// Asks, and never reads the answer, which goes on and on.
pub fn never_reads(rig: &Rig) -> Verdict {
    let neighbour = rig.job(&Terms::default());
    let job = rig.job_answered(&Terms::default(), |_, _, stream| {
        provider::stream_head(stream, "")?;
        provider::chunk(stream, &created())?;
        let piece = delta(&"a".repeat(MIB));
        stream.set_write_timeout(Some(Duration::from_secs(3)))?;
        for _ in 0..100 {
            provider::chunk(stream, &piece)?;
        }
        Ok(false)
    });
    let conns: Vec<_> = (0..4)
        .map(|_| {
            let mut conn = rig.open(&job);
            conn.send(&good_bytes());
            conn
        })
        .collect();
    super::budget::wait_within(PATIENCE, || !rig.arrived(&job).is_empty());
    std::thread::sleep(Duration::from_millis(2500));
    let verdict = judged(rig, &neighbour, Duration::from_secs(10), "four answers of 100 MiB were not collected");
    assert!(!rig.arrived(&job).is_empty(), "nothing arrived");
    drop(conns);
    verdict
}

/// Bodies that are small as text and large as a tree, as many as a job may send.
pub fn heavy_trees(rig: &Rig) -> Verdict {
    let neighbour = rig.job(&Terms::default());
    let values = vec!["[]"; 2_700_000].join(",");
    let body = format!(r#"{{"model":"gpt-5.5","input":"a","tools":[{{"type":"function","name":"f","parameters":[{values}]}}]}}"#);
    assert!(body.len() < 8 * MIB + 200_000, "{}", body.len());
    let body = &body[..body.len().min(8 * MIB)];
    let bytes = super::rig::post(body.as_bytes());
    let jobs: Vec<Job> = (0..2).map(|_| rig.job(&Terms::default())).collect();
    std::thread::scope(|scope| {
        for job in &jobs {
            let bytes = &bytes;
            scope.spawn(move || {
                for _ in 0..2 {
                    let mut conn = rig.open(job);
                    conn.send(bytes);
                    conn.answer(Duration::from_secs(20));
                }
            });
        }
    });
    judged(rig, &neighbour, Duration::from_secs(10), "2.7 million values were refused as too many")
}

/// Garbage of a megabyte where the first line should stand.
pub fn endless_first_lines(rig: &Rig) -> Verdict {
    let (job, neighbour) = (rig.job(&Terms::default()), rig.job(&Terms::default()));
    let mut taken = 0;
    for first in [b"{".to_vec(), preamble(&job.id, &"0".repeat(1 << 16), "model"), vec![b' '; 4096]] {
        let mut conn = rig.open_with(&first);
        taken = taken.max((0..64).take_while(|_| conn.send(&vec![b' '; MIB])).count());
    }
    if taken > 4 {
        return Verdict::Breached(format!("{taken} MiB of a first line were taken"));
    }
    judged(rig, &neighbour, Duration::from_secs(10), &format!("at most {taken} MiB of a first line were taken"))
}

/// On a gateway whose patience is a second: what never comes to its end is given up.
pub fn stalled_heads(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms::default());
    let mut conn = rig.open(&job);
    conn.send(b"POST /v1/responses HTTP/1.1\r\nHost: h\r\n");
    let closed = conn.answer(Duration::from_secs(4)).closed;
    rig.must_serve(&job);
    Verdict::of(!closed, "a head that never ends")
}

/// The same for a body.
pub fn stalled_bodies(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms::default());
    let mut conn = rig.open(&job);
    conn.send(b"POST /v1/responses HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{");
    let closed = conn.answer(Duration::from_secs(4)).closed;
    rig.must_serve(&job);
    Verdict::of(!closed, "a body that never ends")
}

/// The same for an answer that is never read: what the provider sends to nobody is ended.
pub fn stalled_readers(rig: &Rig) -> Verdict {
    let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = std::sync::Arc::clone(&ended);
    let job = rig.job_answered(&Terms::default(), move |n, _, stream| {
        if n > 0 {
            return provider::say(stream, "done").map(|()| true);
        }
        provider::stream_head(stream, "")?;
        let piece = delta(&"a".repeat(MIB));
        // Only the end of the connection ends this: nobody reads, so it soon stalls.
        let mut result = provider::chunk(stream, &created());
        while result.is_ok() {
            result = provider::chunk(stream, &piece);
        }
        seen.store(true, std::sync::atomic::Ordering::SeqCst);
        result.map(|()| false)
    });
    let mut conn = rig.open(&job);
    conn.send(&good_bytes());
    let given_up = super::budget::wait_within(Duration::from_secs(6), || ended.load(std::sync::atomic::Ordering::SeqCst));
    drop(conn);
    assert!(!rig.arrived(&job).is_empty(), "the request did not arrive");
    rig.must_serve(&job);
    Verdict::of(!given_up, "an answer that is never read")
}
