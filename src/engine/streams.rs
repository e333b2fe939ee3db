//! The engine's multiplexed output, taken apart.

use std::io;

use bollard::container::LogOutput;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::ByteStream;
use super::failure;
use crate::error::{Code, Error, Result};

/// Standard output alone. A record that is neither output nor error is the engine's own failure, or the cut end of a broken stream.
pub(super) fn stdout_only<S>(frames: S, what: &'static str, host: String) -> ByteStream
where
    S: Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send + 'static,
{
    Box::pin(frames.filter_map(move |frame| {
        let item = match frame {
            Ok(LogOutput::StdOut { message }) if message.is_empty() => None,
            Ok(LogOutput::StdOut { message }) => Some(Ok(message)),
            Ok(LogOutput::StdErr { .. } | LogOutput::StdIn { .. }) => None,
            Ok(LogOutput::Console { .. }) => Some(Err(Error::new(Code::EngineUnavailable, format!("{what}: the engine's stream was cut")))),
            Err(e) => Some(Err(failure::translate(what, &host, e))),
        };
        std::future::ready(item)
    }))
}

/// Raw bytes, with errors of ours.
pub(super) fn bytes<S>(stream: S, what: &'static str, host: String) -> ByteStream
where
    S: Stream<Item = Result<Bytes, bollard::errors::Error>> + Send + 'static,
{
    Box::pin(stream.map(move |chunk| chunk.map_err(|e| failure::translate(what, &host, e))))
}

/// The same as an [`io::Result`] stream, for readers.
pub(super) fn as_io(stream: ByteStream) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream.map(|chunk| chunk.map_err(io::Error::other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_standard_output_comes_through() {
        let m = |text: &'static str| Bytes::from_static(text.as_bytes());
        let frames = futures_util::stream::iter(vec![
            Ok(LogOutput::StdErr { message: m("err") }),
            Ok(LogOutput::StdOut { message: m("a") }),
            Ok(LogOutput::StdOut { message: m("b") }),
            Ok(LogOutput::Console { message: m("\u{3}oops") }),
        ]);
        let got: Vec<_> = stdout_only(frames, "read the log", "unix:///x".to_owned()).collect().await;
        assert_eq!(got.len(), 3);
        assert_eq!((got[0].as_ref().unwrap().as_ref(), got[1].as_ref().unwrap().as_ref()), (&b"a"[..], &b"b"[..]));
        assert_eq!(got[2].as_ref().unwrap_err().code, Code::EngineUnavailable);
    }
}
