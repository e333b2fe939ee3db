//! The binary, the engine and the baselines' programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anchorhold::process;

/// Where a bench run takes place: its own gateway and instance, removed at the end.
pub struct World {
    pub binary: PathBuf,
    pub image: String,
    pub cache: PathBuf,
    pub scratch: tempfile::TempDir,
    pub gateway: String,
    pub instance: String,
}

impl World {
    pub fn new() -> Self {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let cache = manifest.join("target/bench");
        std::fs::create_dir_all(&cache).expect("cache");
        Self {
            binary: env!("CARGO_BIN_EXE_anchorhold").into(),
            image: std::env::var("ANCHORHOLD_IMAGE_NAME").unwrap_or_else(|_| concat!("anchorhold/runtime:", env!("CARGO_PKG_VERSION")).to_owned()),
            cache,
            scratch: tempfile::tempdir().expect("scratch"),
            gateway: "anchorhold-bench-gateway".to_owned(),
            instance: format!("bench-{}", std::process::id()),
        }
    }

    /// Our binary with the bench's settings.
    pub fn anchorhold(&self, args: &[&str]) -> Command {
        let mut command = process::command(self.binary.to_str().expect("utf-8"), self.scratch.path());
        command.args(args).env("HOME", self.scratch.path()).env("ANCHORHOLD_MODEL_UPSTREAM", "rehearsal");
        command
            .env("ANCHORHOLD_GATEWAY_NAME", &self.gateway)
            .env("ANCHORHOLD_ENGINE_INSTANCE", &self.instance)
            .env("ANCHORHOLD_IMAGE_NAME", &self.image);
        if let Some(host) = std::env::var_os("DOCKER_HOST") {
            command.env("DOCKER_HOST", host);
        }
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// The docker client; its standard output, trimmed.
    pub fn docker(&self, args: &[&str]) -> String {
        self.run("docker", Path::new("/"), args)
    }

    /// git in a directory, as the user would run it.
    pub fn git(&self, dir: &Path, args: &[&str]) -> String {
        self.run("git", dir, args)
    }

    fn run(&self, program: &str, dir: &Path, args: &[&str]) -> String {
        let mut command = process::command(program, dir);
        command.args(args).env("HOME", self.scratch.path());
        if let Some(host) = std::env::var_os("DOCKER_HOST") {
            command.env("DOCKER_HOST", host);
        }
        let out = command.output().unwrap_or_else(|e| panic!("{program}: {e}"));
        assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    /// The host's pid of a container's PID 1.
    pub fn container_pid(&self, name: &str) -> u32 {
        self.docker(&["inspect", "-f", "{{.State.Pid}}", name]).parse().expect("pid")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for label in [format!("label=anchorhold.instance={}", self.instance), format!("name=^{}$", self.gateway)] {
            let ids = self.docker(&["ps", "-aq", "--filter", &label]);
            for id in ids.lines() {
                self.docker(&["rm", "-fv", id]);
            }
        }
        for filter in [format!("label=anchorhold.instance={}", self.instance), format!("name=^{}-", self.gateway)] {
            let names = self.docker(&["volume", "ls", "-q", "--filter", &filter]);
            for name in names.lines() {
                self.docker(&["volume", "rm", "-f", name]);
            }
        }
    }
}
