//! The frame of an event stream: where an event ends, and what its `data:` lines say.

use std::borrow::Cow;

use memchr::memchr;

use super::Cut;

/// The next blank line at or after `searched`: where the event before it ends, and where the next begins.
pub fn blank_line(buffer: &[u8], start: usize, searched: usize) -> Option<(usize, usize)> {
    let mut at = searched.max(start);
    loop {
        at += memchr(b'\n', buffer.get(at..)?)?;
        let rest = buffer.get(at + 1..)?;
        if rest.starts_with(b"\n") {
            return Some((at, at + 2));
        }
        if rest.starts_with(b"\r\n") {
            return Some((at, at + 3));
        }
        // A blank line right at the start ends an event without lines.
        if at == start {
            return Some((at, at + 1));
        }
        at += 1;
    }
}

/// The data of an event; `None` where it has none.
pub fn data(block: &[u8]) -> Result<Option<Cow<'_, str>>, Cut> {
    let text = std::str::from_utf8(block).map_err(|_| Cut::Garbage)?;
    let mut data: Option<Cow<'_, str>> = None;
    let returns = memchr(b'\r', block).is_some();
    let mut rest_of_block = Some(text);
    while let Some(block) = rest_of_block {
        let (mut line, rest) = match memchr(b'\n', block.as_bytes()) {
            Some(at) => (block.get(..at).unwrap_or_default(), block.get(at + 1..)),
            None => (block, None),
        };
        rest_of_block = rest;
        if returns {
            line = line.strip_suffix('\r').unwrap_or(line);
            // A lone carriage return ends a line for some readers and not for others.
            if line.contains('\r') {
                return Err(Cut::Garbage);
            }
        }
        if let Some(rest) = line.strip_prefix("data:") {
            let rest = rest.strip_prefix(' ').unwrap_or(rest);
            match &mut data {
                Some(data) => {
                    let data = data.to_mut();
                    data.push('\n');
                    data.push_str(rest);
                }
                None => data = Some(Cow::Borrowed(rest)),
            }
        } else if !(line.is_empty()
            || line.starts_with(':')
            || ["event", "id", "retry"].iter().any(|k| line.strip_prefix(k).is_some_and(|r| r.starts_with(':'))))
        {
            return Err(Cut::Garbage);
        }
    }
    Ok(data)
}

/// Writes an event whose data are passed on as they came; only where the rebuilding is taken away.
pub fn write_raw(out: &mut Vec<u8>, kind: &str, data: &str) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(kind.as_bytes());
    for line in data.split('\n') {
        out.extend_from_slice(b"\ndata: ");
        out.extend_from_slice(line.as_bytes());
    }
    out.extend_from_slice(b"\n\n");
}
