//! A proxy before the engine's socket that keeps the line of each request, and can cut the connections of some.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

/// Lives as long as the test's process.
pub struct Proxy {
    socket: PathBuf,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    /// What a request line holds, and both ends of its connection.
    open: Vec<(String, UnixStream, UnixStream)>,
}

impl Proxy {
    pub fn new(dir: &Path) -> Self {
        let socket = dir.join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let theirs = seen.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let seen = theirs.clone();
                thread::spawn(move || relay(client, &seen).ok());
            }
        });
        Self { socket, seen }
    }

    /// For `ANCHORHOLD_ENGINE_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The lines of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().lines.clone()
    }

    /// Cuts every connection whose last request line holds this; how many there were.
    pub fn cut(&self, what: &str) -> usize {
        let mut seen = self.seen.lock().unwrap();
        let (cut, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut seen.open).into_iter().partition(|(line, _, _)| line.contains(what));
        seen.open = kept;
        // One that has ended already cannot be cut.
        cut.iter()
            .filter(|(_, client, engine)| {
                let _ = engine.shutdown(std::net::Shutdown::Both);
                client.shutdown(std::net::Shutdown::Both).is_ok()
            })
            .count()
    }
}

fn engine() -> PathBuf {
    match std::env::var("DOCKER_HOST") {
        Ok(host) => host.strip_prefix("unix://").unwrap().into(),
        Err(_) => "/var/run/docker.sock".into(),
    }
}

/// Bytes as they are. From a request with a body of no known length on, the rest of the connection goes through unread.
fn relay(mut client: UnixStream, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let mut engine = UnixStream::connect(engine())?;
    let (mut back, mut answers) = (client.try_clone()?, engine.try_clone()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut back);
        let _ = back.shutdown(std::net::Shutdown::Write);
    });
    let mut buffer = Vec::new();
    loop {
        let head = match buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            Some(at) => at + 4,
            None => {
                let mut chunk = [0; 16 << 10];
                match client.read(&mut chunk)? {
                    0 => return engine.shutdown(std::net::Shutdown::Write),
                    read => buffer.extend_from_slice(&chunk[..read]),
                }
                continue;
            }
        };
        let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
        let line = text.lines().next().unwrap_or_default().to_owned();
        {
            let (one, two) = (client.try_clone()?, engine.try_clone()?);
            let mut seen = seen.lock().unwrap();
            seen.lines.push(line.clone());
            seen.open.push((line, one, two));
        }
        let header = |name: &str| {
            text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name))).map(|(_, v)| v.trim().to_owned())
        };
        if header("transfer-encoding").is_some() || header("upgrade").is_some() {
            engine.write_all(&buffer)?;
            std::io::copy(&mut client, &mut engine)?;
            return engine.shutdown(std::net::Shutdown::Write);
        }
        let length: usize = header("content-length").map_or(0, |text| text.parse().unwrap());
        while buffer.len() < head + length {
            let mut chunk = [0; 16 << 10];
            match client.read(&mut chunk)? {
                0 => return Ok(()),
                read => buffer.extend_from_slice(&chunk[..read]),
            }
        }
        let rest = buffer.split_off(head + length);
        engine.write_all(&buffer)?;
        buffer = rest;
    }
}
