//! The container log as progress records.

use futures_util::StreamExt as _;

use super::service::Core;
use crate::engine::{ByteStream, ContainerRef, engine_is_away};
use crate::error::Result;
use crate::protocol::progress::Progress;

/// More than the container log can hold.
const MAX_LOG: usize = 16 << 20;

/// Cuts a byte stream into lines; a line longer than a record may be is dropped.
#[derive(Default)]
pub struct Lines {
    pending: Vec<u8>,
    skipping: bool,
}

impl Lines {
    /// Takes bytes and gives each record that is now complete.
    pub fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(Progress)) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (body, ends) = match piece.split_last() {
                Some((b'\n', body)) => (body, true),
                _ => (piece, false),
            };
            if !self.skipping {
                if self.pending.len() + body.len() > Progress::MAX_LINE {
                    self.skipping = true;
                    self.pending.clear();
                } else {
                    self.pending.extend_from_slice(body);
                }
            }
            if ends {
                if let Some(record) = (!self.skipping).then(|| Progress::parse(&self.pending)).flatten() {
                    each(record);
                }
                self.skipping = false;
                self.pending.clear();
            }
        }
    }
}

/// Reads a stream to its end.
async fn read_all(mut stream: ByteStream, each: &mut (dyn FnMut(Progress) + Send)) -> Result<()> {
    let mut lines = Lines::default();
    let mut total = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        total += chunk.len();
        if total > MAX_LOG {
            break;
        }
        lines.push(&chunk, each);
    }
    Ok(())
}

/// Before a tail that broke off is read again.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(200);

/// The last record, where there is one; a tail that broke off is read once more.
///
/// An error is not the same as an empty log: what a job does is told nowhere else, and a job that runs must not pass for one that only starts.
pub(super) async fn last(core: &Core, container: &ContainerRef) -> Result<Option<Progress>> {
    let read = async || {
        let stream = core.engine().await?.logs(container, false, Some(4)).await?;
        let mut last = None;
        read_all(stream, &mut |record| last = Some(record)).await?;
        Ok::<_, crate::error::Error>(last)
    };
    match read().await {
        Err(e) if engine_is_away(&e) => {
            tracing::debug!(error = e.chain(), "the container's log could not be read");
            tokio::time::sleep(AGAIN).await;
            read().await
        }
        done => done,
    }
}

/// All records so far.
pub(super) async fn all(core: &Core, container: &ContainerRef) -> Result<Vec<Progress>> {
    let mut records = Vec::new();
    let stream = core.engine().await?.logs(container, false, None).await?;
    read_all(stream, &mut |record| records.push(record)).await?;
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(input: &[u8], chunk: usize) -> Vec<u64> {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for piece in input.chunks(chunk) {
            lines.push(piece, &mut |record| seen.push(record.events));
        }
        seen
    }

    #[test]
    fn records_survive_any_cutting_and_everything_else_is_dropped() {
        let record = |n: u64| format!("{{\"ms\":1,\"phase\":\"running\",\"events\":{n}}}\n");
        let long = format!("{{\"ms\":1,\"phase\":\"running\",\"message\":\"{}\"}}\n", "x".repeat(Progress::MAX_LINE));
        let log = format!("{}panicked at nothing\n\n{}{long}{}{{\"ms\":1,\"phase\":\"run", record(1), record(2), record(3));
        for chunk in [1, 2, 7, 64, 4096, log.len()] {
            assert_eq!(events(log.as_bytes(), chunk), [1, 2, 3], "{chunk}");
        }
    }
}
