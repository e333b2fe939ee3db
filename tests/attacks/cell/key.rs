//! The key is in the gateway's memory and in its one file, and nowhere else that the host can look: processes, volumes, layers, logs, definitions, the
//! engine's own records.
//!
//! Needs an engine of this machine and the right to read what is root's, which is how the suite runs.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anchorhold::process;

use crate::arena::Arena;
use crate::case::{Case, Group, Promise, Verdict, Verdicts, Weakening};
use crate::support::TestEnv;
use crate::support::provider::{Provider, Reply};

const ID: &str = "G12-key-elsewhere";
/// A fixed one, so that a control can hand it to a job.
const KEY: &str = "sk-canary-0f1e2d3c4b5a69788796a5b4c3d2e1f0";
/// In the task and in Codex's memory, to show that the search finds what is there.
const MARKER: &str = "marker-51e2-7f3a-9c08";

pub const KEYS: Group = Group {
    name: "key",
    cases: &[Case {
        id: ID,
        promise: Promise::Key,
        tries: "finding the key in processes, volumes, layers, logs, definitions and the engine's records",
    }],
    run,
    controls: &[Weakening::job("the key in Config.Env", r#"{"Env":{"9":"ELSEWHERE=sk-canary-0f1e2d3c4b5a69788796a5b4c3d2e1f0"}}"#, &[ID])],
    mutations: &[],
    no_control: &[],
};

fn run(arena: &Arena, _wanted: &[&str]) -> Verdicts {
    let provider = Provider::start(vec![Reply::shell(&format!("echo {MARKER} > f; sleep 1000 & true")), Reply::Stall]);
    let url = provider.url("/v1");
    let mut variables: Vec<(&str, &str)> = arena.variables().iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    variables.extend([
        ("OPENAI_API_KEY", KEY),
        ("ANCHORHOLD_MODEL_UPSTREAM", &url),
        ("ANCHORHOLD_GATEWAY_NETWORK", "host"),
        ("ANCHORHOLD_MODEL_DEFAULT_MODEL", "scripted"),
        ("ANCHORHOLD_LOG", "trace"),
    ]);
    let env = TestEnv::of(arena.binary(), &arena.image(), &variables);
    let repo = env.repo();
    repo.bash("git commit -qm base --allow-empty");
    let out = env.run_in(repo.path(), &["delegate", "--detach", "--json", MARKER]);
    let job = out.json()["job_id"].as_str().unwrap_or_else(|| panic!("no job id: {}", out.text())).to_owned();
    let begun = Instant::now();
    while provider.seen().len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(120), "the provider was not asked twice");
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut search = Search { env: &env, found: Vec::new(), markers: 0 };
    let (cell, gateway) = (format!("anchorhold-{job}"), env.gateway_name());
    search.bytes("the command line's output", &[out.stdout, out.stderr.into_bytes()].concat());
    search.processes(&cell);
    assert!(search.markers > 0, "the memory of the job was not read");
    search.told(&cell);
    search.told(&gateway);
    env.run(&["cancel", "--json", &job]);
    let end = env.run(&["result", "--json", &job]);
    search.bytes("the result", &[end.stdout, end.stderr.into_bytes()].concat());
    search.bytes("the patch", &env.diff(&job));
    search.told(&cell);
    search.markers = 0;
    search.files(&cell, &gateway);
    assert!(search.markers > 0, "the volumes were not read");
    let credential = format!("/var/lib/anchorhold/credentials in {gateway}");
    assert!(search.found.contains(&credential), "the search does not find the key even where it is: {:?}", search.found);
    search.found.retain(|place| *place != credential);
    vec![(
        ID.to_owned(),
        Verdict::of(!search.found.is_empty(), if search.found.is_empty() { "nowhere else".to_owned() } else { search.found.join("; ") }),
    )]
}

struct Search<'e> {
    env: &'e TestEnv,
    found: Vec<String>,
    markers: usize,
}

fn holds(bytes: &[u8], word: &str) -> bool {
    memchr::memmem::find(bytes, word.as_bytes()).is_some()
}

impl Search<'_> {
    fn bytes(&mut self, place: &str, bytes: &[u8]) {
        self.markers += usize::from(holds(bytes, MARKER));
        // A part of it gives it away as well.
        if holds(bytes, KEY) || holds(bytes, &KEY[10..30]) {
            self.found.push(place.to_owned());
        }
    }

    /// Definition, log and changed files, as the engine tells them.
    fn told(&mut self, container: &str) {
        for args in [&["inspect", "--size", container][..], &["logs", container], &["diff", container]] {
            let out = process::command("docker", Path::new("/")).args(args).envs(docker_host()).output().expect("docker runs");
            self.bytes(&format!("docker {} {container}", args[0]), &[out.stdout, out.stderr].concat());
        }
    }

    /// Environment, arguments and memory of everything that runs in the container, read from the host.
    fn processes(&mut self, container: &str) {
        let pids = self.env.docker(&["top", container, "-eo", "pid"]);
        for pid in pids.lines().filter_map(|line| line.trim().parse::<u32>().ok()) {
            for name in ["environ", "cmdline"] {
                let bytes = std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
                self.bytes(&format!("/proc/{pid}/{name}"), &bytes);
            }
            self.memory(pid);
        }
    }

    fn memory(&mut self, pid: u32) {
        let Ok(maps) = std::fs::read_to_string(format!("/proc/{pid}/maps")) else { return };
        let Ok(mut memory) = std::fs::File::open(format!("/proc/{pid}/mem")) else { return };
        let mut buffer = vec![0; 4 << 20];
        for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw"))) {
            let Some((from, to)) = line.split(' ').next().and_then(|range| range.split_once('-')) else { continue };
            let (Ok(mut at), Ok(end)) = (u64::from_str_radix(from, 16), u64::from_str_radix(to, 16)) else { continue };
            while at < end {
                let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
                if memory.seek(SeekFrom::Start(at)).is_err() {
                    break;
                }
                let Ok(read @ 1..) = memory.read(&mut buffer[..wanted]) else { break };
                let bytes = buffer[..read].to_vec();
                self.bytes(&format!("the memory of process {pid}"), &bytes);
                // The pieces overlap, so that nothing hides between two.
                at += if read > 256 && read == wanted && at + (read as u64) < end { read as u64 - 128 } else { read as u64 };
            }
        }
    }

    /// Volumes, layers and the engine's own records of both containers, by `grep` in one go each.
    fn files(&mut self, cell: &str, gateway: &str) {
        for container in [cell, gateway] {
            let format = "{{range .Mounts}}{{.Source}}\n{{end}}{{range $name, $dir := .GraphDriver.Data}}{{if ne $name \"WorkDir\"}}{{$dir}}\n{{end}}{{end}}{{.Id}}";
            let told = self.env.docker(&["inspect", "-f", format, container]);
            let mut places: Vec<&str> = told.lines().flat_map(|line| line.split(':')).filter(|place| place.starts_with('/')).collect();
            let id = told.lines().last().unwrap_or_default().trim().to_owned();
            let root = self.env.docker(&["info", "-f", "{{.DockerRootDir}}"]);
            let records = format!("{}/containers/{id}", root.trim());
            places.push(&records);
            places.retain(|place| Path::new(place).exists());
            assert!(places.len() >= 4, "nothing to look into: {told}");
            self.markers += usize::from(!grep(MARKER, &places).is_empty());
            for file in grep(KEY, &places) {
                let place = if file.contains("/credentials/") && container == gateway {
                    format!("/var/lib/anchorhold/credentials in {gateway}")
                } else {
                    file
                };
                self.found.push(place);
            }
        }
        let home = self.env.home().display().to_string();
        self.found.extend(grep(KEY, &[&home]));
    }
}

fn docker_host() -> Option<(String, String)> {
    Some(("DOCKER_HOST".to_owned(), std::env::var("DOCKER_HOST").ok()?))
}

/// Files below these places that hold the word, which is not on the command line.
fn grep(word: &str, places: &[&str]) -> Vec<String> {
    let mut command = process::command("grep", Path::new("/"));
    let mut child = command.args(["-rlaF", "-D", "skip", "-f", "-"]).args(places).stdin(Stdio::piped()).spawn().expect("grep runs");
    child.stdin.take().expect("its input").write_all(word.as_bytes()).expect("it reads");
    let out = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect()
}
