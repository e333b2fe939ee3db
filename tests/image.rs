//! The runtime image on a real engine (`make image` puts it there): what is in it, what is not, and that tools work in a cell made from it.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use std::collections::BTreeMap;

use anchorhold::config::Settings;
use anchorhold::engine::{ContainerSpec, Engine, ObjectName, TmpfsMount, VolumeMount};
use anchorhold::error::Code;
use anchorhold::image;
use bytes::Bytes;
use futures_util::TryStreamExt;

const LABEL: &str = "anchorhold.image-test";

async fn engine() -> (Engine, Settings) {
    let settings = Settings::load().unwrap();
    (Engine::connect(&settings.engine).await.expect("these tests need an engine and the image: run `make engine image`"), settings)
}

/// Takes a name away that a test gave.
async fn remove_image(name: &str) {
    let docker = bollard::Docker::connect_with_defaults().unwrap();
    docker.remove_image(name, None::<bollard::query_parameters::RemoveImageOptions>, None).await.unwrap();
}

struct Cell<'a> {
    engine: &'a Engine,
    run: String,
}

impl Cell<'_> {
    fn name(&self, part: &str) -> ObjectName {
        ObjectName::parse(&format!("anchorhold-image-test-{}-{part}", self.run)).unwrap()
    }

    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(LABEL.to_owned(), self.run.clone())])
    }

    fn volume(&self, target: &str, read_only: bool, copy_owner: bool) -> VolumeMount {
        let part = target.trim_start_matches('/').replace('/', "-");
        VolumeMount { volume: self.name(&part), target: target.to_owned(), read_only, copy_owner, labels: self.labels(), quota: None }
    }

    /// Runs a script; exit code, and standard output and error together.
    async fn sh(&self, part: &str, user: &str, volumes: Vec<VolumeMount>, script: &str) -> (i64, String) {
        let spec = ContainerSpec {
            name: self.name(part),
            image: Settings::load().unwrap().image.name,
            entrypoint: vec!["/bin/bash".to_owned(), "-c".to_owned(), format!("exec 2>&1; cd /tmp; {script}")],
            env: [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/tmp")].map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec(),
            user: user.to_owned(),
            labels: self.labels(),
            network: "none".to_owned(),
            volumes,
            tmpfs: vec![TmpfsMount { target: "/tmp".to_owned(), options: "rw,exec,nosuid,nodev,size=64m,mode=1777".to_owned() }],
            cap_add: Vec::new(),
            runtime: None,
            memory: Some(512 << 20),
            cpus: None,
            pids: Some(64),
            ulimits: Vec::new(),
            sysctls: Vec::new(),
            oom_score: 500,
            restart_unless_stopped: false,
            log_max_bytes: 1 << 20,
            stop_timeout_seconds: 1,
            own_seccomp: true,
        };
        let container = self.engine.create_container(&spec).await.unwrap().0.into();
        self.engine.start_container(&container).await.unwrap();
        let code = self.engine.wait_container(&container).await.unwrap();
        let log: Vec<Bytes> = self.engine.logs(&container, false, None).await.unwrap().try_collect().await.unwrap();
        (code, String::from_utf8(log.concat()).unwrap())
    }

    async fn clean(&self) {
        let label = [(LABEL, self.run.as_str())];
        for container in self.engine.list_containers(&label).await.unwrap() {
            self.engine.remove_container(&container.id.into()).await.unwrap();
        }
        for (volume, _) in self.engine.list_volumes(&label).await.unwrap() {
            self.engine.remove_volume(&volume).await.unwrap();
        }
    }
}

#[tokio::test]
async fn it_is_there_and_of_this_build() {
    let (engine, settings) = engine().await;
    let facts = image::check(&engine, &settings).await.expect("run `make image`: the sources changed since the image was built");
    let label = |name: &str| facts.labels.get(name).map(String::as_str);
    assert_eq!(label(image::LABEL_BUILD), Some(anchorhold::BUILD_ID));
    assert_eq!(label(image::LABEL_VERSION), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(label(image::LABEL_CODEX).map(str::to_owned), image::codex_version().ok());
    assert!(facts.volumes.is_empty());
}

#[tokio::test]
async fn building_again_changes_nothing() {
    let (engine, mut settings) = engine().await;
    settings.image.name = format!("anchorhold/image-test-twice:{}", std::process::id());
    let options = image::BuildOptions { binary: Some(env!("CARGO_BIN_EXE_anchorhold").into()), ..Default::default() };
    let mut lines = Vec::new();
    let first = image::build(&engine, &settings, &options, &mut |line| lines.push(line.to_owned())).await;
    let (built, mut again) = (lines.len(), Vec::new());
    let second = image::build(&engine, &settings, &options, &mut |line| again.push(line.to_owned())).await;
    remove_image(&settings.image.name).await;
    assert_eq!(first.unwrap(), second.unwrap());
    assert!(built > 1, "{lines:?}");
    assert_eq!(again, [format!("image: {} is up to date", settings.image.name)]);
}

#[tokio::test]
async fn a_missing_and_a_foreign_image_have_their_codes() {
    let (engine, mut settings) = engine().await;
    settings.image.name = "anchorhold/no-such-image:1".to_owned();
    let missing = image::check(&engine, &settings).await.unwrap_err();
    settings.image.name = image::BASE.to_owned();
    let foreign = image::check(&engine, &settings).await.unwrap_err();
    assert_eq!((missing.code, foreign.code), (Code::ImageMissing, Code::ImageMismatch));
    for error in [missing, foreign] {
        assert!(error.hint.as_deref().is_some_and(|h| h.contains("anchorhold image build")), "{error:?}");
    }
    settings.image.name = "a/../b".to_owned();
    assert_eq!(image::check(&engine, &settings).await.unwrap_err().code, Code::InvalidConfig);
}

#[tokio::test]
async fn a_binary_that_needs_a_loader_is_refused_before_anything_is_made() {
    let (engine, mut settings) = engine().await;
    settings.image.name = "anchorhold/image-test-refused:1".to_owned();
    let dir = tempfile::tempdir().unwrap();
    let options = image::BuildOptions { binary: Some("/bin/sh".into()), cache_dir: Some(dir.path().join("cache")), force: false };
    let error = image::build(&engine, &settings, &options, &mut |_| ()).await.unwrap_err();
    assert_eq!(error.code, Code::SetupFailed);
    assert!(error.message.contains("dynamically"), "{error:?}");
    assert!(!dir.path().join("cache").exists());
    assert!(engine.inspect_image(&settings.image.name).await.unwrap().is_none());
}

/// What an agent needs works as its uid, without a capability, with a read-only root and the masked paths.
#[tokio::test]
async fn tools_work_in_a_cell() {
    let (engine, _) = engine().await;
    let cell = Cell { engine: &engine, run: format!("tools-{}", std::process::id()) };
    let script = r#"
        set -e
        git init -q r && cd r && echo a > f && git add f
        git -c user.name=a -c user.email=a@b commit -qm m && git log --format=%s
        printf 'int main(void){return 42;}' > t.c && printf 't: t.c\n\tgcc -o $@ $<\n' > Makefile && make -s t
        rc=0; ./t || rc=$?; echo made $rc
        python3 -c 'import os,subprocess,multiprocessing,ssl,json; print("python", os.cpu_count() > 0, subprocess.check_output(["id","-u"]).decode().strip())'
        rg -c a f; printf 'b\n' > g; diff -u f g > p || true; patch -s f p && cat f
        /opt/codex/bin/codex --version 2>/dev/null; ls /opt/codex/bin
        touch /opt/x 2>/dev/null || echo root-read-only"#;
    let (code, out) = cell.sh("a", "20001:20001", Vec::new(), script).await;
    cell.clean().await;
    let version = image::codex_version().unwrap();
    let want = format!("m\nmade 42\npython True 20001\n1\nb\ncodex-cli {version}\ncodex\ncodex-code-mode-host\nroot-read-only\n");
    assert_eq!((code, out), (0, want));
}

#[tokio::test]
async fn no_file_gives_a_privilege() {
    let (engine, _) = engine().await;
    let cell = Cell { engine: &engine, run: format!("setuid-{}", std::process::id()) };
    // The second search shows that the first one could have found something.
    let script = "find / -xdev -perm /6000 2>/dev/null; touch x && chmod u+s x && find . -perm /6000; \
        python3 -c 'import os\nfor d,_,fs in os.walk(\"/\"):\n for f in fs:\n  try:\n   os.getxattr(d+\"/\"+f,\"security.capability\",follow_symlinks=False); print(\"capability\",d,f)\n  except OSError: pass'";
    let (code, out) = cell.sh("a", "0:0", Vec::new(), script).await;
    cell.clean().await;
    assert_eq!((code, out.as_str()), (0, "./x\n"));
}

/// The gateway has no capability and must write its volumes; a job's PID 1 may enter the socket's directory, the agent may not.
#[tokio::test]
async fn the_gateways_volumes_belong_to_it() {
    let (engine, _) = engine().await;
    let cell = Cell { engine: &engine, run: format!("owner-{}", std::process::id()) };
    let own = vec![cell.volume("/run/anchorhold", false, true), cell.volume("/var/lib/anchorhold", false, true)];
    let script =
        "stat -c '%u:%g %a' /run/anchorhold /var/lib/anchorhold; touch /run/anchorhold/gateway.sock /var/lib/anchorhold/ledger && echo written";
    let gateway = cell.sh("gateway", "20000:0", own, script).await;
    let theirs = |cell: &Cell<'_>| vec![cell.volume("/run/anchorhold", true, false)];
    let init = cell.sh("init", "0:0", theirs(&cell), "ls /run/anchorhold; touch /run/anchorhold/x 2>/dev/null || echo read-only").await;
    let agent = cell.sh("agent", "20001:20001", theirs(&cell), "ls /run/anchorhold 2>/dev/null || echo refused").await;
    let still = cell.sh("still", "0:0", theirs(&cell), "stat -c '%u:%g %a' /run/anchorhold").await;
    cell.clean().await;
    assert_eq!(gateway, (0, "20000:0 750\n20000:0 700\nwritten\n".to_owned()));
    assert_eq!(init, (0, "gateway.sock\nread-only\n".to_owned()));
    assert_eq!(agent, (0, "refused\n".to_owned()));
    assert_eq!(still, (0, "20000:0 750\n".to_owned()));
}

/// `ssh` played by a script that relays to the local engine, as `docker system dial-stdio` would on the far side.
#[tokio::test]
async fn an_engine_over_ssh_is_the_same_engine() {
    let (engine, _) = engine().await;
    // An engine that is remote already needs no detour.
    let Some(socket) = engine.host().strip_prefix("unix://") else { return };
    let name = format!("anchorhold/image-test-ssh:{}", std::process::id());
    let dir = tempfile::tempdir().unwrap();
    let relay = format!(
        r#"#!/usr/bin/env python3
import os, socket, sys, threading
open(os.path.join(os.path.dirname(sys.argv[0]), "calls"), "a").write(" ".join(sys.argv[1:]) + "\n")
if "me@refused" in sys.argv:
    sys.exit("Host key verification failed.")
engine = socket.socket(socket.AF_UNIX)
engine.connect("{socket}")
def up():
    while data := os.read(0, 65536):
        engine.sendall(data)
    engine.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := engine.recv(65536):
    os.write(1, data)
"#
    );
    let script = dir.path().join("ssh");
    std::fs::write(&script, relay).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let build = |host: &str| {
        let mut command = anchorhold::process::command(env!("CARGO_BIN_EXE_anchorhold"), dir.path());
        command.args(["image", "build"]).env("PATH", &path).env("HOME", dir.path()).env("DOCKER_HOST", host);
        command.env("ANCHORHOLD_IMAGE_NAME", &name).output().unwrap()
    };
    let good = build("ssh://me@engine.invalid:2222");
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    let calls = std::fs::read_to_string(dir.path().join("calls")).unwrap();
    // A dozen requests, and one login each only where two of them overlap.
    let login = "-T -o BatchMode=yes -o ConnectTimeout=10 -p 2222 -- me@engine.invalid docker system dial-stdio";
    assert!(calls.lines().all(|call| call == login) && (1..=3).contains(&calls.lines().count()), "{calls}");
    assert!(engine.inspect_image(&name).await.unwrap().is_some());
    remove_image(&name).await;

    let bad = build("ssh://me@refused");
    assert!(!bad.status.success());
    let said = String::from_utf8_lossy(&[bad.stdout, bad.stderr].concat()).into_owned();
    assert!(said.contains("Host key verification failed") && said.contains("engine_unavailable"), "{said}");
}
