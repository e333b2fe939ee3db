//! [`Engine`]: the calls we make.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as Bollard;
use bollard::models::ExecConfig;
use bollard::query_parameters as query;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::StreamReader;

use super::failure::Fate;
use super::{ContainerFacts, ContainerId, ContainerRef, ContainerSpec, ContainerState, EngineFacts, ImageFacts, ObjectName};
use super::{answers, connect, failure, patience, spec, streams};
use crate::config::EngineSettings;
use crate::error::{Code, Error, Result};

/// A stream of bytes from the engine.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;
/// A body for the engine.
pub type UploadStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// A running exec: its standard input and output.
pub struct ExecSession {
    /// Closed by dropping or shutting it down.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// Standard output alone; standard error is dropped.
    pub output: Pin<Box<dyn AsyncRead + Send>>,
}

/// What came of [`Engine::remove_unstarted`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It never ran, and is gone.
    Removed,
    /// Somebody else removed it, or is about to.
    Gone,
    /// It runs or has run, and is left as it is.
    Started,
}

/// A connection to one engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(super) docker: Docker,
    pub(super) host: String,
    api_version: String,
    /// How long a call may take that answers at once even on a busy host.
    pub(super) answer: Duration,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("host", &self.host).field("api_version", &self.api_version).finish_non_exhaustive()
    }
}

impl Engine {
    /// Finds the engine (setting, `DOCKER_HOST`, docker context, local socket) and negotiates the API version.
    ///
    /// Costs one ping. Errors: [`Code::EngineUnavailable`] with a hint that fits, [`Code::InvalidConfig`].
    pub async fn connect(settings: &EngineSettings) -> Result<Self> {
        let target = connect::choose(&settings.host)?;
        let (docker, api_version) = target.open().await?;
        Ok(Self { docker, host: target.host, api_version, answer: Duration::from_secs(settings.answer_seconds) })
    }

    /// Where it is, as the user wrote it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The API version in use, such as `1.41`.
    pub fn api_version(&self) -> &str {
        &self.api_version
    }

    /// What the engine says about itself.
    pub async fn facts(&self) -> Result<EngineFacts> {
        const WHAT: &str = "ask the engine about itself";
        let both = || async { tokio::try_join!(self.docker.version(), self.docker.info()) };
        let (version, info) = self.read(WHAT, both).await?.map_err(|e| self.failed(WHAT, e))?;
        Ok(answers::from_engine(&self.host, version, info))
    }

    /// The clock of the engine's host, in unix milliseconds; it was that at some instant between the call and its answer.
    pub async fn clock_ms(&self) -> Result<u64> {
        const WHAT: &str = "ask the engine for the time";
        let info = self.read(WHAT, || self.docker.info()).await?.map_err(|e| self.failed(WHAT, e))?;
        info.system_time.as_deref().and_then(answers::unix_ms).ok_or_else(|| Error::new(Code::EngineError, format!("{WHAT}: it gave none")))
    }

    /// Creates a container (and its volumes). A name that is taken is [`crate::error::Code::EngineError`] with detail `conflict: true`; an
    /// image that is not there is [`Code::ImageMissing`]. Also returns the engine's warnings: what it will not enforce.
    ///
    /// A volume that exists already is used as it is, whatever its labels. Where the answer was lost, the error has detail `outcome: unknown`.
    pub async fn create_container(&self, spec: &ContainerSpec) -> Result<(ContainerId, Vec<String>)> {
        const WHAT: &str = "create the container";
        let body = crate::weaken::container(spec::create_body(spec)?)?;
        let options = query::CreateContainerOptionsBuilder::default().name(spec.name.as_str()).build();
        match self.short(WHAT, self.docker.create_container(Some(options), body)).await.map_err(patience::unknown)? {
            Ok(made) => Ok((ContainerId::parse(&made.id)?, made.warnings)),
            Err(e) if failure::status(&e) == Some(409) => Err(self.failed(WHAT, e).with_detail("conflict", true)),
            Err(e) if failure::not_found(&e) && failure::says(&e, "No such image") => Err(image_missing(&spec.image)),
            Err(e) if failure::passing(&e) => Err(patience::unknown(self.failed(WHAT, e))),
            Err(e) => Err(self.failed(WHAT, e)),
        }
    }

    /// Starts it; already running is fine.
    ///
    /// Where the answer was lost, it is looked at, and started again if it does not run: `init` does its work in the first start only, whatever
    /// came between. Still not known then: detail `outcome: unknown`.
    pub async fn start_container(&self, c: &ContainerRef) -> Result<()> {
        const WHAT: &str = "start the container";
        let call = || self.docker.start_container(c.as_str(), None::<query::StartContainerOptions>);
        match self.short(WHAT, call()).await.map_err(patience::unknown)? {
            Ok(()) => return Ok(()),
            Err(e) if failure::fate(&e) == Fate::Unknown => tracing::debug!("the answer to a start was lost"),
            Err(e) => return Err(self.failed(WHAT, e)),
        }
        let facts = self.inspect_container(c).await.map_err(patience::unknown)?;
        if facts.is_some_and(|facts| matches!(facts.state, ContainerState::Running | ContainerState::Paused | ContainerState::Restarting)) {
            return Ok(());
        }
        self.short(WHAT, call()).await.map_err(patience::unknown)?.map_err(|e| {
            let unknown = failure::fate(&e) == Fate::Unknown;
            let e = self.failed(WHAT, e);
            if unknown { patience::unknown(e) } else { e }
        })
    }

    /// Sends a signal by name, such as `SIGUSR1`; `false`: it does not run.
    pub async fn signal_container(&self, c: &ContainerRef, signal: &str) -> Result<bool> {
        const WHAT: &str = "signal the container";
        let options = query::KillContainerOptionsBuilder::default().signal(signal).build();
        let call = || self.docker.kill_container(c.as_str(), Some(options.clone()));
        match self.again(WHAT, self.answer, call).await?.0 {
            Ok(()) => Ok(true),
            // 409: "is not running" (20.10 says so for each signal).
            Err(e) if matches!(failure::status(&e), Some(404 | 409)) => Ok(false),
            Err(e) => Err(self.failed(WHAT, e)),
        }
    }

    /// Stops it: its stop signal, then a kill after its own timeout. Not running, or gone, is fine.
    pub async fn stop_container(&self, c: &ContainerRef) -> Result<()> {
        const WHAT: &str = "stop the container";
        // Answers only when it has stopped, so the short limit does not fit.
        match self.removal(WHAT, self.docker.stop_container(c.as_str(), None::<query::StopContainerOptions>)).await? {
            Ok(()) => Ok(()),
            Err(e) if failure::not_found(&e) => Ok(()),
            Err(e) => Err(self.failed(WHAT, e)),
        }
    }

    /// Unfreezes a container that somebody paused; one that is not paused is left as it is.
    pub async fn unpause_container(&self, c: &ContainerRef) -> Result<()> {
        const WHAT: &str = "unpause the container";
        match self.again(WHAT, self.answer, || self.docker.unpause_container(c.as_str())).await?.0 {
            Ok(()) => Ok(()),
            Err(e) if failure::says(&e, "not paused") => Ok(()),
            Err(e) => Err(self.failed(WHAT, e)),
        }
    }

    /// Renames; `false`: the new name is taken (somebody else was first) or the container is gone.
    ///
    /// `c` must be an id. Where the answer was lost, the container's name tells; so a name that decides a race must be one that nobody else gives.
    pub async fn rename_container(&self, c: &ContainerRef, name: &ObjectName) -> Result<bool> {
        const WHAT: &str = "rename the container";
        let options = query::RenameContainerOptionsBuilder::default().name(name.as_str()).build();
        let mut outcome = self.short(WHAT, self.docker.rename_container(c.as_str(), options.clone())).await?;
        if outcome.as_ref().is_err_and(|e| failure::fate(e) == Fate::Unknown) {
            match self.inspect_container(c).await? {
                None => return Ok(false),
                Some(facts) if facts.name == name.as_str() => return Ok(true),
                Some(_) => outcome = self.short(WHAT, self.docker.rename_container(c.as_str(), options)).await?,
            }
        }
        match outcome {
            Ok(()) => Ok(true),
            Err(e) if matches!(failure::status(&e), Some(404 | 409)) => Ok(false),
            // Named by id after somebody else gave it that very name.
            Err(e) if failure::says(&e, "same name") => Ok(false),
            Err(e) => Err(self.failed(WHAT, e)),
        }
    }

    /// Removes it by force; `false`: it was gone, or is being removed by another.
    pub async fn remove_container(&self, c: &ContainerRef) -> Result<bool> {
        const WHAT: &str = "remove the container";
        let options = query::RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let call = || self.docker.remove_container(c.as_str(), Some(options.clone()));
        let (outcome, repeated) = self.again(WHAT, self.removal_limit(), call).await?;
        match outcome {
            Ok(()) => Ok(true),
            // Gone between two tries of ours.
            Err(e) if failure::not_found(&e) => Ok(repeated),
            Err(e) if failure::says(&e, "already in progress") => Ok(false),
            Err(e) => Err(self.failed(WHAT, e)),
        }
    }

    /// Removes it only if it was never started. That it does not run, the engine decides together with every start of it; whether it has run and ended, which the engine's
    /// removal does not ask, is looked at right before: a start, a run and its end take longer than the way from one to the other.
    pub async fn remove_unstarted(&self, c: &ContainerRef) -> Result<Removal> {
        const WHAT: &str = "remove the container";
        match self.inspect_container(c).await? {
            None => return Ok(Removal::Gone),
            Some(facts) if facts.started_unix_ms.is_none() || crate::weaken::off("fault.never_started") => {}
            Some(_) => return Ok(Removal::Started),
        }
        let options = query::RemoveContainerOptionsBuilder::default().v(true).build();
        let call = || self.docker.remove_container(c.as_str(), Some(options.clone()));
        let (outcome, repeated) = self.again(WHAT, self.removal_limit(), call).await?;
        match outcome {
            Ok(()) => Ok(Removal::Removed),
            // Gone between two tries of ours.
            Err(e) if failure::not_found(&e) && repeated => Ok(Removal::Removed),
            Err(e) if failure::not_found(&e) || failure::says(&e, "already in progress") => Ok(Removal::Gone),
            // "You cannot remove a running container", or a paused one.
            Err(e) if failure::status(&e) == Some(409) => Ok(Removal::Started),
            Err(e) => Err(self.failed(WHAT, e)),
        }
    }

    /// Facts; `None`: no such container.
    pub async fn inspect_container(&self, c: &ContainerRef) -> Result<Option<ContainerFacts>> {
        const WHAT: &str = "inspect the container";
        match self.read(WHAT, || self.docker.inspect_container(c.as_str(), None::<query::InspectContainerOptions>)).await? {
            Ok(answer) => answers::from_inspect(answer).map(Some),
            Err(e) if failure::not_found(&e) => Ok(None),
            Err(e) => Err(self.failed(WHAT, e)),
        }
    }

    /// Containers in any state that carry all these labels.
    pub async fn list_containers(&self, labels: &[(&str, &str)]) -> Result<Vec<ContainerFacts>> {
        const WHAT: &str = "list containers";
        let options = query::ListContainersOptionsBuilder::default().all(true).filters(&label_filter(labels)).build();
        let rows = self.read(WHAT, || self.docker.list_containers(Some(options.clone()))).await?.map_err(|e| self.failed(WHAT, e))?;
        rows.into_iter().map(answers::from_summary).collect()
    }

    /// Waits until it does not run; its exit code. One that never started gives 0 at once.
    pub async fn wait_container(&self, c: &ContainerRef) -> Result<i64> {
        const WHAT: &str = "wait for the container";
        let options = query::WaitContainerOptionsBuilder::default().condition("not-running").build();
        let mut answers = Box::pin(self.docker.wait_container(c.as_str(), Some(options)));
        match answers.next().await {
            Some(Ok(answer)) => Ok(answer.status_code),
            // bollard puts an exit code above 0 into the error channel.
            Some(Err(Bollard::DockerContainerWaitError { code, error })) if error.is_empty() => Ok(code),
            Some(Err(e)) => Err(self.failed(WHAT, e)),
            None => Err(Error::new(Code::EngineUnavailable, format!("{WHAT}: the engine closed the connection"))),
        }
    }

    /// Its standard output (demultiplexed), from the start or the last `tail` lines, to its end with `follow`.
    ///
    /// A container that is not there is an error in the stream.
    pub async fn logs(&self, c: &ContainerRef, follow: bool, tail: Option<u32>) -> Result<ByteStream> {
        let tail = tail.map_or_else(|| "all".to_owned(), |n| n.to_string());
        let options = query::LogsOptionsBuilder::default().stdout(true).stderr(false).follow(follow).tail(&tail).build();
        const WHAT: &str = "read the container's log";
        let stream = streams::stdout_only(self.docker.logs(c.as_str(), Some(options)), WHAT, self.host.clone());
        // One that is followed may well be silent.
        Ok(if follow { stream } else { self.steady(stream, WHAT) })
    }

    /// Unpacks a tar stream under `path` in the container.
    ///
    /// The first entry must be `./`: an engine looks at the first bytes for a compressed archive.
    pub async fn upload(&self, c: &ContainerRef, path: &str, body: UploadStream) -> Result<()> {
        const WHAT: &str = "upload to the container";
        let options = query::UploadToContainerOptionsBuilder::default().path(path).no_overwrite_dir_non_dir("true").build();
        // How long it takes is up to the body.
        let call = |body| self.docker.upload_to_container(c.as_str(), Some(options), bollard::body_try_stream(body));
        self.while_taken(WHAT, body, call).await?.map_err(|e| self.failed(WHAT, e))
    }

    /// A tar stream of `path` in the container; `None`: no such path.
    pub async fn download(&self, c: &ContainerRef, path: &str) -> Result<Option<ByteStream>> {
        const WHAT: &str = "download from the container";
        let options = query::DownloadFromContainerOptionsBuilder::default().path(path).build();
        // The engine's answer comes with the first chunk; an archive is never empty.
        let open = || async {
            let mut chunks = Box::pin(self.docker.download_from_container(c.as_str(), Some(options.clone())));
            chunks.next().await.transpose().map(|first| (first, chunks))
        };
        match self.read(WHAT, open).await? {
            Ok((Some(first), chunks)) => {
                let whole = futures_util::stream::once(std::future::ready(Ok(first))).chain(chunks);
                Ok(Some(self.steady(streams::bytes(whole, WHAT, self.host.clone()), WHAT)))
            }
            Ok((None, _)) => Err(Error::new(Code::EngineError, format!("{WHAT}: the engine sent nothing"))),
            Err(e) if failure::not_found(&e) => Ok(None),
            Err(e) => Err(self.failed(WHAT, e)),
        }
    }

    /// Runs a program in a running container. One that does not run is [`Code::EngineError`] with detail `status: 409`.
    pub async fn exec(&self, c: &ContainerRef, argv: &[&str], user: &str) -> Result<ExecSession> {
        const WHAT: &str = "run a program in the container";
        let config = ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(false),
            tty: Some(false),
            privileged: Some(false),
            cmd: Some(argv.iter().map(|&a| a.to_owned()).collect()),
            user: Some(user.to_owned()),
            working_dir: Some("/".to_owned()),
            ..Default::default()
        };
        let made = self.short(WHAT, self.docker.create_exec(c.as_str(), config)).await?.map_err(|e| self.failed(WHAT, e))?;
        if !made.id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::new(Code::EngineError, format!("{WHAT}: the engine answered with a malformed id")));
        }
        let started = self.short(WHAT, self.docker.start_exec(&made.id, None)).await?.map_err(|e| self.failed(WHAT, e))?;
        match started {
            bollard::exec::StartExecResults::Attached { output, input } => {
                let stdout = streams::stdout_only(output, WHAT, self.host.clone());
                Ok(ExecSession { input, output: Box::pin(StreamReader::new(Box::pin(streams::as_io(stdout)))) })
            }
            bollard::exec::StartExecResults::Detached => Err(Error::new(Code::EngineError, format!("{WHAT}: the engine detached from it"))),
        }
    }

    /// Volumes that carry all these labels, with their labels.
    pub async fn list_volumes(&self, labels: &[(&str, &str)]) -> Result<Vec<(ObjectName, BTreeMap<String, String>)>> {
        const WHAT: &str = "list volumes";
        self.volumes(WHAT, label_filter(labels)).await
    }

    /// The same for those alone that no container has: of hundreds of jobs a short answer, where all would be megabytes of labels.
    pub async fn list_unused_volumes(&self, labels: &[(&str, &str)]) -> Result<Vec<(ObjectName, BTreeMap<String, String>)>> {
        const WHAT: &str = "list volumes without a container";
        let mut filter = label_filter(labels);
        filter.insert("dangling".to_owned(), vec!["true".to_owned()]);
        self.volumes(WHAT, filter).await
    }

    async fn volumes(&self, what: &str, filter: HashMap<String, Vec<String>>) -> Result<Vec<(ObjectName, BTreeMap<String, String>)>> {
        let options = query::ListVolumesOptionsBuilder::default().filters(&filter).build();
        let answer = self.read(what, || self.docker.list_volumes(Some(options.clone()))).await?.map_err(|e| self.failed(what, e))?;
        answer.volumes.unwrap_or_default().into_iter().map(|v| Ok((ObjectName::parse(&v.name)?, v.labels.into_iter().collect()))).collect()
    }

    /// Whether this engine's local volumes take a size: it says so only when one is made.
    pub async fn has_volume_quota(&self) -> Result<bool> {
        const WHAT: &str = "try a volume with a quota";
        let name = format!("anchorhold-quota-{}", uuid::Uuid::new_v4().simple());
        let request = bollard::models::VolumeCreateRequest {
            name: Some(name.clone()),
            driver: Some("local".to_owned()),
            driver_opts: Some(HashMap::from([("size".to_owned(), "1048576".to_owned())])),
            labels: Some(HashMap::from([("anchorhold.quota".to_owned(), "trial".to_owned())])),
            ..Default::default()
        };
        match self.short(WHAT, self.docker.create_volume(request)).await? {
            Ok(_) => {
                self.remove_volume(&ObjectName::parse(&name)?).await?;
                Ok(true)
            }
            Err(e) if failure::status(&e).is_some() => Ok(false),
            Err(e) => Err(self.failed(WHAT, e)),
        }
    }

    /// Removes a volume; `false`: it was gone. In use: [`crate::error::Code::EngineError`] with detail `in_use: true`.
    pub async fn remove_volume(&self, name: &ObjectName) -> Result<bool> {
        const WHAT: &str = "remove the volume";
        let call = || self.docker.remove_volume(name.as_str(), None::<query::RemoveVolumeOptions>);
        let (outcome, repeated) = self.again(WHAT, self.removal_limit(), call).await?;
        match outcome {
            Ok(()) => Ok(true),
            Err(e) if failure::not_found(&e) => Ok(repeated),
            Err(e) if failure::status(&e) == Some(409) => Err(self.failed(WHAT, e).with_detail("in_use", true)),
            Err(e) => Err(self.failed(WHAT, e)),
        }
    }

    /// Facts; `None`: no such image.
    pub async fn inspect_image(&self, name: &str) -> Result<Option<ImageFacts>> {
        const WHAT: &str = "inspect the image";
        spec::check_image_name(name)?;
        match self.read(WHAT, || self.docker.inspect_image(name)).await? {
            Ok(answer) => Ok(Some(answers::from_image(answer))),
            Err(e) if failure::not_found(&e) => Ok(None),
            Err(e) => Err(self.failed(WHAT, e)),
        }
    }

    pub(super) fn failed(&self, what: &str, error: Bollard) -> Error {
        failure::translate(what, &self.host, error)
    }
}

/// The error for a runtime image that is not on the engine.
pub(super) fn image_missing(name: &str) -> Error {
    Error::new(Code::ImageMissing, format!("find the image {name} on the engine"))
        .with_detail("image", name)
        .with_hint("run `anchorhold image build`")
}

pub(super) fn label_filter(labels: &[(&str, &str)]) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), labels.iter().map(|(name, value)| format!("{name}={value}")).collect())])
}
