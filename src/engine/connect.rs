//! Which engine: the setting, `DOCKER_HOST`, the docker CLI's current context, or the local socket; and the first question to it.
//!
//! Follows the docker CLI (`docker context --help`, `docker --help`), so that what works in a shell works here: `DOCKER_HOST` goes before
//! `DOCKER_CONTEXT`, which goes before `currentContext` in `config.json`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion, Docker};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::failure;
use super::ssh::{Destination, SshTransport};
use crate::error::{Code, Error, Result};

/// The oldest API we speak: Docker Engine 20.10.
const OLDEST: ClientVersion = ClientVersion { major_version: 1, minor_version: 41 };
/// The first answer must come in this time.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// bollard's own limit counts from the request to the head of the answer, which cuts long uploads and builds. Calls that answer at
/// once have a limit of ours instead, in `client`.
const NO_LIMIT_SECONDS: u64 = 10 * 365 * 86_400;
/// Where the engine listens by default.
const LOCAL_SOCKET: &str = "/var/run/docker.sock";
/// A configuration file that is longer is refused.
const CONFIG_MAX: u64 = 1 << 20;

/// How to reach an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Transport {
    /// A local socket.
    Unix(PathBuf),
    /// Plain HTTP, `host:port`.
    Tcp(String),
    /// TLS, `host:port` and the material.
    Tls(String, TlsFiles),
    /// By the local `ssh`.
    Ssh(Destination),
}

/// PEM files; the client's own may be missing where the engine asks for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TlsFiles {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl TlsFiles {
    fn in_dir(dir: &Path) -> Self {
        Self { ca: dir.join("ca.pem"), cert: dir.join("cert.pem"), key: dir.join("key.pem") }
    }
}

/// An engine chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// As the user wrote it.
    pub(super) host: String,
    /// How to reach it.
    pub(super) transport: Transport,
}

/// What steers the choice; the seam for tests.
pub(super) struct Surroundings<'a> {
    /// `engine.host`; may be empty.
    pub(super) setting: &'a str,
    /// Looks up an environment variable; an empty one counts as unset.
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    /// The local socket that is looked for.
    pub(super) local_socket: &'a Path,
}

/// Chooses by the environment of this process.
pub(super) fn choose(setting: &str) -> Result<Target> {
    let env = |name: &str| std::env::var(name).ok();
    Surroundings { setting, env: &env, local_socket: Path::new(LOCAL_SOCKET) }.choose()
}

impl Surroundings<'_> {
    fn var(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|v| !v.is_empty())
    }

    /// Chooses.
    pub(super) fn choose(&self) -> Result<Target> {
        if !self.setting.is_empty() {
            return parse_host(self.setting, "engine.host", self.tls_by_env());
        }
        if let Some(host) = self.var("DOCKER_HOST") {
            return parse_host(&host, "DOCKER_HOST", self.tls_by_env());
        }
        if let Some(target) = self.context()? {
            return Ok(target);
        }
        let local = self.local_socket.to_owned();
        // A rootless engine leaves the system's socket absent.
        let rootless = self.var("XDG_RUNTIME_DIR").map(|dir| Path::new(&dir).join("docker.sock")).filter(|p| !local.exists() && p.exists());
        let path = rootless.unwrap_or(local);
        Ok(Target { host: format!("unix://{}", path.display()), transport: Transport::Unix(path) })
    }

    fn config_dir(&self) -> Option<PathBuf> {
        self.var("DOCKER_CONFIG").map(PathBuf::from).or_else(|| self.var("HOME").map(|home| Path::new(&home).join(".docker")))
    }

    fn tls_by_env(&self) -> Option<TlsFiles> {
        self.var("DOCKER_TLS_VERIFY").or_else(|| self.var("DOCKER_TLS"))?;
        let dir = self.var("DOCKER_CERT_PATH").map(PathBuf::from).or_else(|| self.config_dir())?;
        Some(TlsFiles::in_dir(&dir))
    }

    /// The docker CLI's current context; `None`: the default one.
    fn context(&self) -> Result<Option<Target>> {
        let Some(dir) = self.config_dir() else { return Ok(None) };
        let name = match self.var("DOCKER_CONTEXT") {
            Some(name) => Some(name),
            None => match read_bounded(&dir.join("config.json"))? {
                Some(text) => {
                    let config: CliConfig = serde_json::from_str(&text).map_err(|e| {
                        Error::new(Code::InvalidConfig, format!("read the docker CLI's settings: {} is malformed", dir.join("config.json").display()))
                            .with_hint("mend that file, or name an engine with DOCKER_HOST or engine.host")
                            .with_source(e)
                    })?;
                    config.current_context
                }
                None => None,
            },
        };
        match name.filter(|n| !n.is_empty() && n != "default") {
            Some(name) => read_context(&dir.join("contexts"), &name).map(Some),
            None => Ok(None),
        }
    }
}

#[derive(Deserialize)]
struct CliConfig {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
struct ContextMeta {
    #[serde(rename = "Endpoints", default)]
    endpoints: std::collections::BTreeMap<String, ContextEndpoint>,
}

#[derive(Deserialize)]
struct ContextEndpoint {
    #[serde(rename = "Host", default)]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

/// The layout of the docker CLI's store: `meta/<sha256 of the name>/meta.json`, `tls/<the same>/docker/*.pem`.
fn read_context(store: &Path, name: &str) -> Result<Target> {
    let shown = crate::display::bounded(name.as_bytes(), 80);
    let fail = |why: &str| {
        Error::new(Code::InvalidConfig, format!("use the docker context {shown:?}: {why}"))
            .with_hint("see `docker context ls`; choose another with `docker context use`, DOCKER_CONTEXT or DOCKER_HOST")
    };
    let id = crate::engine::hex(&Sha256::digest(name.as_bytes()));
    let text = read_bounded(&store.join("meta").join(&id).join("meta.json"))?.ok_or_else(|| fail("there is no such context"))?;
    let meta: ContextMeta = serde_json::from_str(&text).map_err(|e| fail("its meta.json is malformed").with_source(e))?;
    let endpoint = meta.endpoints.get("docker").filter(|e| !e.host.is_empty()).ok_or_else(|| fail("it names no docker endpoint"))?;
    let tls_dir = store.join("tls").join(&id).join("docker");
    let tls = tls_dir.is_dir().then(|| TlsFiles::in_dir(&tls_dir));
    if endpoint.skip_tls_verify {
        return Err(fail("it turns off the check of the engine's certificate, which is not supported"));
    }
    parse_host(&endpoint.host, &format!("the docker context {shown:?}"), tls)
}

fn read_bounded(path: &Path) -> Result<Option<String>> {
    use std::io::Read as _;
    let fail = |e: std::io::Error| Error::new(Code::InvalidConfig, format!("read {}", path.display())).with_source(e);
    match std::fs::File::open(path) {
        Ok(file) => {
            let mut text = String::new();
            file.take(CONFIG_MAX).read_to_string(&mut text).map_err(fail)?;
            Ok(Some(text))
        }
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(fail(e)),
    }
}

/// Reads a host as the docker CLI writes it.
fn parse_host(text: &str, place: &str, tls: Option<TlsFiles>) -> Result<Target> {
    let fail = |why: &str| {
        Error::new(Code::InvalidConfig, format!("invalid engine in {place}: {why}"))
            .with_detail("field", place)
            .with_hint("use unix:///var/run/docker.sock, tcp://host:2376 (with DOCKER_TLS_VERIFY=1), or ssh://user@host")
    };
    let text = text.trim();
    let (scheme, rest) = text.split_once("://").ok_or_else(|| fail("a scheme such as unix:// is missing"))?;
    let rest = rest.trim_end_matches('/');
    let plain = |what: &str| !what.is_empty() && what.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:[]%@".contains(&b));
    let transport = match scheme {
        "unix" if rest.starts_with('/') => Transport::Unix(PathBuf::from(rest)),
        "unix" => return Err(fail("a unix socket is an absolute path")),
        "tcp" | "http" | "https" => {
            if !plain(rest) || rest.contains('@') {
                return Err(fail("only host and port may stand in it"));
            }
            let secure = scheme == "https" || tls.is_some() && scheme == "tcp";
            let with_port = |default: &str| if has_port(rest) { rest.to_owned() } else { format!("{rest}:{default}") };
            if secure {
                let files = tls.ok_or_else(|| fail("https needs certificates: set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH"))?;
                Transport::Tls(with_port("2376"), files)
            } else {
                Transport::Tcp(with_port("2375"))
            }
        }
        "ssh" => Transport::Ssh(Destination::parse(rest).ok_or_else(|| fail("only user, host and port may stand in an ssh host"))?),
        "npipe" | "fd" => return Err(fail("this kind of socket is not supported here")),
        _ => return Err(fail("the scheme is none of unix, tcp, http, https, ssh")),
    };
    Ok(Target { host: format!("{scheme}://{rest}"), transport })
}

fn has_port(authority: &str) -> bool {
    let after_bracket = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
    after_bracket.contains(':')
}

impl Target {
    /// A client, and the API version that both sides speak. One short question to the engine.
    pub(super) async fn open(&self) -> Result<(Docker, String)> {
        const WHAT: &str = "connect";
        let translate = |e| failure::translate(WHAT, &self.host, e);
        let docker = match &self.transport {
            Transport::Unix(path) => {
                let theirs = self.ping(path).await?;
                let path = path.to_str().ok_or_else(|| Error::new(Code::InvalidConfig, "connect: the socket's path is not UTF-8"))?;
                let docker = Docker::connect_with_unix(path, NO_LIMIT_SECONDS, API_DEFAULT_VERSION).map_err(translate)?;
                return versioned(docker, &self.host, &theirs);
            }
            Transport::Tcp(authority) => Docker::connect_with_http(&format!("tcp://{authority}"), NO_LIMIT_SECONDS, API_DEFAULT_VERSION),
            Transport::Tls(authority, files) => {
                // Two crates may both bring a provider; the first to install one wins, and ring is ours.
                let _ = rustls::crypto::ring::default_provider().install_default();
                Docker::connect_with_ssl(&format!("tcp://{authority}"), &files.key, &files.cert, &files.ca, NO_LIMIT_SECONDS, API_DEFAULT_VERSION)
            }
            Transport::Ssh(destination) => {
                let ssh = SshTransport::new(destination.clone());
                Docker::connect_with_custom_transport(move |r| ssh.clone().request(r), Some("ssh://engine"), NO_LIMIT_SECONDS, API_DEFAULT_VERSION)
            }
        }
        .map_err(translate)?;
        // The ping's headers are not to be had from bollard, so other transports ask for the version itself.
        let answer = tokio::time::timeout(FIRST_ANSWER, docker.version()).await.map_err(|_| failure::silent(WHAT, &self.host))?;
        let theirs = answer.map_err(translate)?.api_version.unwrap_or_default();
        versioned(docker, &self.host, &theirs)
    }

    /// `GET /_ping` by hand: half a millisecond, where `/version` costs ten, and the system's own error where nobody listens.
    async fn ping(&self, path: &Path) -> Result<String> {
        const WHAT: &str = "connect";
        let exchange = async {
            let mut stream = tokio::net::UnixStream::connect(path).await?;
            stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n").await?;
            let mut answer = Vec::new();
            stream.take(16 << 10).read_to_end(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = tokio::time::timeout(FIRST_ANSWER, exchange).await.map_err(|_| failure::silent(WHAT, &self.host))?;
        let answer = answer.map_err(|e| failure::io_failure(WHAT, &self.host, &e))?;
        api_version(&answer).ok_or_else(|| {
            Error::new(Code::EngineUnavailable, format!("{WHAT}: what listens at {} is not a container engine", self.host))
                .with_detail("host", self.host.as_str())
                .with_hint("point DOCKER_HOST or engine.host at a Docker Engine")
        })
    }
}

/// The `Api-Version` header of a successful answer.
fn api_version(answer: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(answer);
    let head = text.split("\r\n\r\n").next()?;
    let mut lines = head.split("\r\n");
    lines.next()?.split(' ').nth(1).filter(|status| *status == "200")?;
    lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("api-version")).map(|(_, v)| v.trim().to_owned())
}

/// Pins the API version that both sides speak. bollard 0.21 sends no version whatever it negotiates, so an engine would answer in its
/// newest dialect: the prefix is put before each path here.
fn versioned(docker: Docker, host: &str, theirs: &str) -> Result<(Docker, String)> {
    let chosen = agree(theirs).ok_or_else(|| {
        let shown = crate::display::bounded(theirs.as_bytes(), 20);
        Error::new(Code::EngineUnavailable, format!("connect: the engine at {host} speaks API {shown:?}, which is older than {OLDEST}"))
            .with_detail("host", host)
            .with_hint("use Docker Engine 20.10 (API 1.41) or newer")
    })?;
    let prefix = format!("/v{chosen}");
    let docker = docker.with_request_modifier(move |request| with_prefix(request, &prefix));
    Ok((docker, chosen.to_string()))
}

fn agree(theirs: &str) -> Option<ClientVersion> {
    let (major, minor) = theirs.split_once('.')?;
    let theirs = ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? };
    let ours = *API_DEFAULT_VERSION;
    (theirs >= OLDEST).then_some(if theirs < ours { theirs } else { ours })
}

fn with_prefix(request: BollardRequest, prefix: &str) -> BollardRequest {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |p| p.as_str());
    let mut parts = head.uri.clone().into_parts();
    if let Ok(path) = format!("{prefix}{path}").parse() {
        parts.path_and_query = Some(path);
        if let Ok(uri) = hyper::Uri::from_parts(parts) {
            head.uri = uri;
        }
    }
    BollardRequest::from_parts(head, body)
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
