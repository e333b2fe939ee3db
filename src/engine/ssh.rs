//! An engine behind `ssh host docker system dial-stdio`, as the docker CLI reaches it.
//!
//! The system's `ssh` with the user's own configuration, so that keys, jump hosts and the check of host keys are the user's; it never
//! prompts. bollard's own ssh connector takes no port and trusts every new host key, which is why it is not used.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::BollardRequest;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Response, header, http};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio_util::task::TaskTracker;

type Body = <BollardRequest as IntoBody>::Body;
type Sender = SendRequest<Body>;

/// Names the body's type, which bollard keeps to itself.
trait IntoBody {
    type Body;
}

impl<B> IntoBody for http::Request<B> {
    type Body = B;
}

/// What `ssh` says when it fails is shown up to here.
const WORDS_MAX: u64 = 2048;
/// `ssh` ends by itself when the connection breaks; its last words are waited for this long.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Worth waiting for a connection that is about to be free, since a login takes many times as long.
const MOMENT: Duration = Duration::from_millis(5);
/// What `ssh` needs to find the user's keys and agent.
const ENVIRONMENT: [&str; 6] = ["HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "KRB5CCNAME", "XDG_RUNTIME_DIR"];

/// Where `ssh` goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    /// `user@host` or `host`.
    pub(super) host: String,
    /// Another port than ssh's configuration says.
    pub(super) port: Option<u16>,
}

impl Destination {
    /// Reads `[user@]host[:port]`, with brackets around an IPv6 address; `None`: malformed.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (user, address) = text.rsplit_once('@').map_or((None, text), |(user, address)| (Some(user), address));
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']')?;
                (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
            }
            None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(str::parse).transpose().ok()?;
        // An argument that begins with a dash would be an option of ssh.
        let ok = |part: &str, extra: &[u8]| {
            !part.is_empty() && !part.starts_with('-') && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b) || extra.contains(&b))
        };
        (ok(host, b":%") && user.is_none_or(|u| ok(u, b"+")))
            .then(|| Self { host: user.map_or_else(|| host.to_owned(), |user| format!("{user}@{host}")), port })
    }
}

/// Connections to one engine. One that is idle is used again, since each costs an ssh login.
#[derive(Clone)]
pub(super) struct SshTransport {
    destination: Arc<Destination>,
    open: Arc<Mutex<Vec<Sender>>>,
    tasks: TaskTracker,
}

impl SshTransport {
    pub(super) fn new(destination: Destination) -> Self {
        Self { destination: Arc::new(destination), open: Arc::default(), tasks: TaskTracker::new() }
    }

    /// The call that bollard makes for each request.
    pub(super) async fn request(self, request: BollardRequest) -> Result<Response<Incoming>, bollard::errors::Error> {
        let mut request = prepare(request)?;
        while let Some(mut sender) = self.idle().await {
            match sender.try_send_request(request).await {
                Ok(answer) => {
                    self.keep(sender);
                    return Ok(answer);
                }
                // It was closed meanwhile, and nothing was sent: the next one, or a new one.
                Err(mut e) => match e.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(e.into_error().into()),
                },
            }
        }
        let (mut sender, words) = self.connect().await?;
        match sender.send_request(request).await {
            Ok(answer) => {
                self.keep(sender);
                Ok(answer)
            }
            Err(e) => {
                drop(sender);
                let words = tokio::time::timeout(LAST_WORDS, words).await.ok().and_then(Result::ok).unwrap_or_default();
                let words = crate::display::line(words.trim_ascii());
                if words.is_empty() { Err(e.into()) } else { Err(io::Error::other(format!("ssh says: {words}")).into()) }
            }
        }
    }

    /// A connection that is free, or will be in a moment: the end of an answer is noticed a little after its last byte was read.
    async fn idle(&self) -> Option<Sender> {
        let mut last = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|sender| !sender.is_closed());
            if let Some(ready) = open.iter().position(SendRequest::is_ready) {
                return Some(open.swap_remove(ready));
            }
            open.pop()?
        };
        match tokio::time::timeout(MOMENT, last.ready()).await {
            Ok(Ok(())) => Some(last),
            Ok(Err(_)) => None,
            Err(_) => {
                self.keep(last);
                None
            }
        }
    }

    /// It becomes ready when its answer was read to the end.
    fn keep(&self, sender: Sender) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
    }

    /// Starts `ssh`; also gives what it will have said once it ended.
    async fn connect(&self) -> Result<(Sender, tokio::task::JoinHandle<Vec<u8>>), bollard::errors::Error> {
        let mut command = crate::process::command("ssh", Path::new("/"));
        for name in ENVIRONMENT {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.args(["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]);
        if let Some(port) = self.destination.port {
            command.arg("-p").arg(port.to_string());
        }
        command.args(["--", &self.destination.host, "docker", "system", "dial-stdio"]).stdin(Stdio::piped());
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else { return Err(io::Error::other("ssh has no pipes").into()) };
        let words = self.tasks.spawn(async move {
            let mut words = Vec::new();
            let mut errors = errors.take(WORDS_MAX);
            // What was read before a failure still says something.
            let _ = errors.read_to_end(&mut words).await;
            // The rest is read too, so that ssh never blocks on it.
            let _ = tokio::io::copy(&mut errors.into_inner(), &mut tokio::io::sink()).await;
            words
        });
        let stream = Duplex { input: Some(input), output, _child: child };
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends when the request is answered and the sender dropped, or when ssh ends; the child goes with it.
        self.tasks.spawn(async move {
            let _ = connection.with_upgrades().await;
        });
        Ok((sender, words))
    }
}

/// From bollard's form to what goes over the wire: a path and a host name of no meaning.
fn prepare(request: BollardRequest) -> Result<BollardRequest, bollard::errors::Error> {
    let (mut head, body) = request.into_parts();
    head.uri = head.uri.path_and_query().map_or("/", |p| p.as_str()).parse()?;
    head.headers.insert(header::HOST, header::HeaderValue::from_static("engine"));
    Ok(BollardRequest::from_parts(head, body))
}

/// The pipes of a child as one stream; shutting it down closes the child's standard input.
struct Duplex {
    input: Option<ChildStdin>,
    output: ChildStdout,
    _child: Child,
}

impl AsyncRead for Duplex {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buffer)
    }
}

impl Duplex {
    fn input(&mut self) -> io::Result<Pin<&mut ChildStdin>> {
        self.input.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.input()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.input() {
            Ok(input) => input.poll_flush(cx),
            Err(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        let parsed = |text| Destination::parse(text).map(|d| (d.host, d.port));
        assert_eq!(parsed("h"), Some(("h".to_owned(), None)));
        assert_eq!(parsed("me@h.example:2222"), Some(("me@h.example".to_owned(), Some(2222))));
        assert_eq!(parsed("me@[fe80::1%eth0]:22"), Some(("me@fe80::1%eth0".to_owned(), Some(22))));
        assert_eq!(parsed("[::1]"), Some(("::1".to_owned(), None)));
        for bad in ["", "@h", "me@", "-oProxyCommand=x", "me@-h", "-me@h", "h:", "h:x", "h:70000", "[::1", "[::1]x", "a b", "h/path", "h;x", "h$x"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
