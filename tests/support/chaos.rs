//! A proxy before an engine's socket that answers late, wrongly, in pieces or not at all: by kind of call, as often as a test asks for.
//!
//! It relays bytes and reads nothing but the heads of requests. Each call gets a connection of its own, so that a cut hits the call that is meant.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ping,
    Facts,
    Image,
    List,
    Volumes,
    Inspect,
    Logs,
    Wait,
    Create,
    Upload,
    Download,
    Start,
    Kill,
    Rename,
    Remove,
    RemoveVolume,
    Exec,
    ExecStart,
    Other,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The answer comes so many milliseconds late.
    Late(u64),
    /// The answer comes a few bytes at a time.
    Trickle,
    /// The engine never sees it; the answer is a failure of the engine.
    Error500,
    /// The engine never sees it; the answer is that the name is taken.
    Conflict,
    /// The engine never sees it; the connection is cut.
    CutBefore,
    /// The engine does it; the connection is cut before its answer.
    CutAfter,
    /// The connection is cut in the middle of the answer.
    CutMid,
    /// The engine never sees it, and no answer ever comes.
    Never,
}

/// So many calls of a kind from now on.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub kind: Option<Kind>,
    pub way: Way,
    pub times: usize,
}

#[derive(Default)]
struct Plan {
    rules: Vec<Rule>,
    happened: Vec<(Kind, Way)>,
}

/// Lives as long as the test's process.
pub struct Chaos {
    socket: PathBuf,
    plan: Arc<Mutex<Plan>>,
}

fn lock(plan: &Mutex<Plan>) -> MutexGuard<'_, Plan> {
    plan.lock().expect("no poison")
}

impl Chaos {
    /// Listens in `dir`, before the engine behind `engine`.
    pub fn new(dir: &Path, engine: &Path) -> Self {
        let socket = dir.join(format!("chaos-{}.sock", &uuid::Uuid::new_v4().simple().to_string()[..8]));
        let listener = UnixListener::bind(&socket).expect("a socket");
        let plan = Arc::new(Mutex::new(Plan::default()));
        let (shared, engine) = (Arc::clone(&plan), engine.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (plan, engine) = (Arc::clone(&shared), engine.clone());
                // A side that goes away in the middle is nothing to a proxy.
                thread::spawn(move || serve(client, &engine, &plan).ok());
            }
        });
        Self { socket, plan }
    }

    /// For `ANCHORHOLD_ENGINE_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// From now on these, and nothing else.
    pub fn set(&self, rules: &[Rule]) {
        let mut plan = lock(&self.plan);
        plan.rules = rules.to_vec();
        plan.happened.clear();
    }

    /// What happened since the rules were set.
    pub fn happened(&self) -> Vec<(Kind, Way)> {
        lock(&self.plan).happened.clone()
    }
}

fn kind(head: &str) -> Kind {
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && !part.starts_with("v1.")).collect();
    match (method, parts.as_slice()) {
        (_, ["_ping"]) => Kind::Ping,
        (_, ["info" | "version"]) => Kind::Facts,
        ("GET", ["images", .., "json"]) => Kind::Image,
        ("GET", ["containers", "json"]) => Kind::List,
        ("GET", ["volumes"]) => Kind::Volumes,
        ("POST", ["containers", "create"]) => Kind::Create,
        ("GET", ["containers", _, "json"]) => Kind::Inspect,
        ("GET", ["containers", _, "logs"]) => Kind::Logs,
        ("POST", ["containers", _, "wait"]) => Kind::Wait,
        ("PUT", ["containers", _, "archive"]) => Kind::Upload,
        ("GET", ["containers", _, "archive"]) => Kind::Download,
        ("POST", ["containers", _, "start"]) => Kind::Start,
        ("POST", ["containers", _, "kill"]) => Kind::Kill,
        ("POST", ["containers", _, "rename"]) => Kind::Rename,
        ("DELETE", ["containers", _]) => Kind::Remove,
        ("DELETE", ["volumes", _]) => Kind::RemoveVolume,
        ("POST", ["containers", _, "exec"]) => Kind::Exec,
        ("POST", ["exec", _, "start"]) => Kind::ExecStart,
        _ => Kind::Other,
    }
}

fn serve(mut client: UnixStream, engine: &Path, plan: &Mutex<Plan>) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at;
        }
        let mut chunk = [0; 16 << 10];
        match client.read(&mut chunk)? {
            0 => return Ok(()),
            read => buffer.extend_from_slice(&chunk[..read]),
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let kind = kind(&head);
    let way = {
        let mut plan = lock(plan);
        let rule = plan.rules.iter_mut().find(|rule| rule.times > 0 && rule.kind.is_none_or(|wanted| wanted == kind));
        let way = rule.map(|rule| {
            rule.times -= 1;
            rule.way
        });
        plan.happened.extend(way.map(|way| (kind, way)));
        way
    };
    match way {
        Some(Way::CutBefore) => return client.shutdown(Shutdown::Both),
        Some(Way::Never) => {
            // Until the client gives up; what it sends is not taken either, so that an upload stands still.
            while client.peer_addr().is_ok() && !gone(&client) {
                thread::sleep(Duration::from_millis(20));
            }
            return Ok(());
        }
        Some(way @ (Way::Error500 | Way::Conflict)) => {
            let status = if way == Way::Conflict { "409 Conflict" } else { "500 Internal Server Error" };
            let body = r#"{"message":"out of order"}"#;
            let answer = format!(
                "HTTP/1.1 {status}\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            client.write_all(answer.as_bytes())?;
            // A client that still sends must be able to read the answer.
            client.shutdown(Shutdown::Write)?;
            std::io::copy(&mut client, &mut std::io::sink())?;
            return Ok(());
        }
        _ => {}
    }

    let mut engine = UnixStream::connect(engine)?;
    let hijacked = head.lines().any(|line| line.to_ascii_lowercase().starts_with("upgrade:"));
    if hijacked {
        engine.write_all(&buffer)?;
    } else {
        let kept: Vec<&str> = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:")).collect();
        engine.write_all(format!("{}\r\nConnection: close", kept.join("\r\n")).as_bytes())?;
        engine.write_all(&buffer[end..])?;
    }
    let (mut from, mut to) = (client.try_clone()?, engine.try_clone()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        // A client that went away is one for the engine, too; a hijacked one may only have ended its input.
        let _ = to.shutdown(if hijacked { Shutdown::Write } else { Shutdown::Both });
    });
    let done = answer(&mut engine, &mut client, way);
    let _ = client.shutdown(Shutdown::Both);
    let _ = engine.shutdown(Shutdown::Both);
    done
}

fn answer(engine: &mut UnixStream, client: &mut UnixStream, way: Option<Way>) -> std::io::Result<()> {
    let mut chunk = vec![0; 64 << 10];
    let mut read = engine.read(&mut chunk)?;
    match way {
        Some(Way::CutAfter) => return Ok(()),
        // Half of what came first: in the head, or shortly after it.
        Some(Way::CutMid) => return client.write_all(&chunk[..read / 2]),
        Some(Way::Late(ms)) => thread::sleep(Duration::from_millis(ms)),
        _ => {}
    }
    while read > 0 {
        if way == Some(Way::Trickle) {
            for piece in chunk[..read].chunks(97) {
                client.write_all(piece)?;
                thread::sleep(Duration::from_micros(200));
            }
        } else {
            client.write_all(&chunk[..read])?;
        }
        read = engine.read(&mut chunk)?;
    }
    Ok(())
}

/// Whether the other side has closed; takes no bytes.
fn gone(stream: &UnixStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}
