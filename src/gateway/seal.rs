//! Binds what only the provider can read to the job that it was given to.
//!
//! A provider hands out reasoning and compacted conversations encrypted under its own key, and takes them back from anybody with the same credential:
//! what one job's answer held, another job could continue. So each such text leaves the gateway with a tag that depends on the job, and comes
//! back only with it, or to a job that goes on with that one. The tag needs no memory: it holds over restarts, and as long as the job has its cache key.

use sha2::{Digest as _, Sha256};

use super::secret::same;
use crate::protocol::manifest::hex;

/// Between the provider's text and the tag; stands in no base64.
const MARK: char = '~';
/// Hex digits of the tag: 128 bits.
const DIGITS: usize = 32;

fn tag(key: &str, text: &str) -> String {
    // The key has a fixed length and goes first and last, so that no two pairs hash the same and no tag can be made longer.
    let digest = Sha256::new().chain_update(b"anchorhold seal ").chain_update(key).chain_update(text).chain_update(key).finalize();
    let mut digits = hex(&digest);
    digits.truncate(DIGITS);
    digits
}

/// Puts the job's tag on a text.
pub fn close(key: &str, text: &str) -> String {
    format!("{text}{MARK}{}", tag(key, text))
}

/// The length of the provider's text in a sealed one; `None` if the tag is missing or another job's.
pub fn open(key: &str, sealed: &str) -> Option<usize> {
    let (text, found) = sealed.rsplit_once(MARK)?;
    same(found.as_bytes(), tag(key, text).as_bytes()).then_some(text.len())
}

/// [`open`] with a job's own key or one of those of the jobs that it goes on with.
pub fn open_any(key: &str, earlier: &[String], sealed: &str) -> Option<usize> {
    open(key, sealed).or_else(|| earlier.iter().find_map(|key| open(key, sealed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_opens_for_its_own_job_and_its_own_text_only() {
        let sealed = close("key of one", "gAAAA~b==");
        assert_eq!(open("key of one", &sealed), Some(9));
        assert_eq!(open("key of two", &sealed), None);
        for broken in ["gAAAA~b==", "", "~", &sealed[1..], &sealed[..sealed.len() - 1], &sealed.replace("gA", "gB"), &format!("{sealed}~")] {
            assert_eq!(open("key of one", broken), None, "{broken}");
        }
    }
}
