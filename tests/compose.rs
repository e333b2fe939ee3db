//! `compose.yaml` by Debian's compose tool on the real engine: the server with its gateway, a client, a whole delegation, and nothing left.
#![expect(clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use support::Environment;
use support::http::Remote;
use support::rehearsal::{Step, task};
use support::weakened::product_image;

const TOKEN: &str = "a-token-of-a-test-0123456789abcdef";
const PATIENCE: Duration = Duration::from_secs(240);

/// A project of this test's own, taken down when dropped.
struct Project<'a> {
    environment: &'a Environment,
    variables: Vec<(String, String)>,
    /// What a user adds of his own: a file over it.
    more: String,
}

impl Project<'_> {
    fn compose(&self, arguments: &[&str]) -> String {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/compose.yaml");
        let mut command = self.environment.command("docker-compose");
        command
            .args(["-p", self.environment.instance(), "-f", file, "-f", &self.more])
            .args(arguments)
            .envs(self.variables.iter().map(|(k, v)| (k, v)));
        let output = command.output().expect("docker-compose runs; on Debian: apt-get install docker-compose");
        format!(
            "{}{}{}",
            if output.status.success() { "" } else { "failed: " },
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    }

    fn containers(&self) -> Vec<String> {
        let filter = format!("label=com.docker.compose.project={}", self.environment.instance());
        self.environment.docker(&["ps", "-a", "--format", "{{.Names}}", "--filter", &filter])
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        self.compose(&["down", "-v", "--timeout", "10"]);
    }
}

/// `Name: value` of a container, by the engine's own words.
fn inspect(environment: &Environment, container: &str, template: &str) -> String {
    environment.docker(&["inspect", "-f", template, container]).join("\n")
}

#[test]
fn compose_runs_the_server_with_its_gateway() {
    if std::env::var_os("DOCKER_HOST").is_some() {
        eprintln!("not tried: compose.yaml is about the engine of this machine, and DOCKER_HOST names one");
        return;
    }
    let environment = Environment::new();
    let repositories = environment.path().join("repositories");
    std::fs::create_dir(&repositories).unwrap();
    let repository = environment.repository("repositories/one", &[("hello.txt", b"hello\n".as_slice())]);
    let outside = environment.repository("outside", &[("hello.txt", b"hello\n".as_slice())]);
    let before = repository.fingerprint();
    let token = environment.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    // A port that was free a moment ago; one that is taken fails the test and nothing else.
    let address: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let socket = std::fs::metadata("/var/run/docker.sock").unwrap();
    let me = std::fs::metadata(repository.path()).unwrap();
    let gateway = format!("anchorhold-{}", environment.instance());
    let variables = [
        ("ANCHORHOLD_IMAGE_NAME", product_image()),
        ("ANCHORHOLD_GATEWAY_NAME", gateway.clone()),
        ("ANCHORHOLD_ENGINE_INSTANCE", environment.instance().to_owned()),
        ("ANCHORHOLD_MODEL_UPSTREAM", "rehearsal".to_owned()),
        ("ANCHORHOLD_REPOSITORIES", repositories.display().to_string()),
        ("ANCHORHOLD_TOKEN_FILE", token.display().to_string()),
        ("ANCHORHOLD_API_KEY_FILE", "/dev/null".to_owned()),
        ("ANCHORHOLD_USER", format!("{}:{}", me.uid(), me.gid())),
        ("DOCKER_GID", socket.gid().to_string()),
        ("ANCHORHOLD_PUBLISH", address.to_string()),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
    // A busy machine is no dead provider.
    let more = environment.path().join("more.yaml");
    std::fs::write(&more, "services:\n  server:\n    environment:\n      ANCHORHOLD_MODEL_UNREACHABLE_SECONDS: \"300\"\n").unwrap();
    let project = Project { environment: &environment, variables, more: more.display().to_string() };
    let up = project.compose(&["up", "-d"]);
    assert!(!up.starts_with("failed"), "{up}");
    let server = format!("{}_server_1", environment.instance());
    let start = Instant::now();
    loop {
        let health = inspect(&environment, &server, "{{.State.Health.Status}}");
        if health == "healthy" {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{health}: {}", project.compose(&["logs"]));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(inspect(&environment, &gateway, "{{.State.Health.Status}}"), "healthy");
    for container in [&server, &gateway] {
        let walls = inspect(
            &environment,
            container,
            "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} {{.HostConfig.Privileged}}",
        );
        assert_eq!(walls, "true [ALL] [no-new-privileges:true] false", "{container}");
    }
    let sockets = inspect(&environment, &gateway, "{{json .Mounts}}");
    assert!(!sockets.contains("docker.sock"), "the gateway holds no engine socket: {sockets}");
    let given = inspect(&environment, &server, "{{json .Config}}");
    assert!(!given.contains(TOKEN), "the token is a file");

    let remote = Remote { address, token: Some(TOKEN.to_owned()) };
    let list = support::http::read(remote.send("tools/list", json!({}))).json();
    assert!(list["result"]["tools"].as_array().is_some_and(|tools| tools.len() >= 8), "{list:#}");
    let stranger = Remote { address, token: None };
    assert_eq!(support::http::read(stranger.send("tools/list", json!({}))).status, 401);
    assert_eq!(remote.request("GET /metrics", &[("Host", "evil.example")], b"").status, 403);

    let steps = task(&[Step::Shell("echo composed > composed.txt"), Step::Say("wrote it")]);
    let result = remote.tool("codex_delegate", json!({"task": steps, "workspace_root": repository.text(), "timeout_seconds": 300}));
    assert_eq!(result["ok"], true, "{result:#}\n{}", project.compose(&["logs"]));
    assert!(result["diff"].as_str().unwrap().contains("+composed"), "{result:#}");
    assert_eq!(repository.fingerprint(), before);
    for elsewhere in [outside.path(), Path::new("/etc"), Path::new("/run/secrets")] {
        let refused = remote.tool("codex_delegate_async", json!({"task": "x", "workspace_root": elsewhere}));
        let code = refused["error"]["code"].as_str().unwrap_or("none");
        assert!(["workspace_outside_roots", "invalid_workspace_root"].contains(&code), "{}: {refused:#}", elsewhere.display());
    }
    let consumed = remote.tool("codex_job_consume_result", json!({"job_id": result["meta"]["job_id"]}));
    assert_eq!(consumed["ok"], true, "{consumed:#}");
    environment.nothing_is_left();

    let down = project.compose(&["down", "-v"]);
    assert!(!down.starts_with("failed"), "{down}");
    assert_eq!(project.containers(), Vec::<String>::new());
    assert_eq!(environment.leftovers(), Vec::<String>::new());
    let volumes = environment.docker(&["volume", "ls", "-q", "--filter", &format!("label=anchorhold.gateway={gateway}")]);
    assert_eq!(volumes, Vec::<String>::new());
}
