use std::collections::HashMap;

use super::*;

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn context(&self, name: &str, meta: &str) -> String {
        let id = crate::engine::hex(&Sha256::digest(name.as_bytes()));
        self.write(&format!(".docker/contexts/meta/{id}/meta.json"), meta);
        id
    }

    fn choose(&self, setting: &str, env: &[(&str, &str)]) -> Result<Target> {
        let mut all: HashMap<String, String> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        all.entry("HOME".to_owned()).or_insert_with(|| self.path().to_str().unwrap().to_owned());
        let env = |name: &str| all.get(name).cloned();
        Surroundings { setting, env: &env, local_socket: &self.path().join("docker.sock") }.choose()
    }
}

#[test]
fn the_setting_goes_first_then_docker_host_then_the_context() {
    let home = Home::new();
    home.context("far", r#"{"Name":"far","Endpoints":{"docker":{"Host":"ssh://me@far"}}}"#);
    home.write(".docker/config.json", r#"{"auths":{},"currentContext":"far"}"#);
    let by_host = [("DOCKER_HOST", "tcp://h")];
    assert_eq!(home.choose("unix:///a.sock", &by_host).unwrap().transport, Transport::Unix("/a.sock".into()));
    assert_eq!(home.choose("", &by_host).unwrap().transport, Transport::Tcp("h:2375".to_owned()));
    assert_eq!(home.choose("", &[]).unwrap().transport, Transport::Ssh(Destination { host: "me@far".to_owned(), port: None }));
    let default = Transport::Unix(home.path().join("docker.sock"));
    assert_eq!(home.choose("", &[("DOCKER_CONTEXT", "default")]).unwrap().transport, default);
    assert_eq!(home.choose("", &[("DOCKER_HOST", ""), ("DOCKER_CONTEXT", "far")]).unwrap().host, "ssh://me@far");
}

#[test]
fn without_anything_the_local_socket_then_the_rootless_one() {
    let home = Home::new();
    home.write("run/docker.sock", "");
    let run = home.path().join("run");
    let env = [("XDG_RUNTIME_DIR", run.to_str().unwrap())];
    assert_eq!(home.choose("", &env).unwrap().transport, Transport::Unix(run.join("docker.sock")));
    home.write("docker.sock", "");
    assert_eq!(home.choose("", &env).unwrap().transport, Transport::Unix(home.path().join("docker.sock")));
}

#[test]
fn a_context_brings_its_certificates() {
    let home = Home::new();
    let id = home.context("prod", r#"{"Name":"prod","Endpoints":{"docker":{"Host":"tcp://prod.example:2376","SkipTLSVerify":false}}}"#);
    let without = home.choose("", &[("DOCKER_CONTEXT", "prod")]).unwrap();
    assert_eq!(without.transport, Transport::Tcp("prod.example:2376".to_owned()));
    home.write(&format!(".docker/contexts/tls/{id}/docker/ca.pem"), "x");
    let Transport::Tls(authority, files) = home.choose("", &[("DOCKER_CONTEXT", "prod")]).unwrap().transport else { panic!("not TLS") };
    assert_eq!(authority, "prod.example:2376");
    assert!(files.ca.ends_with(format!("{id}/docker/ca.pem")));
}

#[test]
fn a_context_that_cannot_be_used_is_an_error_never_another_engine() {
    let home = Home::new();
    home.context("lax", r#"{"Endpoints":{"docker":{"Host":"tcp://h:2376","SkipTLSVerify":true}}}"#);
    home.context("empty", r#"{"Endpoints":{}}"#);
    home.context("broken", "{");
    for name in ["lax", "empty", "broken", "absent", "../../x"] {
        let error = home.choose("", &[("DOCKER_CONTEXT", name)]).unwrap_err();
        assert_eq!(error.code, Code::InvalidConfig, "{name}");
        assert!(error.hint.is_some());
    }
    home.write(".docker/config.json", "not json");
    assert_eq!(home.choose("", &[]).unwrap_err().code, Code::InvalidConfig);
}

#[test]
fn tls_by_environment() {
    let home = Home::new();
    let env = [("DOCKER_HOST", "tcp://h"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/certs")];
    assert_eq!(home.choose("", &env).unwrap().transport, Transport::Tls("h:2376".to_owned(), TlsFiles::in_dir(Path::new("/certs"))));
    let Transport::Tls(_, files) = home.choose("https://h:1", &[("DOCKER_TLS_VERIFY", "1")]).unwrap().transport else { panic!("not TLS") };
    assert_eq!(files.ca, home.path().join(".docker/ca.pem"));
    assert_eq!(home.choose("https://h:1", &[]).unwrap_err().code, Code::InvalidConfig);
}

#[test]
fn malformed_hosts_are_refused() {
    let home = Home::new();
    let bad = [
        "h",
        "unix://relative",
        "tcp://",
        "tcp://u:p@h",
        "tcp://h/path",
        "tcp://h?x",
        "npipe:////./pipe/x",
        "ftp://h",
        "ssh://-oProxyCommand=x",
        "ssh://h x",
    ];
    for host in bad {
        assert_eq!(home.choose(host, &[]).unwrap_err().code, Code::InvalidConfig, "{host}");
    }
    assert_eq!(home.choose("tcp://[::1]", &[]).unwrap().transport, Transport::Tcp("[::1]:2375".to_owned()));
    assert_eq!(home.choose("tcp://[::1]:9", &[]).unwrap().transport, Transport::Tcp("[::1]:9".to_owned()));
}

#[test]
fn the_version_that_both_speak() {
    assert_eq!(agree("1.41").unwrap().to_string(), "1.41");
    assert_eq!(agree("1.47").unwrap().to_string(), "1.47");
    assert_eq!(agree("1.99").unwrap(), *API_DEFAULT_VERSION);
    assert_eq!(agree("1.40"), None);
    assert_eq!(agree(""), None);
    let answer = b"HTTP/1.1 200 OK\r\nServer: x\r\nAPI-version: 1.44\r\n\r\nOK";
    assert_eq!(api_version(answer).as_deref(), Some("1.44"));
    assert_eq!(api_version(b"HTTP/1.1 503 x\r\nApi-Version: 1.44\r\n\r\n"), None);
    assert_eq!(api_version(b"SSH-2.0-x\r\n"), None);
    assert_eq!(api_version(b""), None);
}

#[tokio::test]
async fn an_engine_that_is_not_there_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Target { host: "unix:///gone".to_owned(), transport: Transport::Unix(dir.path().join("gone")) };
    let error = missing.open().await.unwrap_err();
    assert_eq!(error.code, Code::EngineUnavailable);
    assert!(error.message.contains("no such socket"), "{}", error.message);

    let dead = dir.path().join("dead");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let refused = Target { host: "unix:///dead".to_owned(), transport: Transport::Unix(dead) };
    let error = refused.open().await.unwrap_err();
    assert!(error.message.contains("refused"), "{}", error.message);
    assert!(error.hint.as_deref().is_some_and(|h| h.contains("systemctl start docker")));

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let closed = Target { host: format!("tcp://127.0.0.1:{port}"), transport: Transport::Tcp(format!("127.0.0.1:{port}")) };
    let error = closed.open().await.unwrap_err();
    assert_eq!(error.code, Code::EngineUnavailable);
    assert!(error.message.contains("refused"), "{}", error.message);
}
