//! The engine's API by hand: one request a connection, so that nothing but the engine's own work is measured.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::support::local_socket;

/// Asks for a document.
pub fn get(path: &str) -> (u16, Value) {
    request("GET", path, None)
}

/// Makes a request; its status and its document.
pub fn request(method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let (status, body) = exchange(method, path, body);
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// Makes a request; its status and the bytes of its answer.
pub fn exchange(method: &str, path: &str, body: Option<&Value>) -> (u16, Vec<u8>) {
    let socket = local_socket().expect("the engine's socket is one of this machine");
    let mut stream = UnixStream::connect(socket).expect("the engine listens");
    let body = body.map(Value::to_string).unwrap_or_default();
    // The old version: an answer in one piece, and the end of the connection is its end.
    let head = format!("{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("the engine reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the engine answers");
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("an end of the head");
    let status = std::str::from_utf8(&answer[..end]).ok().and_then(|head| head.split(' ').nth(1)?.parse().ok()).expect("a status");
    answer.drain(..end + 4);
    (status, answer)
}

/// The value of a `filters` parameter with one label, as it stands in an address.
pub fn by_label(name: &str, value: &str) -> String {
    format!("%7B%22label%22%3A%5B%22{name}%3D{value}%22%5D%7D")
}
