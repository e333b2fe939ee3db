//! [`Engine`]: the calls we make.

use std::collections::BTreeMap;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{ContainerFacts, ContainerId, ContainerRef, ContainerSpec, EngineFacts, ImageFacts, ObjectName};
use crate::config::EngineSettings;
use crate::error::{Error, Result};

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

/// A connection to one engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {}

impl Engine {
    /// Finds the engine (setting, `DOCKER_HOST`, docker context, local socket) and negotiates the API version.
    pub async fn connect(_settings: &EngineSettings) -> Result<Self> {
        Err(Error::internal("not built"))
    }
    /// What the engine says about itself.
    pub async fn facts(&self) -> Result<EngineFacts> {
        Err(Error::internal("not built"))
    }
    /// Creates a container (and its volumes). A name that is taken is [`crate::error::Code::EngineError`] with detail `conflict: true`.
    pub async fn create_container(&self, _spec: &ContainerSpec) -> Result<(ContainerId, Vec<String>)> {
        Err(Error::internal("not built"))
    }
    /// Starts it; already running is fine.
    pub async fn start_container(&self, _c: &ContainerRef) -> Result<()> {
        Err(Error::internal("not built"))
    }
    /// Sends a signal by name, such as `SIGUSR1`; `false`: it does not run.
    pub async fn signal_container(&self, _c: &ContainerRef, _signal: &str) -> Result<bool> {
        Err(Error::internal("not built"))
    }
    /// Unfreezes a container that somebody paused.
    pub async fn unpause_container(&self, _c: &ContainerRef) -> Result<()> {
        Err(Error::internal("not built"))
    }
    /// Renames; `false`: the new name is taken (somebody else was first) or the container is gone.
    pub async fn rename_container(&self, _c: &ContainerRef, _name: &ObjectName) -> Result<bool> {
        Err(Error::internal("not built"))
    }
    /// Removes it by force; `false`: it was gone, or is being removed by another.
    pub async fn remove_container(&self, _c: &ContainerRef) -> Result<bool> {
        Err(Error::internal("not built"))
    }
    /// Facts; `None`: no such container.
    pub async fn inspect_container(&self, _c: &ContainerRef) -> Result<Option<ContainerFacts>> {
        Err(Error::internal("not built"))
    }
    /// Containers in any state that carry all these labels.
    pub async fn list_containers(&self, _labels: &[(&str, &str)]) -> Result<Vec<ContainerFacts>> {
        Err(Error::internal("not built"))
    }
    /// Waits until it does not run; its exit code.
    pub async fn wait_container(&self, _c: &ContainerRef) -> Result<i64> {
        Err(Error::internal("not built"))
    }
    /// Its standard output (demultiplexed), from the start or the last `tail` lines, to its end with `follow`.
    pub async fn logs(&self, _c: &ContainerRef, _follow: bool, _tail: Option<u32>) -> Result<ByteStream> {
        Err(Error::internal("not built"))
    }
    /// Unpacks a tar stream under `path` in the container.
    pub async fn upload(&self, _c: &ContainerRef, _path: &str, _body: UploadStream) -> Result<()> {
        Err(Error::internal("not built"))
    }
    /// A tar stream of `path` in the container; `None`: no such path.
    pub async fn download(&self, _c: &ContainerRef, _path: &str) -> Result<Option<ByteStream>> {
        Err(Error::internal("not built"))
    }
    /// Runs a program in a running container.
    pub async fn exec(&self, _c: &ContainerRef, _argv: &[&str], _user: &str) -> Result<ExecSession> {
        Err(Error::internal("not built"))
    }
    /// Volumes that carry all these labels, with their labels.
    pub async fn list_volumes(&self, _labels: &[(&str, &str)]) -> Result<Vec<(ObjectName, BTreeMap<String, String>)>> {
        Err(Error::internal("not built"))
    }
    /// Removes a volume; `false`: it was gone. In use: [`crate::error::Code::EngineError`].
    pub async fn remove_volume(&self, _name: &ObjectName) -> Result<bool> {
        Err(Error::internal("not built"))
    }
    /// Facts; `None`: no such image.
    pub async fn inspect_image(&self, _name: &str) -> Result<Option<ImageFacts>> {
        Err(Error::internal("not built"))
    }
}
