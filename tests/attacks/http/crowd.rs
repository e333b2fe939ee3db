//! H04: whoever wants to keep others out, with and without the token.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{TOKEN, list, serve};
use crate::arena::Arena;
use crate::support::http::Served;

/// Much longer than any bound that is set here, so that what is still open then is not closed by it.
const LATE: Duration = Duration::from_secs(12);
const SHORT: (&str, &str) = ("ANCHORHOLD_SERVER_TRANSFER_SECONDS", "2");
const HEAD: &str = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n";

fn connect(server: &Served) -> TcpStream {
    let stream = TcpStream::connect(server.remote.address).expect("a connection");
    stream.set_read_timeout(Some(LATE)).expect("a time");
    stream
}

/// What comes until the end, or `None` where there is no end within [`LATE`].
fn to_the_end(stream: &mut TcpStream) -> Option<String> {
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    let start = Instant::now();
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => said.extend_from_slice(&piece[..read]),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => return None,
            Err(_) => break,
        }
        if start.elapsed() > LATE {
            return None;
        }
    }
    Some(String::from_utf8_lossy(&said).into_owned())
}

/// How many connections the process holds, by its open files.
fn sockets(server: &Served) -> usize {
    let files = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("its open files");
    files.flatten().filter(|file| std::fs::read_link(file.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))).count()
}

pub fn strangers(arena: &Arena) -> Option<String> {
    let server = serve(arena, &[], Some(TOKEN));
    let _held: Vec<TcpStream> = (0..300).map(|_| connect(&server)).collect();
    // Served after all of them, so that all of them were accepted before.
    assert_eq!(list(&server.remote, &[]), 200, "a client gets through");
    let start = Instant::now();
    let mut open = sockets(&server);
    while open > 100 && start.elapsed() < LATE {
        std::thread::sleep(Duration::from_millis(50));
        open = sockets(&server);
    }
    (open > 100).then(|| format!("{open} connections are held"))
}

pub fn clients(arena: &Arena) -> Option<String> {
    let server = serve(arena, &[("ANCHORHOLD_SERVER_MAX_CONNECTIONS", "3")], Some(TOKEN));
    let mut held: Vec<TcpStream> = (0..3).map(|_| connect(&server)).collect();
    for client in &mut held {
        write!(client, "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n").expect("sent");
        let mut piece = [0; 4096];
        assert!(client.read(&mut piece).expect("an answer") > 0);
    }
    let status = list(&server.remote, &[]);
    (status != 503).then(|| format!("a fourth client got {status}"))
}

pub fn slow_heads(arena: &Arena) -> Option<String> {
    let server = serve(arena, &[("ANCHORHOLD_SERVER_HEAD_SECONDS", "2")], None);
    let mut silent = connect(&server);
    let mut slow = connect(&server);
    let mut letters = HEAD.bytes().chain("X-Endless: ".bytes()).chain(std::iter::repeat(b'a'));
    let start = Instant::now();
    let mut closed = false;
    while start.elapsed() < LATE && !closed {
        closed = slow.write_all(&[letters.next().unwrap_or(b'a')]).is_err();
        std::thread::sleep(Duration::from_millis(100));
    }
    let quiet = to_the_end(&mut silent);
    (!closed || quiet.is_none()).then(|| format!("after {} s the connection is open", start.elapsed().as_secs()))
}

pub fn slow_bodies(arena: &Arena) -> Option<String> {
    let server = serve(arena, &[SHORT], None);
    let mut slow = connect(&server);
    write!(slow, "{HEAD}Content-Length: 1000\r\n\r\n{{").expect("sent");
    match to_the_end(&mut slow) {
        Some(said) => {
            assert!(said.starts_with("HTTP/1.1 408"), "{said}");
            None
        }
        None => Some("the body is waited for".to_owned()),
    }
}

pub fn huge_bodies(arena: &Arena) -> Option<String> {
    let server = serve(arena, &[("ANCHORHOLD_SERVER_MAX_BODY", "64KiB"), SHORT], None);
    let pad = "x".repeat(1 << 20);
    let message = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":{{\"_meta\":{{\"pad\":\"{pad}\"}}}}}}");
    let announced = format!("Content-Length: {}\r\n\r\n{message}", message.len());
    let in_pieces = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{message}\r\n0\r\n\r\n", message.len());
    for body in [announced, in_pieces] {
        let mut stream = connect(&server);
        // The server may have closed before all of it is written.
        let _ = write!(stream, "{HEAD}Connection: close\r\n{body}");
        let said = to_the_end(&mut stream).unwrap_or_default();
        if said.starts_with("HTTP/1.1 200") {
            return Some("a megabyte was read".to_owned());
        }
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 413"), "{said}");
    }
    None
}

pub fn never_reads(arena: &Arena) -> Option<String> {
    let server = serve(arena, &[SHORT], None);
    let mut stream = connect(&server);
    stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a time");
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
    let request = format!("{HEAD}Content-Length: {}\r\n\r\n{body}", body.len());
    let start = Instant::now();
    let many = request.repeat(100);
    let mut sent = 0;
    // As much as is taken; then nothing is taken any more, until the server gives this client up.
    loop {
        match stream.write(&many.as_bytes()[sent % request.len()..]) {
            Ok(bytes) => sent += bytes,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return None,
        }
        if start.elapsed() > LATE * 3 {
            return Some(format!("after {} s the connection is open", start.elapsed().as_secs()));
        }
    }
}
