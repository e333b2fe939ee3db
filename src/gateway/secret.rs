//! A credential in memory: wiped when dropped, never shown.

use std::fmt;

use zeroize::Zeroizing;

/// An API key. It has no `Display` and no `Serialize`; its `Debug` shows nothing of it.
pub struct Secret(Zeroizing<String>);

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
        Some(Self(Zeroizing::new(trimmed.to_owned())))
    }

    /// The credential itself; for the one header and the one file that hold it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What must not appear in an answer, if it is long enough to be told from chance.
    pub fn masked(&self) -> Option<&str> {
        (self.0.len() >= Self::MIN_MASKED).then_some(self.0.as_str())
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
