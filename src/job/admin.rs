//! A control session with the gateway: one exec kept open, one JSON line a request, one a response, in order.

use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};

use crate::engine::ExecSession;
use crate::error::{Code, Error, Result};
use crate::protocol::admin::{AdminRequest, AdminResponse, MAX_LINE};
use crate::protocol::result::Reason;

/// How long one answer may take at first. The gateway needs milliseconds; but an engine sometimes loses the streams of an exec that it starts
/// in a container which is itself just starting, and then only a new session helps. Where dozens of processes begin theirs at once an exec takes seconds, and to
/// give up and begin another one makes it worse: so each further one is given twice the time.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// An open session. After any error it must be dropped: what is read next might answer another request.
pub(super) struct Session {
    input: Pin<Box<dyn AsyncWrite + Send>>,
    output: BufReader<Pin<Box<dyn AsyncRead + Send>>>,
    answer_within: Duration,
}

impl Session {
    /// Gives each answer so long.
    pub(super) fn new(exec: ExecSession, answer_within: Duration) -> Self {
        Self { input: exec.input, output: BufReader::new(exec.output), answer_within }
    }

    /// The same for a session that has answered before, with at least so much patience.
    pub(super) async fn request_within(&mut self, request: &AdminRequest, patience: Duration) -> Result<AdminResponse> {
        self.exchange(request, self.answer_within.max(patience)).await
    }

    /// Sends a request and reads its answer.
    pub(super) async fn request(&mut self, request: &AdminRequest) -> Result<AdminResponse> {
        self.exchange(request, self.answer_within).await
    }

    async fn exchange(&mut self, request: &AdminRequest, within: Duration) -> Result<AdminResponse> {
        // The line may hold a credential, so it is wiped.
        let mut line = zeroize::Zeroizing::new(serde_json::to_vec(request).map_err(|e| failed("write a request").with_source(e))?);
        if line.len() >= MAX_LINE {
            return Err(failed("write a request of that size"));
        }
        line.push(b'\n');
        let answer = async {
            self.input.write_all(&line).await.map_err(|e| failed("write a request").with_source(e))?;
            self.input.flush().await.map_err(|e| failed("write a request").with_source(e))?;
            let mut answer = Vec::new();
            let limit = MAX_LINE as u64 + 1;
            (&mut self.output).take(limit).read_until(b'\n', &mut answer).await.map_err(|e| failed("read an answer").with_source(e))?;
            if answer.last() != Some(&b'\n') {
                return Err(failed("read an answer: the session ended"));
            }
            serde_json::from_slice(&answer).map_err(|e| failed("understand an answer").with_source(e))
        };
        match tokio::time::timeout(within, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(failed("get an answer in time")),
        }
    }
}

fn failed(what: &str) -> Error {
    Error::new(Code::GatewayUnavailable, format!("the gateway's control: could not {what}")).with_hint("run `anchorhold doctor`")
}

/// An answer that says that the request failed, as an error.
pub(super) fn refused(code: &str, message: &str) -> Error {
    let message = crate::display::bounded(message.as_bytes(), 300);
    Error::new(Code::GatewayUnavailable, format!("the gateway refused the request: {message}"))
        .with_hint("run `anchorhold doctor`")
        .with_detail("gateway_code", crate::display::line(code.as_bytes()))
        .with_detail("reason", Reason::Failed.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Session, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (read, write) = tokio::io::split(ours);
        (Session::new(ExecSession { input: Box::pin(write), output: Box::pin(read) }, ANSWER_WITHIN), theirs)
    }

    #[tokio::test]
    async fn requests_are_answered_in_order_over_one_session() {
        let (mut session, theirs) = pair();
        let peer = async move {
            let (read, mut write) = tokio::io::split(theirs);
            let mut lines = BufReader::new(read).lines();
            let mut seen = Vec::new();
            while seen.len() < 2 {
                seen.push(lines.next_line().await.unwrap().unwrap());
                // An answer that arrives in pieces is still one line.
                for piece in [&b"{\"type\""[..], b":\"ok\"}\n"] {
                    write.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
            seen
        };
        let asks = async {
            let first = session.request(&AdminRequest::Status).await.unwrap();
            let second = session.request(&AdminRequest::Job { job_id: "0".repeat(32) }).await.unwrap();
            (first, second)
        };
        let (seen, answers) = tokio::join!(peer, asks);
        assert_eq!(answers, (AdminResponse::Ok, AdminResponse::Ok));
        assert_eq!(seen[0], r#"{"op":"status"}"#);
        assert!(seen[1].contains(r#""op":"job""#));
    }

    #[tokio::test]
    async fn an_ended_session_garbage_and_an_endless_line_are_errors() {
        let (mut session, theirs) = pair();
        drop(theirs);
        assert_eq!(session.request(&AdminRequest::Status).await.unwrap_err().code, Code::GatewayUnavailable);
        for garbage in [b"no json\n".to_vec(), b"{\"type\":\"ok\"}".to_vec(), vec![b'x'; MAX_LINE + 2]] {
            let (mut session, mut theirs) = pair();
            let peer = async move {
                theirs.write_all(&garbage).await.ok();
                theirs.shutdown().await.ok();
                // Kept until the request was written, so that the answer is what fails.
                theirs.read_u8().await.ok();
            };
            let request = AdminRequest::Status;
            let ask = session.request(&request);
            let (_, answer) = tokio::join!(peer, ask);
            assert_eq!(answer.unwrap_err().code, Code::GatewayUnavailable);
        }
    }

    #[tokio::test]
    async fn a_silent_gateway_is_given_up() {
        let (mut session, _theirs) = pair();
        session.answer_within = Duration::from_millis(20);
        assert!(session.request(&AdminRequest::Status).await.unwrap_err().message.contains("in time"));
    }
}
