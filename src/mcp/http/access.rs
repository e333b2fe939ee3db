//! Who may call: the token, the names under which this server is known, and the web pages that may use it.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::Uri;
use hyper::header::{self, HeaderName, HeaderValue};

use super::answer::Refusal;
use super::token::Token;
use crate::config::{Settings, origin};
use crate::error::{Code, Error, Result};
use crate::weaken;

/// What is checked of every request but `/healthz`.
pub struct Access {
    token: Option<Token>,
    hosts: Vec<(String, Option<u16>)>,
    origins: Vec<String>,
}

/// Whether only this machine reaches the address.
pub fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

impl Access {
    /// As the settings say, for a server that is reached by `address`.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidConfig`]: beyond loopback there must be a token and roots; and what [`Token::read`] says.
    pub fn new(settings: &Settings, address: &SocketAddr, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let server = &settings.server;
        let token = Token::read(server, variable)?;
        if !is_loopback(address) {
            if token.is_none() && !weaken::off("http.open") {
                return Err(Error::new(Code::InvalidConfig, "serve beyond loopback: no token is set, so anybody who reaches the port could start jobs")
                    .with_hint("write a token (`openssl rand -hex 32`) into a file and name it with --token-file or `[server] token_file`, or listen on 127.0.0.1")
                    .with_detail("field", "server.token_file"));
            }
            if settings.roots.allow.is_empty() && !weaken::off("http.any_root") {
                return Err(Error::new(
                    Code::InvalidConfig,
                    "serve beyond loopback: no roots are set, so clients could have any repository of this machine read",
                )
                .with_hint("name the directories beneath which clients may work: `[roots] allow`, or ANCHORHOLD_ROOTS_ALLOW")
                .with_detail("field", "roots.allow"));
            }
        }
        let mut hosts: Vec<(String, Option<u16>)> = ["localhost", "127.0.0.1", "::1"].map(|name| (name.to_owned(), None)).into();
        if !address.ip().is_unspecified() {
            hosts.push((address.ip().to_string(), None));
        }
        hosts.extend(server.allowed_hosts.iter().filter_map(|text| name_and_port(text)));
        Ok(Self { token, hosts, origins: server.allowed_origins.iter().filter_map(|text| origin(text)).collect() })
    }

    /// Whether a token is asked for.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether the request means this server: else a web page has its own name point here.
    pub fn host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let known = |text: &str| {
            name_and_port(text).is_some_and(|(name, port)| self.hosts.iter().any(|(ours, at)| *ours == name && (at.is_none() || *at == port)))
        };
        let host = only(headers, header::HOST).and_then(|value| value.to_str().ok());
        let named = host.is_some_and(known) && uri.authority().is_none_or(|authority| known(authority.as_str()));
        if named || weaken::off("http.host") { Ok(()) } else { Err(Refusal::ForeignHost) }
    }

    /// The web page that makes the request, where it may; `None`: no page makes it.
    pub fn origin(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Refusal> {
        if !headers.contains_key(header::ORIGIN) || weaken::off("http.origin") {
            return Ok(None);
        }
        let value = only(headers, header::ORIGIN).ok_or(Refusal::ForeignOrigin)?;
        let named = value.to_str().ok().and_then(origin).is_some_and(|origin| self.origins.contains(&origin));
        if named { Ok(Some(value.clone())) } else { Err(Refusal::ForeignOrigin) }
    }

    /// Whether the request knows the token, where there is one.
    pub fn token(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(token) = &self.token else { return Ok(()) };
        if weaken::off("http.token") {
            return Ok(());
        }
        if !headers.contains_key(header::AUTHORIZATION) {
            return Err(Refusal::Unauthorized(false));
        }
        let offered = only(headers, header::AUTHORIZATION).map(HeaderValue::as_bytes).and_then(bearer);
        if offered.is_some_and(|offered| token.is(offered)) { Ok(()) } else { Err(Refusal::Unauthorized(true)) }
    }
}

/// The one value of a header.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// What stands behind `Bearer `.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

/// `name`, `name:port`, `[address]`, `[address]:port`; an address in its usual spelling, a name in lower case.
fn name_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        // A bare address of the newer kind, as a setting may have it.
        None if text.parse::<std::net::Ipv6Addr>().is_ok() => (text, None),
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
        Some(_) => return None,
        None => None,
    };
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
    let name = name.parse::<IpAddr>().map_or_else(|_| name.to_ascii_lowercase(), |address| address.to_string());
    plain.then_some((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
        let mut settings = Settings::default();
        change(&mut settings);
        settings
    }

    fn access(listen: &str, token: bool, change: impl FnOnce(&mut Settings)) -> Result<Access> {
        let address = listen.parse().unwrap();
        Access::new(&settings(change), &address, |_| token.then(|| TOKEN.to_owned()))
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn beyond_loopback_there_must_be_a_token_and_roots() {
        let rooted = |settings: &mut Settings| settings.roots.allow = vec!["/srv".into()];
        for open in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[2001:db8::1]:1"] {
            for (token, roots, field) in [(false, true, "server.token_file"), (true, false, "roots.allow"), (false, false, "server.token_file")] {
                let refused = access(open, token, |s| {
                    if roots {
                        rooted(s);
                    }
                })
                .err()
                .unwrap();
                assert_eq!((refused.code, &refused.details["field"]), (Code::InvalidConfig, &field.into()), "{open}");
            }
            assert!(access(open, true, rooted).is_ok());
        }
        for closed in ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(access(closed, false, |_| {}).is_ok(), "{closed}");
        }
    }

    #[test]
    fn only_our_own_names_are_answered() {
        let access = access("127.0.0.2:7411", false, |s| {
            s.server.allowed_hosts = vec!["Box.example".into(), "other.example:8080".into(), "2001:db8::1".into()];
        })
        .unwrap();
        let uri: Uri = "/mcp".parse().unwrap();
        let host = |name: &str| access.host(&uri, &headers(&[("host", name)])).is_ok();
        for ours in [
            "localhost",
            "LOCALHOST:7411",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:7411",
            "[0:0:0:0:0:0:0:1]",
            "127.0.0.2:7411",
            "box.example",
            "BOX.example:99",
            "other.example:8080",
            "[2001:db8::1]:7411",
        ] {
            assert!(host(ours), "{ours}");
        }
        for foreign in [
            "",
            "evil.example",
            "localhost.evil.example",
            "evil.example:7411",
            "localhost:x",
            "localhost:",
            "localhost:99999",
            "other.example",
            "other.example:8081",
            "127.0.0.3",
            "[::2]",
            "[localhost]",
            "a b",
            "localhost@evil.example",
            "localhost/x",
        ] {
            assert!(!host(foreign), "{foreign}");
        }
        assert!(access.host(&uri, &headers(&[])).is_err());
        assert!(access.host(&uri, &headers(&[("host", "localhost"), ("host", "localhost")])).is_err());
        assert!(access.host(&"http://evil.example/mcp".parse().unwrap(), &headers(&[("host", "localhost")])).is_err());
        assert!(access.host(&"http://localhost:7411/mcp".parse().unwrap(), &headers(&[("host", "localhost")])).is_ok());
    }

    #[test]
    fn web_pages_are_refused_but_those_that_are_named() {
        let access =
            access("127.0.0.1:7411", false, |s| s.server.allowed_origins = vec!["https://app.example".into(), "http://localhost:6274".into()])
                .unwrap();
        let of = |value: &str| access.origin(&headers(&[("origin", value)]));
        for named in ["https://app.example", "https://app.example:443", "HTTPS://APP.example", "http://localhost:6274"] {
            assert!(of(named).unwrap().is_some(), "{named}");
        }
        for foreign in [
            "null",
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil.example",
            "http://localhost",
            "http://localhost:7411",
            "",
            "x",
        ] {
            assert_eq!(of(foreign), Err(Refusal::ForeignOrigin), "{foreign}");
        }
        assert_eq!(access.origin(&headers(&[])), Ok(None));
        assert!(access.origin(&headers(&[("origin", "https://app.example"), ("origin", "https://app.example")])).is_err());
    }

    #[test]
    fn the_token_is_asked_for_where_there_is_one() {
        let with = access("127.0.0.1:1", true, |_| {}).unwrap();
        let none = access("127.0.0.1:1", false, |_| {}).unwrap();
        assert!(with.has_token() && !none.has_token() && none.token(&headers(&[])).is_ok());
        for good in [format!("Bearer {TOKEN}"), format!("bearer {TOKEN}"), format!("BEARER  {TOKEN} ")] {
            assert_eq!(with.token(&headers(&[("authorization", &good)])), Ok(()), "{good}");
        }
        assert_eq!(with.token(&headers(&[])), Err(Refusal::Unauthorized(false)));
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            TOKEN,
            "Basic 0123456789abcdef0123456789abcdef",
            "Bearer 0123456789abcdef0123456789abcdeF",
            "Bearer\t0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(with.token(&headers(&[("authorization", bad)])), Err(Refusal::Unauthorized(true)), "{bad}");
        }
        let good = format!("Bearer {TOKEN}");
        assert!(with.token(&headers(&[("authorization", &good), ("authorization", &good)])).is_err());
    }
}
