//! The bearer token: from a file or a variable, kept as its digest alone.

use std::path::Path;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::config::ServerSettings;
use crate::error::{Code, Error, Result};

/// A token has at least so many bytes: shorter ones are guessed.
const MIN_BYTES: usize = 16;
/// Largest file that is read, and longest header that is compared.
const MAX_BYTES: u64 = 4096;
const HINT: &str = "write one of at least 16 characters into the file, such as the output of `openssl rand -hex 32`";

/// What a request must know. The token itself is not kept, so that nothing can show it.
#[derive(Clone, Copy)]
pub struct Token([u8; 32]);

impl Token {
    /// The token that the settings name; `None`: none is set. Blocking, and short.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidConfig`] where a file is named that cannot be read, or where what is set is no token.
    pub fn read(settings: &ServerSettings, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        if !settings.token_file.is_empty() {
            let text = file(Path::new(&settings.token_file))?;
            return Self::new(&text).map(Some).map_err(|why| invalid("server.token_file", &format!("the file {} {why}", settings.token_file)));
        }
        let text = Zeroizing::new(variable(&settings.token_env).unwrap_or_default());
        if text.trim().is_empty() {
            return Ok(None);
        }
        Self::new(&text).map(Some).map_err(|why| invalid("server.token_env", &format!("the variable {} {why}", settings.token_env)))
    }

    fn new(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("is empty");
        }
        if text.starts_with("${") {
            return Err("holds a placeholder that was not filled in");
        }
        if text.len() < MIN_BYTES || text.len() as u64 > MAX_BYTES || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("does not hold a token of 16 to 4096 printable characters without spaces");
        }
        Ok(Self(Sha256::digest(text).into()))
    }

    /// Whether this is it. Digests are compared, each byte of them, so that the time says nothing of where two differ.
    pub fn is(&self, offered: &[u8]) -> bool {
        let offered: [u8; 32] = Sha256::digest(offered).into();
        self.0.iter().zip(offered).fold(0u8, |difference, (ours, theirs)| difference | (ours ^ theirs)) == 0
    }
}

fn file(path: &Path) -> Result<Zeroizing<String>> {
    use std::io::Read as _;
    let place = format!("the file {}", path.display());
    // Asked before opening: opening a pipe would wait for its writer.
    match std::fs::metadata(path) {
        Ok(facts) if facts.is_file() && facts.len() <= MAX_BYTES => {}
        Ok(_) => return Err(invalid("server.token_file", &format!("{place} is not a small regular file"))),
        Err(e) => return Err(invalid("server.token_file", &format!("{place} cannot be read")).with_source(e)),
    }
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(MAX_BYTES).unwrap_or(0)));
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
    // The reader's error says where invalid text was found, never what.
    read.map_err(|e| invalid("server.token_file", &format!("{place} cannot be read")).with_source(e))?;
    Ok(text)
}

fn invalid(key: &str, why: &str) -> Error {
    Error::new(Code::InvalidConfig, format!("serve over HTTP: no token: {why}")).with_hint(HINT).with_detail("field", key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "0123456789abcdef0123456789abcdef";

    fn of_file(bytes: &[u8]) -> Result<Option<Token>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let settings = ServerSettings { token_file: file.path().display().to_string(), ..ServerSettings::default() };
        Token::read(&settings, |_| Some("of the variable, unused".into()))
    }

    #[test]
    fn a_token_comes_from_the_file_or_else_from_the_variable() {
        let token = of_file(format!("{GOOD}\n").as_bytes()).unwrap().unwrap();
        assert!(token.is(GOOD.as_bytes()));
        for wrong in ["", "0", &GOOD[1..], &format!("{GOOD}0"), &format!("{GOOD}\n"), &GOOD.to_uppercase()] {
            assert!(!token.is(wrong.as_bytes()), "{wrong:?}");
        }
        let settings = ServerSettings::default();
        let asked = |name: &str| (name == "ANCHORHOLD_TOKEN").then(|| GOOD.to_owned());
        assert!(Token::read(&settings, asked).unwrap().unwrap().is(GOOD.as_bytes()));
        assert!(Token::read(&settings, |_| None).unwrap().is_none());
        assert!(Token::read(&settings, |_| Some(" ".into())).unwrap().is_none());
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_repeated() {
        for bad in [
            &b""[..],
            b"\n",
            b"short",
            b"two words that are long enough",
            b"${TOKEN_OF_MY_SERVER}",
            b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe\xff\xfe",
            &[b'a'; 5000],
        ] {
            let error = of_file(bad).err().unwrap();
            assert_eq!(error.code, Code::InvalidConfig);
            assert!(!error.chain().contains("long enough") && !error.chain().contains("TOKEN_OF"), "{}", error.chain());
        }
        let settings = |path: &str| ServerSettings { token_file: path.to_owned(), ..ServerSettings::default() };
        for path in ["/dev/zero", "/", "/nonexistent/token"] {
            assert_eq!(Token::read(&settings(path), |_| None).err().unwrap().code, Code::InvalidConfig, "{path}");
        }
        assert_eq!(Token::read(&ServerSettings::default(), |_| Some("short".into())).err().unwrap().code, Code::InvalidConfig);
    }
}
