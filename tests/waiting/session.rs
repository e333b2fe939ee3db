//! A running server and its client.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, Implementation, ProgressNotificationParam, ProtocolVersion,
    ReadResourceRequestParams, ResourceContents, ResourceUpdatedNotificationParam,
};
use rmcp::service::{NotificationContext, RoleClient, RunningService};
use rmcp::transport::TokioChildProcess;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt as _, ServiceError};
use serde_json::{Value, json};

use crate::support::rehearsal::{Step, task};
use crate::support::{Environment, Repository};

pub const LEGACY: ClientLifecycleMode = ClientLifecycleMode::Initialize;

pub fn modern() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
}

/// What a client is told without having asked.
#[derive(Clone, Default)]
pub struct Heard {
    pub progress: Arc<Mutex<Vec<String>>>,
    pub updated: Arc<Mutex<Vec<String>>>,
    tasks: bool,
}

impl ClientHandler for Heard {
    fn get_info(&self) -> ClientConfig {
        let capabilities = match self.tasks {
            true => ClientCapabilities::builder().enable_tasks().build(),
            false => ClientCapabilities::default(),
        };
        ClientConfig::new(capabilities, Implementation::new("test", "0"))
    }

    async fn on_progress(&self, progress: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        self.progress.lock().unwrap().push(progress.message.unwrap_or_default());
    }

    async fn on_resource_updated(&self, update: ResourceUpdatedNotificationParam, _context: NotificationContext<RoleClient>) {
        self.updated.lock().unwrap().push(update.uri);
    }
}

pub struct Session {
    pub client: RunningService<RoleClient, Heard>,
    pub heard: Heard,
}

impl Session {
    pub async fn open(environment: &Environment, era: ClientLifecycleMode) -> Self {
        Self::with(environment, era, Heard::default()).await
    }

    /// A client that declares the tasks extension.
    pub async fn with_tasks(environment: &Environment, era: ClientLifecycleMode) -> Self {
        Self::with(environment, era, Heard { tasks: true, ..Heard::default() }).await
    }

    async fn with(environment: &Environment, era: ClientLifecycleMode, heard: Heard) -> Self {
        let command = tokio::process::Command::from(environment.anchorhold(&["mcp"]));
        let (transport, _) = TokioChildProcess::builder(command).stderr(Stdio::inherit()).spawn().unwrap();
        let client = heard.clone().serve_with_lifecycle(transport, era).await.unwrap();
        Self { client, heard }
    }

    pub async fn result(&self, tool: &'static str, arguments: Value) -> CallToolResult {
        let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
        self.client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await.unwrap()
    }

    /// The structured content of a call that must succeed.
    pub async fn call(&self, tool: &'static str, arguments: Value) -> Value {
        let content = self.result(tool, arguments).await.structured_content.unwrap();
        assert_eq!(content["ok"], true, "{tool}: {content:#}");
        content
    }

    /// The error of a call that must fail.
    pub async fn failure(&self, tool: &'static str, arguments: Value) -> Value {
        let content = self.result(tool, arguments).await.structured_content.unwrap();
        assert_eq!(content["ok"], false, "{tool}: {content:#}");
        content["error"].clone()
    }

    pub async fn start(&self, repository: &Repository, steps: &[Step<'_>]) -> String {
        let handle = self.call("codex_delegate_async", json!({"task": task(steps), "workspace_root": repository.text()})).await;
        handle["job_id"].as_str().unwrap().to_owned()
    }

    /// Waits as a client would, until the job is in that state.
    pub async fn until(&self, id: &str, state: &str) -> Value {
        let mut since = None::<String>;
        for _ in 0..40 {
            let status = self.call("codex_job_status", json!({"job_id": id, "wait_seconds": 20, "since_state": since})).await;
            if status["state"] == state {
                return status;
            }
            assert_eq!(status["result_available"], false, "it ended otherwise: {status:#}");
            since = Some(status["state"].as_str().unwrap().to_owned());
        }
        panic!("the job is never {state}");
    }

    pub async fn read(&self, uri: &str) -> Result<Value, ServiceError> {
        let read = self.client.read_resource(ReadResourceRequestParams::new(uri)).await?;
        let ResourceContents::TextResourceContents { text, .. } = &read.contents[0] else { panic!("text") };
        Ok(serde_json::from_str(text).unwrap())
    }

    /// How often an address was told to have changed.
    pub fn updates(&self, uri: &str) -> usize {
        self.heard.updated.lock().unwrap().iter().filter(|told| *told == uri).count()
    }

    /// Waits, with much patience, until it was told more than `before` times.
    pub async fn updated(&self, uri: &str, before: usize) {
        eventually("an update", || self.updates(uri) > before).await;
    }

    pub async fn close(self) {
        self.client.cancel().await.unwrap();
    }
}

/// Waits until something is so.
pub async fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}
