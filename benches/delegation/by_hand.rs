//! The same `codex exec`, by hand: the real CLI on this machine with the flags of a cell and a CODEX_HOME that was used before, the same
//! scripted model, no container.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anchorhold::process;
use anchorhold::protocol::admin::Upstream;

use super::figures::timed;
use super::gateway::{self, Gateway};
use super::repository::ONE_STEP;
use super::world::World;

const JOB: &str = "000000000000000000000000000000ff";

/// Everything that runs by hand need.
pub struct ByHand {
    _gateway: Gateway,
    _slot: std::os::unix::net::UnixStream,
    port: u16,
    codex: PathBuf,
    home: tempfile::TempDir,
    dir: tempfile::TempDir,
}

impl ByHand {
    /// Takes the CLI out of the image, so that it is the same one.
    pub fn new(world: &World) -> Self {
        let gateway = Gateway::start(world);
        let slot = gateway.admit(JOB, Upstream::Rehearsal);
        let port = gateway::forward(&gateway, JOB);
        let codex = world.cache.join("codex");
        if !codex.join("bin/codex").exists() {
            let id = world.docker(&["create", "--network", "none", "--entrypoint", "true", &world.image]);
            world.docker(&["cp", &format!("{id}:/opt/codex"), codex.to_str().expect("utf-8")]);
            world.docker(&["rm", "-f", &id]);
        }
        // Not below /tmp, which Codex warns about.
        let home = tempfile::tempdir_in(&world.cache).expect("home");
        Self { _gateway: gateway, _slot: slot, port, codex, home, dir: tempfile::tempdir().expect("directory") }
    }

    /// One run in a copy of the repository's files; seconds.
    pub fn run(&self, repo: &Path) -> f64 {
        let dir = self.dir.path();
        for entry in std::fs::read_dir(repo).expect("repository").flatten().filter(|e| e.path().is_file()) {
            std::fs::copy(entry.path(), dir.join(entry.file_name())).expect("copy");
        }
        let mut command = process::command(self.codex.join("bin/codex").to_str().expect("utf-8"), dir);
        command.env("HOME", self.home.path()).env("CODEX_HOME", self.home.path()).env("KEY", "unused");
        command.args(["exec", "--json", "--ignore-user-config", "--strict-config", "--skip-git-repo-check"]);
        command.args(["--dangerously-bypass-approvals-and-sandbox", "--disable", "plugins", "--disable", "apps", "-c", "analytics.enabled=false"]);
        command.args(["-c", "check_for_update_on_startup=false", "-c", "web_search=\"disabled\"", "-c", "model_provider=hand", "-m", "gpt-5.5"]);
        command.arg("-c").arg(format!(
            "model_providers.hand={{name=\"hand\",base_url=\"http://127.0.0.1:{}/v1\",wire_api=\"responses\",env_key=\"KEY\"}}",
            self.port
        ));
        command.args(["-C", dir.to_str().expect("utf-8"), "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        timed(|| {
            let mut child = command.spawn().expect("codex runs");
            child.stdin.take().expect("stdin").write_all(ONE_STEP.as_bytes()).expect("codex reads");
            assert!(child.wait().expect("codex ends").success(), "codex by hand failed");
        })
    }
}
