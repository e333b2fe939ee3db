//! Keeps the credential out of answers: an answer in which it stands is cut off, not cleaned.
//!
//! Looked at is every string that is written to the job, decoded: plainly, in base64 at any offset, in hexadecimal, URL-encoded, and with JSON's escapes
//! a second time (the arguments of a call are JSON in a string). Strings are also looked at in sequence, over the borders of fields, deltas and
//! kinds of events, and the deltas of each part of the answer on their own, where several are interleaved. What is not looked for: the
//! credential reversed, compressed, enciphered or otherwise made unlike itself. A provider that wants to give it away can; this is for one that
//! repeats what it was sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use memchr::{memchr, memmem};
use serde_json::Value;

use super::Cut;
use crate::gateway::secret::Secret;
use crate::protocol::manifest::hex;
use crate::weaken;

/// Parts of an answer whose deltas are followed on their own; those beyond take the place of the one that was quiet for longest.
const MAX_CHANNELS: usize = 32;

/// Which part of the answer a delta belongs to: its kind, output index, index within.
pub type Channel = (usize, u64, u64);

/// Looks for a credential in what is written.
pub struct Guard<'k> {
    seeker: Option<Seeker<'k>>,
    /// All strings in sequence.
    all: String,
    /// The deltas of each part, the most recent one last; not kept up while there is only one.
    channels: Vec<(Channel, String)>,
}

struct Seeker<'k> {
    plain: memmem::Finder<'k>,
    encoded: Vec<memmem::Finder<'static>>,
    /// How much of the text before is needed to see it in pieces, however it is encoded.
    keep: usize,
}

impl<'k> Guard<'k> {
    /// Lets everything pass without a credential, or with one too short to be told from chance.
    pub fn new(credential: Option<&'k Secret>) -> Self {
        let seeker = credential.and_then(Secret::masked).filter(|_| !weaken::off("response.key")).map(Seeker::new);
        Self { seeker, all: String::new(), channels: Vec::new() }
    }

    /// A string that stands for itself, as an id.
    pub fn alone(&self, text: &str) -> Result<(), Cut> {
        match &self.seeker {
            Some(seeker) if seeker.finds(text, text.len()) => Err(Cut::Credential),
            _ => Ok(()),
        }
    }

    /// A string in the sequence of all.
    pub fn next(&mut self, text: &str) -> Result<(), Cut> {
        match &self.seeker {
            Some(seeker) => seeker.follow(&mut self.all, text),
            None => Ok(()),
        }
    }

    /// A delta of one part of the answer, which is in the sequence of all as well.
    pub fn delta(&mut self, channel: Channel, text: &str) -> Result<(), Cut> {
        let Some(seeker) = &self.seeker else { return Ok(()) };
        match self.channels.iter().position(|(known, _)| *known == channel) {
            // The only part so far: its deltas are what the sequence of all holds, or are followed by what is not a delta.
            Some(0) if self.channels.len() == 1 => {}
            Some(at) => {
                let mut entry = self.channels.remove(at);
                let found = seeker.follow(&mut entry.1, text);
                self.channels.push(entry);
                found?;
            }
            None => {
                if let [(_, first)] = self.channels.as_mut_slice() {
                    first.clone_from(&self.all);
                }
                if self.channels.len() >= MAX_CHANNELS {
                    self.channels.remove(0);
                }
                self.channels.push((channel, text.to_owned()));
            }
        }
        self.next(text)
    }

    /// All strings in a value.
    pub fn value(&mut self, value: &Value) -> Result<(), Cut> {
        match value {
            _ if self.seeker.is_none() => Ok(()),
            Value::String(text) => self.next(text),
            Value::Array(list) => list.iter().try_for_each(|v| self.value(v)),
            Value::Object(map) => map.iter().try_for_each(|(k, v)| {
                self.alone(k)?;
                match v {
                    // What stands between two pieces of text without being text.
                    Value::String(word) if ["type", "id", "status", "role", "phase", "call_id", "execution"].contains(&k.as_str()) => {
                        self.alone(word)
                    }
                    v => self.value(v),
                }
            }),
            _ => Ok(()),
        }
    }
}

impl<'k> Seeker<'k> {
    fn new(key: &'k str) -> Self {
        let mut encoded: Vec<Vec<u8>> = Vec::new();
        for offset in 0..3 {
            let text = base64_inside(key.as_bytes(), offset);
            let url_safe: Vec<u8> = text
                .iter()
                .map(|b| {
                    if *b == b'+' {
                        b'-'
                    } else if *b == b'/' {
                        b'_'
                    } else {
                        *b
                    }
                })
                .collect();
            if url_safe != text {
                encoded.push(url_safe);
            }
            encoded.push(text);
        }
        let digits = hex(key.as_bytes());
        encoded.push(digits.to_ascii_uppercase().into_bytes());
        encoded.push(digits.into_bytes());
        let encoded = encoded.iter().map(|needle| memmem::Finder::new(needle).into_owned()).collect();
        // The longest form is one escape of six characters for each of the credential's.
        Self { plain: memmem::Finder::new(key), encoded, keep: key.len() * 6 }
    }

    /// Whether the credential ends in the last `new` bytes of `text`.
    fn finds(&self, text: &str, new: usize) -> bool {
        let bytes = text.as_bytes();
        let ends_in_new = |finder: &memmem::Finder<'_>| {
            let from = bytes.len().saturating_sub(new + finder.needle().len() - 1);
            finder.find(bytes.get(from..).unwrap_or_default()).is_some()
        };
        ends_in_new(&self.plain)
            || self.encoded.iter().any(ends_in_new)
            || (memchr(b'%', bytes).is_some() && self.plain.find(&decode(bytes, b"%", 2)).is_some())
            || (memmem::find(bytes, b"\\u").is_some() && self.plain.find(&decode(bytes, b"\\u", 4)).is_some())
    }

    /// Adds `text` to what came before and looks at both together; keeps the end for what comes next.
    fn follow(&self, before: &mut String, text: &str) -> Result<(), Cut> {
        before.push_str(text);
        if self.finds(before, text.len()) {
            return Err(Cut::Credential);
        }
        // Now and then is enough: moving the rest to the front costs more than a little more of it.
        if before.len() > self.keep * 4 {
            let mut from = before.len() - self.keep;
            while !before.is_char_boundary(from) {
                from -= 1;
            }
            before.drain(..from);
        }
        Ok(())
    }
}

/// The characters of base64 that depend on nothing but `key`, when it stands `offset` bytes after a multiple of three.
fn base64_inside(key: &[u8], offset: usize) -> Vec<u8> {
    let mut bytes = vec![0; offset];
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(&[0; 3]);
    let text = STANDARD_NO_PAD.encode(bytes);
    let (first, last) = ((offset * 8).div_ceil(6), (offset + key.len()) * 8 / 6);
    text.as_bytes().get(first..last).unwrap_or_default().to_vec()
}

/// Bytes with each `mark` and the hex digits after it replaced by the character that they name, where it is one of ASCII.
fn decode(bytes: &[u8], mark: &[u8], digits: usize) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        let number = rest.strip_prefix(mark).and_then(|r| r.get(..digits)).and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok());
        match number {
            Some(number) => {
                decoded.push(number);
                rest = rest.get(mark.len() + digits..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_seen_at_every_offset() {
        let key = b"sk-test/0123456789+abcdef";
        for offset in 0..3 {
            let inside = String::from_utf8(base64_inside(key, offset)).unwrap();
            for before in ["", "a", "ab", "xyz"].iter().filter(|b| b.len() % 3 == offset) {
                let whole = STANDARD_NO_PAD.encode([before.as_bytes(), key, b" and after"].concat());
                assert!(whole.contains(&inside), "{whole} {inside}");
            }
            assert!(inside.len() >= key.len());
        }
    }

    #[test]
    fn escapes_are_decoded() {
        assert_eq!(decode(b"%73k%2D%zz%7", b"%", 2), b"sk-%zz%7");
        assert_eq!(decode(b"\\u0073k\\u00e", b"\\u", 4), b"sk\\u00e");
    }
}
