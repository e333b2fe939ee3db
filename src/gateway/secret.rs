//! A credential in memory: on locked pages of its own, wiped when dropped, never shown.

use std::fmt;

use zeroize::{Zeroize as _, Zeroizing};

use crate::weaken;

/// An API key. It has no `Display` and no `Serialize`; its `Debug` shows nothing of it.
pub struct Secret {
    /// Whole pages that nothing else lies on, with room to begin at the border of one: unlocking them unlocks nothing of another's.
    pages: Box<[u8]>,
    start: usize,
    length: usize,
    /// Given back after the pages are wiped.
    _locked: Option<region::LockGuard>,
}

impl Secret {
    /// Longest credential that is kept.
    pub const MAX_BYTES: usize = 8192;
    /// Shorter ones are not searched for in answers: they would match by chance.
    pub const MIN_MASKED: usize = 8;

    /// Takes a credential; `None` if it could not stand in an HTTP header.
    pub fn new(text: String) -> Option<Self> {
        let text = Zeroizing::new(text);
        let trimmed = text.trim();
        if trimmed.is_empty() || trimmed.len() > Self::MAX_BYTES || !trimmed.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        let page = region::page::size();
        let room = trimmed.len().next_multiple_of(page);
        let mut pages = vec![0u8; room + page].into_boxed_slice();
        let start = pages.as_ptr().align_offset(page);
        let own = pages.get_mut(start..start + room)?;
        let locked = if weaken::off("gateway.locked") { None } else { region::lock(own.as_ptr(), own.len()).ok() };
        if locked.is_none() {
            super::harden::gap("the credential's pages cannot be locked in memory (memlock limit)");
        }
        own.get_mut(..trimmed.len())?.copy_from_slice(trimmed.as_bytes());
        Some(Self { pages, start, length: trimmed.len(), _locked: locked })
    }

    /// The credential itself; for the one header and the one file that hold it.
    pub fn expose(&self) -> &str {
        self.pages.get(self.start..self.start + self.length).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// What must not appear in an answer, if it is long enough to be told from chance.
    pub fn masked(&self) -> Option<&str> {
        (self.length >= Self::MIN_MASKED).then_some(self.expose())
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.pages.zeroize();
    }
}
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Compares without telling by its duration where two digests differ.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0u8, |difference, (x, y)| difference | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_secret_is_shown() {
        let secret = Secret::new("sk-very-secret-value".to_owned()).unwrap();
        assert!(!format!("{secret:?}").contains("very"));
        assert_eq!(secret.expose(), "sk-very-secret-value");
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_refused() {
        for bad in ["", "  ", "two words", "line\nbreak", "ключ"] {
            assert!(Secret::new(bad.to_owned()).is_none(), "{bad:?}");
        }
        assert_eq!(Secret::new(" trimmed\n".to_owned()).unwrap().expose(), "trimmed");
    }

    #[test]
    fn comparison_is_of_content_and_length() {
        assert!(same(b"abc", b"abc"));
        assert!(!same(b"abc", b"abd"));
        assert!(!same(b"abc", b"ab"));
    }
}
