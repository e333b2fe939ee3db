//! `engine` against a real engine: each test makes containers named `anchorhold-engine-test-…` from the base image and removes them by label.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use std::collections::BTreeMap;
use std::time::Duration;

use anchorhold::config::EngineSettings;
use anchorhold::engine::{ContainerId, ContainerRef, ContainerSpec, ContainerState, Engine, ObjectName, TmpfsMount, UploadStream, VolumeMount};
use anchorhold::error::Code;
use bollard::models::{ContainerInspectResponse, HostConfigCgroupnsModeEnum, MountType, RestartPolicyNameEnum};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What `make image` puts on the engine.
const BASE: &str = "debian:bookworm-slim";
const LABEL: &str = "anchorhold.engine-test";

struct Bench {
    engine: Engine,
    run: String,
}

impl Bench {
    fn name(&self, part: &str) -> ObjectName {
        ObjectName::parse(&format!("anchorhold-engine-test-{}-{part}", self.run)).unwrap()
    }

    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(LABEL.to_owned(), self.run.clone())])
    }

    fn spec(&self, part: &str, script: &str) -> ContainerSpec {
        ContainerSpec {
            name: self.name(part),
            image: BASE.to_owned(),
            entrypoint: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned()), ("GIVEN".to_owned(), "a=b c".to_owned())],
            user: "20001:20001".to_owned(),
            labels: self.labels(),
            network: "none".to_owned(),
            volumes: Vec::new(),
            tmpfs: Vec::new(),
            cap_add: Vec::new(),
            runtime: None,
            memory: Some(256 << 20),
            cpus: Some(0.5),
            pids: Some(64),
            ulimits: vec![("nofile".to_owned(), 1024)],
            sysctls: Vec::new(),
            oom_score: 500,
            restart_unless_stopped: false,
            log_max_bytes: 1 << 20,
            stop_timeout_seconds: 3,
            own_seccomp: true,
        }
    }

    async fn create(&self, spec: &ContainerSpec) -> ContainerRef {
        ContainerRef::Id(self.engine.create_container(spec).await.unwrap().0)
    }

    /// Runs to the end: exit code and standard output.
    async fn run(&self, spec: &ContainerSpec) -> (i64, String) {
        let c = self.create(spec).await;
        self.engine.start_container(&c).await.unwrap();
        let code = self.engine.wait_container(&c).await.unwrap();
        (code, self.log(&c).await)
    }

    async fn log(&self, c: &ContainerRef) -> String {
        let chunks: Vec<Bytes> = self.engine.logs(c, false, None).await.unwrap().try_collect().await.unwrap();
        String::from_utf8(chunks.concat()).unwrap()
    }

    async fn clean(&self) {
        let label = [(LABEL, self.run.as_str())];
        for container in self.engine.list_containers(&label).await.unwrap() {
            let _ = self.engine.remove_container(&container.id.into()).await;
        }
        for (volume, _) in self.engine.list_volumes(&label).await.unwrap() {
            let _ = self.engine.remove_volume(&volume).await;
        }
    }
}

/// Runs one test's body and removes what it made, also when it fails.
async fn bench<F: Future<Output = ()> + Send + 'static>(test: &str, body: impl FnOnce(std::sync::Arc<Bench>) -> F) {
    let engine = Engine::connect(&EngineSettings::default()).await.expect("these tests need an engine: run `make engine image`");
    let bench = std::sync::Arc::new(Bench { engine, run: format!("{test}-{}", std::process::id()) });
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(body(bench.clone()));
    let outcome = tasks.join_next().await.unwrap();
    bench.clean().await;
    if let Err(e) = outcome {
        std::panic::resume_unwind(e.into_panic());
    }
}

/// The engine's own words about a container, read past our module.
async fn raw_inspect(c: &ContainerRef) -> ContainerInspectResponse {
    let docker = bollard::Docker::connect_with_defaults().unwrap();
    docker.inspect_container(c.as_str(), None::<bollard::query_parameters::InspectContainerOptions>).await.unwrap()
}

fn tar_of(files: &[(&str, &[u8], u32)]) -> UploadStream {
    let mut tar = tar::Builder::new(Vec::new());
    let mut root = tar::Header::new_gnu();
    root.set_entry_type(tar::EntryType::Directory);
    root.set_mode(0o755);
    root.set_size(0);
    tar.append_data(&mut root, "./", std::io::empty()).unwrap();
    for (path, content, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, *content).unwrap();
    }
    let bytes = tar.into_inner().unwrap();
    // In pieces, so that the body is truly streamed.
    let chunks: Vec<_> = bytes.chunks(1000).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    Box::pin(futures_util::stream::iter(chunks))
}

fn first_file(tar: &[u8]) -> Vec<u8> {
    let mut archive = tar::Archive::new(tar);
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
    content
}

#[tokio::test]
async fn everything_that_was_not_asked_for_is_taken_away() {
    bench("hardened", |b| async move {
        let mut spec = b.spec("a", "true");
        spec.cap_add = vec!["KILL".to_owned()];
        spec.tmpfs = vec![TmpfsMount { target: "/tmp".to_owned(), options: "rw,exec,nosuid,nodev,size=1m,mode=1777".to_owned() }];
        spec.volumes =
            vec![VolumeMount { volume: b.name("v"), target: "/job".to_owned(), read_only: true, copy_owner: false, labels: b.labels(), quota: None }];
        let seen = raw_inspect(&b.create(&spec).await).await;
        let host = seen.host_config.unwrap();
        let config = seen.config.unwrap();
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.privileged, Some(false));
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(host.cap_add.unwrap().iter().map(|c| c.trim_start_matches("CAP_").to_owned()).collect::<Vec<_>>(), ["KILL"]);
        let profile = format!("seccomp={}", anchorhold::engine::seccomp::profile());
        assert_eq!(host.security_opt, Some(vec!["no-new-privileges:true".to_owned(), profile]));
        assert_eq!(host.ipc_mode.as_deref(), Some("private"));
        assert_eq!(host.cgroupns_mode, Some(HostConfigCgroupnsModeEnum::PRIVATE));
        assert_eq!(host.pid_mode.as_deref().unwrap_or_default(), "");
        assert_eq!(host.userns_mode.as_deref().unwrap_or_default(), "");
        assert_eq!(host.init, Some(false));
        assert_eq!(host.dns, Some(vec!["127.0.0.1".to_owned()]));
        assert_eq!(host.restart_policy.unwrap().name, Some(RestartPolicyNameEnum::NO));
        assert_eq!((host.memory, host.memory_swap), (Some(256 << 20), Some(256 << 20)));
        assert_eq!((host.nano_cpus, host.pids_limit, host.shm_size), (Some(500_000_000), Some(64), Some(64 << 20)));
        assert_eq!(host.oom_score_adj, Some(500));
        let log = host.log_config.unwrap();
        assert_eq!(log.typ.as_deref(), Some("json-file"));
        assert_eq!(log.config.unwrap().get("max-size").map(String::as_str), Some("524288"));
        assert!(host.binds.unwrap_or_default().is_empty() && host.devices.unwrap_or_default().is_empty());
        assert!(host.masked_paths.unwrap().iter().any(|p| p == "/proc/kcore"));
        assert!(host.readonly_paths.unwrap().iter().any(|p| p == "/proc/sys"));
        let limits: Vec<_> = host.ulimits.unwrap().into_iter().map(|u| (u.name.unwrap(), u.soft.unwrap(), u.hard.unwrap())).collect();
        assert_eq!(limits, [("nofile".to_owned(), 1024, 1024), ("core".to_owned(), 0, 0)]);
        let mount = host.mounts.unwrap().remove(0);
        assert_eq!((mount.typ, mount.read_only), (Some(MountType::VOLUME), Some(true)));
        assert_eq!(mount.volume_options.unwrap().no_copy, Some(true));
        assert_eq!(config.user.as_deref(), Some("20001:20001"));
        assert_eq!((config.open_stdin, config.tty, config.attach_stdout), (Some(false), Some(false), Some(false)));
        assert_eq!(config.healthcheck.unwrap().test, Some(vec!["NONE".to_owned()]));
        assert_eq!((config.stop_timeout, config.working_dir.as_deref()), (Some(3), Some("/")));
        // The engine made the volume, with our labels.
        let volumes = b.engine.list_volumes(&[(LABEL, b.run.as_str())]).await.unwrap();
        assert_eq!(volumes, [(b.name("v"), b.labels())]);
    })
    .await;
}

#[tokio::test]
async fn the_kernel_enforces_it() {
    bench("enforced", |b| async move {
        let script = "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; id -u; \
            echo x 2>/dev/null >/etc/x && echo root-writable; echo x 2>/dev/null >/proc/sys/kernel/hostname && echo proc-writable; \
            ls /sys/class/net 2>/dev/null | grep . && echo sys-visible; cat /proc/cmdline /proc/partitions; \
            tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; cat /etc/resolv.conf | grep nameserver; echo $GIVEN; ulimit -c";
        let (code, out) = b.run(&b.spec("a", script)).await;
        let lines: Vec<String> = out.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let none = "0".repeat(16);
        let want = [
            &format!("CapEff: {none}"),
            &format!("CapBnd: {none}"),
            "NoNewPrivs: 1",
            "Seccomp: 2",
            "20001",
            "lo",
            "nameserver 127.0.0.1",
            "a=b c",
            "0",
        ];
        assert_eq!((code, lines), (0, want.map(str::to_owned).to_vec()));
    })
    .await;
}

#[tokio::test]
async fn a_volume_takes_owner_and_mode_of_the_image_only_where_asked() {
    bench("owner", |b| async move {
        // /var/mail belongs to root:mail with mode 2775 in Debian.
        let mount = |part: &str, copy_owner| VolumeMount {
            volume: b.name(part),
            target: "/var/mail".to_owned(),
            read_only: false,
            copy_owner,
            labels: b.labels(),
            quota: None,
        };
        for (part, copy_owner, want) in [("copied", true, "0:8 2775\n"), ("empty", false, "0:0 755\n")] {
            let mut spec = b.spec(part, "stat -c '%u:%g %a' /var/mail");
            spec.volumes = vec![mount(part, copy_owner)];
            assert_eq!(b.run(&spec).await, (0, want.to_owned()), "{part}");
        }
    })
    .await;
}

#[tokio::test]
async fn states_exit_codes_and_times() {
    bench("states", |b| async move {
        let spec = b.spec("a", "echo one; echo err >&2; sleep 0.2; echo two; exit 137");
        let c = b.create(&spec).await;
        let made = b.engine.inspect_container(&c).await.unwrap().unwrap();
        assert_eq!((made.state, made.exit_code, made.started_unix_ms), (ContainerState::Created, None, None));
        assert_eq!((made.name.as_str(), &made.labels.get(LABEL)), (spec.name.as_str(), &Some(&b.run)));
        assert!(!b.engine.signal_container(&c, "SIGUSR1").await.unwrap());

        b.engine.start_container(&c).await.unwrap();
        b.engine.start_container(&c).await.expect("already running is fine");
        let follow: Vec<Bytes> = b.engine.logs(&c, true, None).await.unwrap().try_collect().await.unwrap();
        assert_eq!(follow.concat(), b"one\ntwo\n");
        assert_eq!(b.engine.wait_container(&c).await.unwrap(), 137);
        assert_eq!(b.engine.wait_container(&c).await.unwrap(), 137);

        let ended = b.engine.inspect_container(&c).await.unwrap().unwrap();
        assert_eq!((ended.state, ended.exit_code, ended.oom_killed), (ContainerState::Exited, Some(137), false));
        assert!(ended.created_unix_ms <= ended.started_unix_ms.unwrap() && ended.started_unix_ms < ended.finished_unix_ms);
        let listed = b.engine.list_containers(&[(LABEL, b.run.as_str())]).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].state, listed[0].exit_code, &listed[0].id), (ContainerState::Exited, Some(137), &ended.id));
        assert_eq!((listed[0].image_id.as_str(), listed[0].name.as_str()), (ended.image_id.as_str(), ended.name.as_str()));
        assert_eq!(listed[0].created_unix_ms, ended.created_unix_ms / 1000 * 1000);
        assert!(b.engine.list_containers(&[(LABEL, b.run.as_str()), ("no", "such")]).await.unwrap().is_empty());

        let tail: Vec<Bytes> = b.engine.logs(&c, false, Some(1)).await.unwrap().try_collect().await.unwrap();
        assert_eq!(tail.concat(), b"two\n");
    })
    .await;
}

#[tokio::test]
async fn signals_pauses_and_stops() {
    bench("signals", |b| async move {
        let script = "trap 'echo usr1' USR1; trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
        let c = b.create(&b.spec("a", script)).await;
        b.engine.start_container(&c).await.unwrap();
        let mut log = b.engine.logs(&c, true, None).await.unwrap();
        assert_eq!(log.next().await.unwrap().unwrap(), "ready\n");
        assert!(b.engine.signal_container(&c, "SIGUSR1").await.unwrap());
        assert_eq!(log.next().await.unwrap().unwrap(), "usr1\n");

        bollard::Docker::connect_with_defaults().unwrap().pause_container(c.as_str()).await.unwrap();
        assert_eq!(b.engine.inspect_container(&c).await.unwrap().unwrap().state, ContainerState::Paused);
        b.engine.unpause_container(&c).await.unwrap();
        b.engine.unpause_container(&c).await.expect("not paused is fine");
        assert_eq!(b.engine.inspect_container(&c).await.unwrap().unwrap().state, ContainerState::Running);

        b.engine.stop_container(&c).await.unwrap();
        assert_eq!(log.next().await.unwrap().unwrap(), "term\n");
        assert!(log.next().await.is_none());
        assert_eq!(b.engine.wait_container(&c).await.unwrap(), 9);
        assert!(!b.engine.signal_container(&c, "SIGUSR1").await.unwrap());
        b.engine.stop_container(&c).await.expect("already stopped is fine");
    })
    .await;
}

#[tokio::test]
async fn a_silent_container_is_waited_for_and_its_log_followed() {
    bench("silent", |b| async move {
        let c = b.create(&b.spec("a", "sleep 2; echo late")).await;
        b.engine.start_container(&c).await.unwrap();
        let log = async { b.engine.logs(&c, true, None).await.unwrap().try_collect::<Vec<Bytes>>().await.unwrap().concat() };
        let (log, code) = tokio::join!(log, b.engine.wait_container(&c));
        assert_eq!((log.as_slice(), code.unwrap()), (&b"late\n"[..], 0));
    })
    .await;
}

#[tokio::test]
async fn bytes_go_in_and_come_back() {
    bench("archive", |b| async move {
        let mut spec = b.spec("a", "cat /job/in/a.bin /job/in/a.bin > /job/twice; stat -c '%u:%g %a' /job/in /job/in/a.bin");
        spec.user = "0:0".to_owned();
        spec.volumes = vec![VolumeMount {
            volume: b.name("v"),
            target: "/job".to_owned(),
            read_only: false,
            copy_owner: false,
            labels: b.labels(),
            quota: None,
        }];
        let c = b.create(&spec).await;
        let content: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        b.engine.upload(&c, "/job", tar_of(&[("in/a.bin", &content, 0o600)])).await.unwrap();
        b.engine.start_container(&c).await.unwrap();
        assert_eq!(b.engine.wait_container(&c).await.unwrap(), 0);
        assert!(b.log(&c).await.contains("0:0 600\n"));

        let tar: Vec<Bytes> = b.engine.download(&c, "/job/twice").await.unwrap().unwrap().try_collect().await.unwrap();
        let tar = tar.concat();
        let back = first_file(&tar);
        assert_eq!(back, [content.clone(), content].concat());

        assert!(b.engine.download(&c, "/job/absent").await.unwrap().is_none());
        // A name with characters of a query string is one path.
        assert!(b.engine.download(&c, "/job/twice&path=/etc/passwd").await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn a_refused_upload_reports_the_engines_reason() {
    bench("refused", |b| async move {
        let c = b.create(&b.spec("a", "true")).await;
        let endless: UploadStream = Box::pin(futures_util::stream::repeat_with(|| Ok(Bytes::from_static(&[0x7f; 64 << 10]))).take(4096));
        let error = b.engine.upload(&c, "/etc", endless).await.unwrap_err();
        assert_eq!(error.code, Code::EngineError, "{error:?}");
        assert!(error.message.contains("read-only"), "{error:?}");

        let error = b.engine.upload(&b.name("gone").into(), "/job", tar_of(&[])).await.unwrap_err();
        assert_eq!((error.code, error.details.get("status")), (Code::EngineError, Some(&404.into())));

        let broken: UploadStream =
            Box::pin(futures_util::stream::iter([Ok(Bytes::from_static(b"x")), Err(std::io::Error::other("the packer failed"))]));
        let error = b.engine.upload(&c, "/dev/shm", broken).await.unwrap_err();
        assert_ne!(error.code, Code::Internal, "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn a_program_talks_over_its_standard_streams() {
    bench("exec", |b| async move {
        let c = b.create(&b.spec("a", "sleep 60")).await;
        let error = b.engine.exec(&c, &["/bin/cat"], "20001:20001").await.err().unwrap();
        assert_eq!((error.code, error.details.get("status")), (Code::EngineError, Some(&409.into())));
        b.engine.start_container(&c).await.unwrap();

        let mut cat = b.engine.exec(&c, &["/bin/sh", "-c", "echo noise >&2; exec cat"], "20001:20001").await.unwrap();
        // Bytes 0..=255, so that nothing in them is taken for a frame.
        let sent: Vec<u8> = (0..1_000_000u32).map(|n| (n % 256) as u8).collect();
        let (_, received) = tokio::join!(
            async {
                cat.input.write_all(&sent).await.unwrap();
                cat.input.shutdown().await.unwrap();
            },
            async {
                let mut all = Vec::new();
                cat.output.read_to_end(&mut all).await.unwrap();
                all
            }
        );
        assert!(received == sent, "{} bytes of {}", received.len(), sent.len());

        let mut id = b.engine.exec(&c, &["/usr/bin/id", "-u"], "20001:20001").await.unwrap();
        let mut text = String::new();
        id.output.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "20001\n");
        b.engine.signal_container(&c, "SIGKILL").await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn one_of_many_renames_wins() {
    bench("rename", |b| async move {
        let c = b.create(&b.spec("a", "true")).await;
        let by_name: ContainerRef = b.name("a").into();
        let target = b.name("b");
        let tries = (0..8).map(|i| {
            let (c, by_name, b, target) = (c.clone(), by_name.clone(), b.clone(), target.clone());
            async move { b.engine.rename_container(if i % 2 == 0 { &c } else { &by_name }, &target).await.unwrap() }
        });
        let won = futures_util::future::join_all(tries).await;
        assert_eq!(won.iter().filter(|w| **w).count(), 1, "{won:?}");
        assert!(b.engine.inspect_container(&by_name).await.unwrap().is_none());
        assert_eq!(b.engine.inspect_container(&c).await.unwrap().unwrap().name, target.as_str());

        let other = b.create(&b.spec("c", "true")).await;
        assert!(!b.engine.rename_container(&other, &target).await.unwrap(), "the name is taken");
        assert!(!b.engine.rename_container(&b.name("gone").into(), &b.name("d")).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn what_is_gone_is_gone_once() {
    bench("remove", |b| async move {
        let mut spec = b.spec("a", "sleep 60");
        spec.volumes = vec![VolumeMount {
            volume: b.name("v"),
            target: "/job".to_owned(),
            read_only: false,
            copy_owner: false,
            labels: b.labels(),
            quota: None,
        }];
        let c = b.create(&spec).await;
        let conflict = b.engine.create_container(&spec).await.unwrap_err();
        assert_eq!((conflict.code, conflict.details.get("conflict")), (Code::EngineError, Some(&true.into())));
        b.engine.start_container(&c).await.unwrap();
        let busy = b.engine.remove_volume(&b.name("v")).await.unwrap_err();
        assert_eq!((busy.code, busy.details.get("in_use")), (Code::EngineError, Some(&true.into())));

        let removals = futures_util::future::join_all((0..4).map(|_| b.engine.remove_container(&c))).await;
        assert_eq!(removals.into_iter().filter(|r| *r.as_ref().unwrap()).count(), 1);
        assert!(!b.engine.remove_container(&c).await.unwrap());
        assert!(b.engine.inspect_container(&c).await.unwrap().is_none());
        assert!(b.engine.remove_volume(&b.name("v")).await.unwrap(), "a named volume outlives its container");
        assert!(!b.engine.remove_volume(&b.name("v")).await.unwrap());

        for error in [b.engine.start_container(&c).await.unwrap_err(), b.engine.wait_container(&c).await.unwrap_err()] {
            assert_eq!((error.code, error.details.get("status")), (Code::EngineError, Some(&404.into())));
        }
        let log: Vec<_> = b.engine.logs(&c, true, None).await.unwrap().collect().await;
        assert_eq!(log[0].as_ref().unwrap_err().details.get("status"), Some(&404.into()));
        assert!(!b.engine.signal_container(&c, "SIGTERM").await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn an_image_that_is_not_there_has_its_own_code_and_leaves_nothing() {
    bench("noimage", |b| async move {
        let mut spec = b.spec("a", "true");
        spec.image = "anchorhold/engine-test-no-such-image:1".to_owned();
        spec.volumes = vec![VolumeMount {
            volume: b.name("v"),
            target: "/job".to_owned(),
            read_only: false,
            copy_owner: false,
            labels: b.labels(),
            quota: None,
        }];
        let error = b.engine.create_container(&spec).await.unwrap_err();
        assert_eq!(error.code, Code::ImageMissing);
        assert!(error.hint.as_deref().is_some_and(|h| h.contains("anchorhold image build")));
        assert!(b.engine.list_volumes(&[(LABEL, b.run.as_str())]).await.unwrap().is_empty());
        assert!(b.engine.inspect_image(&spec.image).await.unwrap().is_none());
        assert_eq!(b.engine.inspect_image("../containers").await.unwrap_err().code, Code::InvalidConfig);

        let mut spec = b.spec("b", "true");
        spec.runtime = Some("no-such-runtime".to_owned());
        let error = b.engine.create_container(&spec).await.unwrap_err();
        assert!(error.code == Code::EngineError && error.hint.as_deref().is_some_and(|h| h.contains("engine.runtime")), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn what_happens_is_told_as_it_happens() {
    bench("events", |b| async move {
        let mut events = b.engine.events(&[(LABEL, b.run.as_str())]);
        let watch = async {
            let mut seen = Vec::new();
            while let Some(event) = events.next().await {
                let event = event.unwrap();
                let done = event.action == "die";
                seen.push((event.action, event.attributes.get("exitCode").cloned()));
                if done {
                    return seen;
                }
            }
            seen
        };
        let act = async {
            // The subscription has no acknowledgement; a later event shows that it stands.
            tokio::time::sleep(Duration::from_millis(300)).await;
            b.run(&b.spec("a", "exit 7")).await
        };
        let (seen, (code, _)) = tokio::join!(watch, act);
        assert_eq!(code, 7);
        assert_eq!(seen.last(), Some(&("die".to_owned(), Some("7".to_owned()))));
        assert!(seen.iter().any(|(action, _)| action == "start"), "{seen:?}");
    })
    .await;
}

#[tokio::test]
async fn the_engine_describes_itself() {
    bench("facts", |b| async move {
        let facts = b.engine.facts().await.unwrap();
        assert!(facts.api_version.starts_with("1.") && !facts.version.is_empty() && !facts.kernel.is_empty());
        assert!(facts.runtimes.contains(&facts.default_runtime), "{facts:?}");
        assert!(["1", "2"].contains(&facts.cgroup_version.as_str()), "{facts:?}");
        let image = b.engine.inspect_image(BASE).await.unwrap().unwrap();
        assert!(image.id.starts_with("sha256:") && image.size > 1 << 20 && image.volumes.is_empty());
    })
    .await;
}

#[test]
fn ids_and_names_are_checked_before_they_are_sent() {
    for bad in ["", "a/b", "../x", "a?x=1", "a b", "-a", ".a", "a%2f", "é", "a\n", &"a".repeat(129)] {
        assert!(ObjectName::parse(bad).is_err(), "{bad:?}");
    }
    for bad in ["", "abc", "zzzzzzzzzzzz", "abcdef012345/", &"a".repeat(65)] {
        assert!(ContainerId::parse(bad).is_err(), "{bad:?}");
    }
}

/// The same engine over TCP: other code finds the version, and paths and streams go another way.
#[tokio::test]
async fn an_engine_over_tcp_is_the_same_engine() {
    bench("tcp", |b| async move {
        // An engine that is remote already needs no detour.
        let Some(socket) = b.engine.host().strip_prefix("unix://").map(str::to_owned) else { return };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut relays = tokio::task::JoinSet::new();
        relays.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let socket = socket.clone();
                connections.spawn(async move {
                    let mut far = tokio::net::UnixStream::connect(socket).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        let engine = Engine::connect(&EngineSettings { host: format!("tcp://{address}"), ..Default::default() }).await.unwrap();
        assert_eq!((engine.api_version(), engine.facts().await.unwrap().version), (b.engine.api_version(), b.engine.facts().await.unwrap().version));
        let c: ContainerRef = engine.create_container(&b.spec("a", "echo here; sleep 60")).await.unwrap().0.into();
        engine.start_container(&c).await.unwrap();
        assert_eq!(engine.logs(&c, true, None).await.unwrap().next().await.unwrap().unwrap(), "here\n");
        let mut cat = engine.exec(&c, &["/bin/cat"], "20001:20001").await.unwrap();
        cat.input.write_all(b"over tcp").await.unwrap();
        cat.input.shutdown().await.unwrap();
        let mut text = String::new();
        cat.output.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "over tcp");
        assert!(engine.remove_container(&c).await.unwrap());
    })
    .await;
}
