//! A proxy before the engine's socket that changes create calls: the engine, or something before it, that does not do as it is asked.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use serde_json::Value;

type Change = dyn Fn(&str, &mut Value) + Send + Sync;

/// Lives as long as the test's process.
pub struct TamperingEngine {
    socket: PathBuf,
}

impl TamperingEngine {
    /// Listens in `dir`. `change` gets the path and the body of each call that creates a container.
    pub fn new(dir: &Path, change: impl Fn(&str, &mut Value) + Send + Sync + 'static) -> Self {
        let socket = dir.join(format!("engine-{}.sock", &uuid::Uuid::new_v4().simple().to_string()[..8]));
        let listener = UnixListener::bind(&socket).expect("a socket");
        let change: Arc<Change> = Arc::new(change);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let change = Arc::clone(&change);
                // A client that goes away in the middle is nothing to a proxy.
                thread::spawn(move || relay(client, &*change).ok());
            }
        });
        Self { socket }
    }

    /// For `ANCHORHOLD_ENGINE_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }
}

/// The real engine's socket.
fn engine() -> PathBuf {
    match std::env::var("DOCKER_HOST") {
        Ok(host) => host.strip_prefix("unix://").expect("these tests need an engine behind a Unix socket").into(),
        Err(_) => "/var/run/docker.sock".into(),
    }
}

/// Bytes as they are, but for the bodies of create calls. Only requests are read as HTTP; from one that has no known length on (an upload, a
/// hijacked stream), the rest of the connection goes through unread.
fn relay(mut client: UnixStream, change: &Change) -> std::io::Result<()> {
    let mut engine = UnixStream::connect(engine())?;
    let (mut back, mut answers) = (client.try_clone()?, engine.try_clone()?);
    thread::spawn(move || {
        // Ends with either side.
        let _ = std::io::copy(&mut answers, &mut back);
        let _ = back.shutdown(std::net::Shutdown::Write);
    });
    let mut buffer = Vec::new();
    loop {
        let head = match buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            Some(at) => at + 4,
            None => {
                if fill(&mut client, &mut buffer)? == 0 {
                    return engine.shutdown(std::net::Shutdown::Write);
                }
                continue;
            }
        };
        let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
        let header = |name: &str| {
            text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name))).map(|(_, v)| v.trim().to_owned())
        };
        if header("transfer-encoding").is_some() || header("upgrade").is_some() {
            engine.write_all(&buffer)?;
            std::io::copy(&mut client, &mut engine)?;
            return engine.shutdown(std::net::Shutdown::Write);
        }
        let length: usize = header("content-length").map_or(0, |text| text.parse().expect("a length"));
        while buffer.len() < head + length {
            if fill(&mut client, &mut buffer)? == 0 {
                return Ok(());
            }
        }
        let rest = buffer.split_off(head + length);
        let line = text.lines().next().unwrap_or_default();
        if line.starts_with("POST ") && line.contains("/containers/create") {
            let mut body: Value = serde_json::from_slice(&buffer[head..]).expect("a JSON body");
            change(line.split(' ').nth(1).unwrap_or_default(), &mut body);
            let body = body.to_string();
            let kept: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.to_ascii_lowercase().starts_with("content-length:")).collect();
            engine.write_all(format!("{}\r\ncontent-length: {}\r\n\r\n{body}", kept.join("\r\n"), body.len()).as_bytes())?;
        } else {
            engine.write_all(&buffer)?;
        }
        buffer = rest;
    }
}

fn fill(from: &mut UnixStream, buffer: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut chunk = [0; 64 << 10];
    let read = from.read(&mut chunk)?;
    buffer.extend_from_slice(&chunk[..read]);
    Ok(read)
}
