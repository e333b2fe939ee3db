//! The way to the provider: a request built from nothing but the checked body, a fixed address and fixed headers.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};

use super::departure::Outgoing;
use super::failure::now_unix;
use super::secret::Secret;
use crate::error::{Code, Error, Result};
use crate::weaken;

/// The transport failed; the text is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportError {
    /// No connection could be made.
    Connect(&'static str),
    /// The connection broke.
    Broken,
}

/// The body of an answer.
pub type Body = Pin<Box<dyn Stream<Item = std::result::Result<Bytes, TransportError>> + Send>>;

/// An answer: the parts of it that the relay looks at, whether it came from a provider or from the rehearsal model.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: String,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u64>,
    /// The body.
    pub body: Body,
}

/// Where a request goes.
#[derive(Debug, Clone, Copy)]
pub struct Address<'a> {
    /// Checked before: https, or plain http on loopback.
    pub base_url: &'a str,
    /// The only authorities to trust, as PEM; `None`: those that the image knows.
    pub authorities: Option<&'a str>,
}

/// Clients with authorities of their own that are kept; they are few, and cost only a new connection.
const MAX_PRIVATE: usize = 16;

/// The clients for real providers, made on first use: one for TLS, one for each set of private authorities, and one for plain HTTP on loopback, which
/// needs no certificates.
#[derive(Default)]
pub struct Client {
    tls: OnceLock<reqwest::Client>,
    plain: OnceLock<reqwest::Client>,
    private: Mutex<HashMap<String, reqwest::Client>>,
}

impl Client {
    /// Sends a checked request body to `{base_url}/responses`.
    pub async fn send(
        &self,
        to: Address<'_>,
        credential: Option<&Secret>,
        additional_tools: bool,
        body: Outgoing,
    ) -> std::result::Result<Answer, TransportError> {
        let client = self.client(to).map_err(|_| TransportError::Connect("the gateway has no usable TLS set-up"))?;
        let base_url = to.base_url;
        let mut request = client
            .post(format!("{base_url}/responses"))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "text/event-stream")
            .header(ACCEPT_ENCODING, "identity")
            .header(USER_AGENT, concat!("anchorhold/", env!("CARGO_PKG_VERSION")));
        if additional_tools {
            // Codex 0.169 says so whenever it declares its tools as an input item; here it follows from the checked body.
            request = request.header("x-openai-internal-codex-responses-lite", "true");
        }
        if let Some(secret) = credential {
            let mut value = zeroize::Zeroizing::new(String::with_capacity(secret.expose().len() + 7));
            value.push_str("Bearer ");
            value.push_str(secret.expose());
            let mut header = HeaderValue::from_str(&value).map_err(|_| TransportError::Connect("the credential cannot stand in a header"))?;
            header.set_sensitive(true);
            request = request.header(AUTHORIZATION, header);
        }
        let response = request.body(reqwest::Body::wrap(body)).send().await.map_err(|e| describe(&e))?;
        let header = |name| response.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok());
        Ok(Answer {
            status: response.status().as_u16(),
            content_type: header(CONTENT_TYPE).unwrap_or_default().to_owned(),
            retry_after: header(RETRY_AFTER).and_then(|v| retry_after(v, now_unix())),
            body: response.bytes_stream().map_err(|_| TransportError::Broken).boxed(),
        })
    }

    /// Whether a client can be made with these authorities.
    pub fn check_authorities(&self, pem: &str) -> Result<()> {
        self.private(pem).map(|_| ())
    }

    fn client(&self, to: Address<'_>) -> Result<reqwest::Client> {
        let tls = to.base_url.starts_with("https://");
        if let (true, Some(pem)) = (tls, to.authorities) {
            return self.private(pem);
        }
        let cell = if tls { &self.tls } else { &self.plain };
        if let Some(client) = cell.get() {
            return Ok(client.clone());
        }
        let builder = builder().https_only(tls);
        let client = if tls {
            build(builder)?
        } else {
            // The settings let `localhost` pass as loopback, so no resolver may say otherwise.
            let loopback = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
            build(builder.tls_certs_only(std::iter::empty()).resolve_to_addrs("localhost", &loopback))?
        };
        Ok(cell.get_or_init(|| client).clone())
    }

    fn private(&self, pem: &str) -> Result<reqwest::Client> {
        let mut kept = self.private.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = kept.get(pem) {
            return Ok(client.clone());
        }
        let unusable = || Error::new(Code::InvalidConfig, "the authorities hold no certificate that can be used");
        let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(|e| unusable().with_source(e))?;
        // None would mean that nobody is trusted, which is not what a file with a mistake in it was meant to say.
        if certificates.is_empty() {
            return Err(unusable());
        }
        let client = build(builder().https_only(true).tls_certs_only(certificates))?;
        if kept.len() >= MAX_PRIVATE {
            kept.clear();
        }
        kept.insert(pem.to_owned(), client.clone());
        Ok(client)
    }
}

fn builder() -> reqwest::ClientBuilder {
    // A second call finds it installed, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder();
    // A second wall: the environment that could name one is cleared, too.
    let builder = if weaken::off("gateway.proxy") { builder } else { builder.no_proxy() };
    let redirects = if weaken::off("gateway.redirects") { reqwest::redirect::Policy::limited(3) } else { reqwest::redirect::Policy::none() };
    builder
        .redirect(redirects)
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .connect_timeout(Duration::from_secs(10))
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(8)
}

fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client> {
    builder.build().map_err(|e| {
        Error::new(Code::GatewayUnavailable, "cannot set up the TLS client")
            .with_hint("the gateway's image needs the package ca-certificates")
            .with_source(e)
    })
}

/// Seconds to wait: `Retry-After` holds a number of them, or a date.
fn retry_after(value: &str, now: i64) -> Option<u64> {
    let value = value.trim();
    value.parse().ok().or_else(|| {
        let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp().as_second();
        u64::try_from(at.saturating_sub(now)).ok().or(Some(0))
    })
}

/// Which of our sentences fits a transport error; the error's own text could name anything.
fn describe(error: &reqwest::Error) -> TransportError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = cause {
        if let Some(tls) = e.downcast_ref::<rustls::Error>() {
            return TransportError::Connect(describe_tls(tls));
        }
        let Some(io) = e.downcast_ref::<std::io::Error>() else {
            cause = e.source();
            continue;
        };
        match io.kind() {
            std::io::ErrorKind::ConnectionRefused => return TransportError::Connect("the provider refuses connections"),
            std::io::ErrorKind::NetworkUnreachable | std::io::ErrorKind::HostUnreachable => {
                return TransportError::Connect("there is no network route to the provider");
            }
            _ => {}
        }
        // What an I/O error wraps is not its source: that is the source of what it wraps. The TLS error lies two such errors deep.
        cause = match io.get_ref() {
            Some(inner) => Some(inner),
            None => e.source(),
        };
    }
    if error.is_timeout() {
        TransportError::Connect("the provider does not answer")
    } else if error.is_connect() {
        TransportError::Connect("no connection to the provider can be made (name or network)")
    } else {
        TransportError::Broken
    }
}

fn describe_tls(error: &rustls::Error) -> &'static str {
    use rustls::CertificateError as C;
    match error {
        rustls::Error::InvalidCertificate(C::UnknownIssuer) => {
            "the provider's certificate is not signed by an authority that the gateway trusts (`[model] ca_file` names others)"
        }
        rustls::Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => "the provider's certificate has expired",
        rustls::Error::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => "the provider's certificate is not valid yet",
        rustls::Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => "the provider's certificate is for another name",
        rustls::Error::InvalidCertificate(_) => "the provider's certificate is not valid",
        _ => "no TLS connection to the provider can be made",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_times_are_numbers_or_dates() {
        let at = 784_111_777;
        for (text, seconds) in [
            (" 20 ", Some(20)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:40:37 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, at), seconds, "{text}");
        }
    }

    #[test]
    fn authorities_that_are_none_are_refused() {
        let client = Client::default();
        for bad in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(client.check_authorities(bad).is_err(), "{bad}");
        }
    }
}
