//! Well-known forms of credentials in added text. A hit is pointed at in the risk block; the patch itself is never altered.

use std::collections::BTreeSet;

/// A token: how it begins, which bytes follow, at least how many.
struct Token {
    prefix: &'static [u8],
    class: fn(u8) -> bool,
    least: usize,
    what: &'static str,
}

fn upper(b: u8) -> bool {
    b.is_ascii_uppercase() || b.is_ascii_digit()
}
fn alnum(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}
fn word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
}

const TOKENS: &[Token] = &[
    Token { prefix: b"AKIA", class: upper, least: 16, what: "an AWS access key id" },
    Token { prefix: b"ASIA", class: upper, least: 16, what: "an AWS access key id" },
    Token { prefix: b"AIza", class: word, least: 35, what: "a Google API key" },
    Token { prefix: b"SG.", class: word, least: 20, what: "a SendGrid key" },
    Token { prefix: b"dop_v1_", class: alnum, least: 40, what: "a DigitalOcean token" },
    Token { prefix: b"ghp_", class: alnum, least: 36, what: "a GitHub token" },
    Token { prefix: b"gho_", class: alnum, least: 36, what: "a GitHub token" },
    Token { prefix: b"ghu_", class: alnum, least: 36, what: "a GitHub token" },
    Token { prefix: b"ghs_", class: alnum, least: 36, what: "a GitHub token" },
    Token { prefix: b"ghr_", class: alnum, least: 36, what: "a GitHub token" },
    Token { prefix: b"github_pat_", class: word, least: 22, what: "a GitHub token" },
    Token { prefix: b"glpat-", class: word, least: 20, what: "a GitLab token" },
    Token { prefix: b"hf_", class: alnum, least: 30, what: "a Hugging Face token" },
    Token { prefix: b"npm_", class: alnum, least: 36, what: "an npm token" },
    Token { prefix: b"pypi-", class: word, least: 50, what: "a PyPI token" },
    Token { prefix: b"rk_live_", class: alnum, least: 16, what: "a Stripe key" },
    Token { prefix: b"sk_live_", class: alnum, least: 16, what: "a Stripe key" },
    Token { prefix: b"sk_test_", class: alnum, least: 16, what: "a Stripe key" },
    Token { prefix: b"sk-ant-", class: word, least: 20, what: "an Anthropic key" },
    Token { prefix: b"sk-", class: word, least: 32, what: "an OpenAI key" },
    Token { prefix: b"xoxa-", class: word, least: 10, what: "a Slack token" },
    Token { prefix: b"xoxb-", class: word, least: 10, what: "a Slack token" },
    Token { prefix: b"xoxp-", class: word, least: 10, what: "a Slack token" },
    Token { prefix: b"xoxr-", class: word, least: 10, what: "a Slack token" },
    Token { prefix: b"xoxs-", class: word, least: 10, what: "a Slack token" },
];

/// Longest part of a line that is looked at: minified files have lines of megabytes.
const MAX_LINE: usize = 64 << 10;

/// Adds what one line seems to hold.
pub fn scan(line: &[u8], found: &mut BTreeSet<&'static str>) {
    let line = line.get(..line.len().min(MAX_LINE)).unwrap_or_default();
    if line.len() < 8 {
        return;
    }
    let mut inside = false;
    for (at, byte) in line.iter().enumerate() {
        // A token begins where a word begins.
        if !inside && matches!(byte, b'A' | b'S' | b'd' | b'g' | b'h' | b'n' | b'p' | b'r' | b's' | b'x' | b'e') {
            let rest = line.get(at..).unwrap_or_default();
            if let Some(token) = TOKENS.iter().find(|t| rest.strip_prefix(t.prefix).is_some_and(|rest| run(rest, t.class) >= t.least)) {
                found.insert(token.what);
            }
            if rest.starts_with(b"eyJ") && is_jwt(rest) {
                found.insert("a JSON web token");
            }
        }
        inside = alnum(*byte);
    }
    if contains(line, b"-----BEGIN ") && contains(line, b"PRIVATE KEY") {
        found.insert("a private key");
    }
    if has_userinfo(line) {
        found.insert("a password in a URL");
    }
    if has_labelled_value(line) {
        found.insert("a labelled secret");
    }
}

/// Whether a text seems to hold anything of that kind.
pub fn in_text(text: &str) -> bool {
    let mut found = BTreeSet::new();
    text.lines().for_each(|line| scan(line.as_bytes(), &mut found));
    !found.is_empty()
}

fn run(bytes: &[u8], class: fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|b| class(**b)).count()
}

fn contains(line: &[u8], what: &[u8]) -> bool {
    line.windows(what.len()).any(|w| w == what)
}

/// Three base64url parts, the first two begin an encoded `{"`.
fn is_jwt(rest: &[u8]) -> bool {
    let mut parts = rest.split(|b| *b == b'.');
    let mut long = |least| parts.next().is_some_and(|part| run(part, word) == part.len() && part.len() >= least);
    long(10) && long(10) && rest.iter().filter(|b| **b == b'.').count() >= 2
}

/// `scheme://user:password@host`, with a password that is not a placeholder.
fn has_userinfo(line: &[u8]) -> bool {
    let Some(at) = line.windows(3).position(|w| w == b"://") else { return false };
    let rest = line.get(at + 3..).unwrap_or_default();
    let authority = rest.split(|b| matches!(b, b'/' | b' ' | b'"' | b'\'' | b'\t' | b'?' | b'#')).next().unwrap_or_default();
    let Some(end) = authority.iter().rposition(|b| *b == b'@') else { return false };
    let userinfo = authority.get(..end).unwrap_or_default();
    match userinfo.iter().position(|b| *b == b':') {
        Some(colon) => {
            let password = userinfo.get(colon + 1..).unwrap_or_default();
            password.len() >= 6 && !password.iter().any(|b| matches!(b, b'$' | b'{' | b'<' | b'*'))
        }
        None => false,
    }
}

const LABELS: &[&[u8]] =
    &[b"password", b"passwd", b"secret", b"api_key", b"apikey", b"api-key", b"access_key", b"private_key", b"auth_token", b"access_token"];

/// `password = "…"`: a label, a sign, a quoted value of at least eight bytes without blanks or placeholders.
fn has_labelled_value(line: &[u8]) -> bool {
    let lower = line.to_ascii_lowercase();
    LABELS.iter().any(|label| {
        let Some(at) = lower.windows(label.len()).position(|w| w == *label) else { return false };
        let rest = line.get(at + label.len()..).unwrap_or_default();
        let skipped = rest.iter().take_while(|b| matches!(b, b' ' | b'"' | b'\'' | b'_') || b.is_ascii_alphanumeric()).count();
        let rest = rest.get(skipped..).unwrap_or_default();
        let Some(value) = rest.strip_prefix(b":=").or_else(|| rest.strip_prefix(b"=")).or_else(|| rest.strip_prefix(b":")) else { return false };
        match value.trim_ascii_start() {
            [quote @ (b'"' | b'\''), value @ ..] => {
                let len = value.iter().position(|b| b == quote).unwrap_or(0);
                let value = value.get(..len).unwrap_or_default();
                value.len() >= 8 && !value.iter().any(|b| b.is_ascii_whitespace() || matches!(b, b'$' | b'{' | b'<' | b'*' | b'('))
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(line: &str) -> Vec<&'static str> {
        let mut found = BTreeSet::new();
        scan(line.as_bytes(), &mut found);
        found.into_iter().collect()
    }

    #[test]
    fn well_known_forms_are_found() {
        // Put together here, so that no scanner takes this file for a leak.
        let long = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0";
        assert_eq!(kinds(&format!("key = {}{}", "AKIA", "ABCDEFGHIJKLMNOP")), ["an AWS access key id"]);
        assert_eq!(kinds(&format!("x: ghp_{long}")), ["a GitHub token"]);
        assert_eq!(kinds(&format!("(sk-proj-{long})")), ["an OpenAI key"]);
        assert_eq!(kinds(&format!("sk-ant-{long}")), ["an Anthropic key"]);
        assert_eq!(kinds("-----BEGIN OPENSSH PRIVATE KEY-----"), ["a private key"]);
        assert_eq!(kinds("postgres://me:hunter22@db/x"), ["a password in a URL"]);
        assert_eq!(kinds("DB_PASSWORD = \"correcthorse\""), ["a labelled secret"]);
        assert_eq!(kinds(&format!("eyJhbGciOiJI.eyJzdWIiOiIx.{long}")), ["a JSON web token"]);
    }

    #[test]
    fn ordinary_code_is_not() {
        for line in [
            "task-sk-learning is fun and long enough to be a candidate",
            "password = os.environ[\"PASSWORD\"]",
            "let secret = \"${SECRET}\";",
            "https://example.com/a:b@c",
            "url = \"http://user:${PASS}@host\"",
            "fn password(secret: &str) -> bool {",
            "risk-assessment-of-all-the-things-that-can-go-wrong",
        ] {
            assert_eq!(kinds(line), Vec::<&str>::new(), "{line}");
        }
    }
}
