//! An engine of the test's own: it may be stopped, killed, filled and thrown away.
//!
//! Everything of it lives in namespaces of its own (mounts, network, processes), so that the machine's engine keeps its bridge, its rules and its
//! mounts. The first process there ends when this process ends or closes its standard input; with it the kernel ends every daemon, shim and cell
//! of that engine and takes its mounts away, however the test ended. The image comes from a seed that is loaded once and shared read-only.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anchorhold::process;

/// Long enough for a slow, shared machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// How an engine is started.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Cells live on while the daemon is away.
    pub live_restore: bool,
    /// Bytes of its data root, the image not counted; it lies in memory.
    pub bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { live_restore: false, bytes: 4 << 30 }
    }
}

/// A running engine; ended when dropped.
pub struct OwnEngine {
    directory: tempfile::TempDir,
    holder: Child,
    /// The first process of the namespaces, by the host's number.
    first: i32,
    daemon: Mutex<Option<Child>>,
    live_restore: bool,
    cgroup: String,
    seed: Option<PathBuf>,
}

impl OwnEngine {
    /// One that holds an image of the machine's engine.
    pub fn start(image: &str, options: Options) -> Self {
        let seed = seed(image);
        let mut engine = Self::hold(options.live_restore, &format!("mount -t tmpfs -o size={} data \"$DATA\"", options.bytes));
        engine.inside(r#"mkdir -p "$DATA/overlay2"; cp -a "$SEED/image" "$DATA/"; cp -a "$SEED/overlay2/l" "$DATA/overlay2/""#, &[("SEED", &seed)]);
        engine.seed = Some(seed);
        engine.up();
        engine
    }

    /// Shows the seed's layers where the daemon looks for them; a daemon that stops takes every mount below its data root away.
    fn show_layers(&self) {
        let Some(seed) = &self.seed else { return };
        self.inside(
            r#"cd "$SEED/overlay2"; for layer in *; do
              place="$DATA/overlay2/$layer"
              if [ "$layer" != l ] && ! [ -e "$place/link" ]; then mkdir -p "$place"; mount --bind "$SEED/overlay2/$layer" "$place"; fi
            done"#,
            &[("SEED", seed)],
        );
    }

    /// Namespaces with the directories of an engine, and no daemon yet.
    fn hold(live_restore: bool, data: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("own-engine-").tempdir().expect("a temporary directory");
        for name in ["data", "exec"] {
            std::fs::create_dir(directory.path().join(name)).expect("a directory");
        }
        let cgroup = format!("anchorhold-own-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        // The shell also reaps what its daemons leave; it ends with its standard input.
        let script =
            format!("set -e; mkdir -p /run/containerd; mount -t tmpfs run /run/containerd; ip link set lo up; {data}; echo ready; read -r x || true");
        let mut command = process::command("unshare", Path::new("/"));
        command.args(["--mount", "--net", "--pid", "--fork", "--mount-proc", "--propagation", "private", "bash", "-c", &script]);
        command.env("DATA", directory.path().join("data")).stdin(Stdio::piped()).stderr(Stdio::inherit());
        let mut holder = command.spawn().expect("the tests need unshare and to be root");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        assert_eq!(line.trim(), "ready", "the namespaces of an own engine");
        let first = children_of(i32::try_from(holder.id()).expect("a process id")).first().copied().expect("unshare forks");
        Self { directory, holder, first, daemon: Mutex::new(None), live_restore, cgroup, seed: None }
    }

    /// A command in the engine's namespaces.
    fn enter(&self, program: &str) -> Command {
        let mut command = process::command("nsenter", Path::new("/"));
        command.args(["--target", &self.first.to_string(), "--mount", "--net", "--pid", "--", program]);
        command.env("DATA", self.data());
        command
    }

    /// Runs a shell script there.
    pub fn inside(&self, script: &str, variables: &[(&str, &Path)]) -> String {
        let mut command = self.enter("bash");
        command.args(["-euc", script]);
        for (name, value) in variables {
            command.env(name, value);
        }
        let out = command.output().expect("nsenter");
        assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("engine.sock")
    }

    /// For `DOCKER_HOST` and `ANCHORHOLD_ENGINE_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The docker client's standard output; a failure is printed and gives what it wrote.
    pub fn docker(&self, args: &[&str]) -> String {
        super::docker_at(Some(&self.host()), args)
    }

    /// Starts the daemon and waits until it answers.
    pub fn up(&self) {
        self.show_layers();
        let path = |name: &str| self.directory.path().join(name);
        // A daemon that was killed leaves its number behind, and in this namespace another process may have it by now.
        let _ = std::fs::remove_file(path("pid"));
        let log = File::options().create(true).append(true).open(path("log")).expect("a log");
        let mut command = self.enter("dockerd");
        command.arg("--data-root").arg(self.data()).arg("--exec-root").arg(path("exec")).arg("--pidfile").arg(path("pid"));
        command.args(["--host", &self.host(), "--bridge=none", "--iptables=false", "--storage-driver=overlay2", "--shutdown-timeout=8"]);
        command.args(["--cgroup-parent", &format!("/{}", self.cgroup), &format!("--live-restore={}", self.live_restore)]);
        let child = command.stdout(log.try_clone().expect("a log")).stderr(log).spawn().expect("dockerd");
        *self.daemon.lock().expect("no poison") = Some(child);
        let begun = Instant::now();
        while !self.answers() {
            assert!(begun.elapsed() < PATIENCE, "the own engine does not come up:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn answers(&self) -> bool {
        use std::io::Read as _;
        let Ok(mut stream) = std::os::unix::net::UnixStream::connect(self.socket()) else { return false };
        let mut answer = [0; 12];
        stream.set_read_timeout(Some(Duration::from_secs(2))).is_ok()
            && stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: engine\r\n\r\n").is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && answer.ends_with(b"200")
    }

    /// The end of the daemon's log.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Ends the daemon in its own way, and waits for its end.
    pub fn stop(&self) {
        self.end("TERM");
    }

    /// kill -9 of the daemon; its containerd dies with it.
    pub fn kill(&self) {
        self.end("KILL");
    }

    fn end(&self, signal: &str) {
        assert!(self.signal("dockerd", signal) > 0, "no daemon runs");
        let mut child = self.daemon.lock().expect("no poison").take().expect("a daemon");
        child.wait().expect("it ends");
        assert!(!self.answers(), "it still answers");
    }

    /// kill -9 of its containerd, which the daemon starts again.
    pub fn kill_containerd(&self) {
        assert_eq!(self.signal("containerd", "KILL"), 1, "one containerd");
    }

    /// Sends a signal to each process there with this name; how many there were.
    fn signal(&self, name: &str, signal: &str) -> usize {
        let pids = self.processes(name);
        for pid in &pids {
            let mut command = process::command("kill", Path::new("/"));
            command.args([format!("-{signal}"), pid.to_string()]);
            assert!(command.status().expect("kill").success());
        }
        pids.len()
    }

    /// The first process of the engine's namespace, as the host numbers it: everything of the engine and of its containers lies below it.
    pub fn first(&self) -> u32 {
        u32::try_from(self.first).expect("a process id")
    }

    /// Processes of the engine's namespace by their name, as the host numbers them.
    pub fn processes(&self, name: &str) -> Vec<i32> {
        let here = std::fs::read_link(format!("/proc/{}/ns/pid", self.first)).expect("a namespace");
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|text| text.parse::<i32>().ok()) else { continue };
            let named = std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == name);
            if named && std::fs::read_link(entry.path().join("ns/pid")).is_ok_and(|namespace| namespace == here) {
                found.push(pid);
            }
        }
        found
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the own engine's log:\n{}", self.log());
        }
        // The end of the first process is the end of all; unshare waits for it.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
        if let Some(mut daemon) = self.daemon.lock().ok().and_then(|mut daemon| daemon.take()) {
            let _ = daemon.wait();
        }
        let mut command = process::command("find", Path::new("/"));
        let pattern = format!("*/{}*", self.cgroup);
        command.args(["/sys/fs/cgroup", "-depth", "-type", "d", "-path", &pattern, "-exec", "rmdir", "{}", ";"]);
        let _ = command.output();
    }
}

fn children_of(parent: i32) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|text| text.parse().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // After the name, which may hold anything: state, parent.
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        if fields.split_whitespace().nth(1).and_then(|text| text.parse().ok()) == Some(parent) {
            found.push(pid);
        }
    }
    found
}

/// A data root that holds the image and nothing else; made once for each image, by whichever test comes first.
fn seed(image: &str) -> PathBuf {
    let id = super::docker(&["image", "inspect", "-f", "{{.Id}}", image]);
    let id = id.trim().trim_start_matches("sha256:");
    assert!(id.len() == 64, "the machine's engine has no image {image}");
    let top = Path::new(env!("CARGO_TARGET_TMPDIR")).join("own-engine");
    std::fs::create_dir_all(&top).expect("a directory");
    let (place, partial) = (top.join(&id[..16]), top.join(format!("{}.partial", &id[..16])));
    let lock = File::create(top.join("lock")).expect("a lock");
    lock.lock().expect("the lock");
    if place.is_dir() {
        return place;
    }
    // Each is as large as its image: the last few are enough, and none that a run beside this one may use goes.
    let mut old: Vec<_> = std::fs::read_dir(&top).expect("seeds").flatten().filter(|entry| entry.path().is_dir()).collect();
    old.sort_by_key(|entry| std::cmp::Reverse(entry.metadata().and_then(|meta| meta.modified()).ok()));
    for entry in old.iter().skip(3) {
        let _ = std::fs::remove_dir_all(entry.path());
    }
    let _ = std::fs::remove_dir_all(&partial);
    std::fs::create_dir(&partial).expect("a directory");
    let mount = format!("mount --bind '{}' \"$DATA\"", partial.display());
    let engine = OwnEngine::hold(false, &mount);
    engine.up();
    let mut save = process::command("docker", Path::new("/"));
    if let Ok(host) = std::env::var("DOCKER_HOST") {
        save.env("DOCKER_HOST", host);
    }
    let mut save = save.args(["save", image]).spawn().expect("docker save");
    let mut load = process::command("docker", Path::new("/"));
    let loaded = load.env("DOCKER_HOST", engine.host()).arg("load").stdin(save.stdout.take().expect("piped")).output().expect("docker load");
    assert!(save.wait().expect("it ends").success() && loaded.status.success(), "load {image}: {}", String::from_utf8_lossy(&loaded.stderr));
    engine.stop();
    drop(engine);
    std::fs::rename(&partial, &place).expect("the seed's name");
    place
}
