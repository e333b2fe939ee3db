//! The way to the provider: a request built from nothing but the checked body, a fixed address and fixed headers.

use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};

use super::secret::Secret;
use crate::error::{Code, Error, Result};

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

/// The clients for real providers, made on first use: one for TLS, one for plain HTTP on loopback, which needs no certificates.
#[derive(Default)]
pub struct Client {
    tls: OnceLock<reqwest::Client>,
    plain: OnceLock<reqwest::Client>,
}

impl Client {
    /// Sends a checked request body to `{base_url}/responses`.
    pub async fn send(
        &self,
        base_url: &str,
        credential: Option<&Secret>,
        additional_tools: bool,
        body: Bytes,
    ) -> std::result::Result<Answer, TransportError> {
        let client = self.client(base_url).map_err(|_| TransportError::Connect("the gateway has no usable TLS set-up"))?;
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
        let response = request.body(body).send().await.map_err(|e| describe(&e))?;
        let header = |name| response.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok());
        Ok(Answer {
            status: response.status().as_u16(),
            content_type: header(CONTENT_TYPE).unwrap_or_default().to_owned(),
            retry_after: header(RETRY_AFTER).and_then(|v| v.trim().parse().ok()),
            body: response.bytes_stream().map_err(|_| TransportError::Broken).boxed(),
        })
    }

    fn client(&self, base_url: &str) -> Result<&reqwest::Client> {
        let tls = base_url.starts_with("https://");
        let cell = if tls { &self.tls } else { &self.plain };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        // A second call finds it installed, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .http1_only()
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(8)
            .https_only(tls);
        if !tls {
            builder = builder.tls_certs_only(std::iter::empty());
        }
        let client = builder.build().map_err(|e| {
            Error::new(Code::GatewayUnavailable, "cannot set up the TLS client")
                .with_hint("the gateway's image needs the package ca-certificates")
                .with_source(e)
        })?;
        Ok(cell.get_or_init(|| client))
    }
}

/// Which of our sentences fits a transport error; the error's own text could name anything.
fn describe(error: &reqwest::Error) -> TransportError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = cause {
        if let Some(io) = e.downcast_ref::<std::io::Error>() {
            match io.kind() {
                std::io::ErrorKind::ConnectionRefused => return TransportError::Connect("the provider refuses connections"),
                std::io::ErrorKind::NetworkUnreachable | std::io::ErrorKind::HostUnreachable => {
                    return TransportError::Connect("there is no network route to the provider");
                }
                _ => {}
            }
        }
        cause = e.source();
    }
    if error.is_timeout() {
        TransportError::Connect("the provider does not answer")
    } else if error.is_connect() {
        TransportError::Connect("no connection to the provider can be made (name, network or certificate)")
    } else {
        TransportError::Broken
    }
}
