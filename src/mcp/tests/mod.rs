//! The server as a client sees it, as far as that needs no engine: both eras of the protocol, over an in-memory pipe.
#![expect(deprecated, reason = "roots are deprecated, and still what clients of 2025-11-25 send")]

mod protocol;
pub(crate) mod reference;
mod results;

use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, Implementation, ListRootsResult, ProtocolVersion, Root,
    RootsCapabilities,
};
use rmcp::service::{RequestContext, RoleClient, RunningService};
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt as _, ErrorData};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::job::Jobs;

/// The two eras.
fn eras() -> [ClientLifecycleMode; 2] {
    [ClientLifecycleMode::Initialize, ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }]
}

/// Settings with an engine that is not there.
fn no_engine() -> Jobs {
    let env = [("ANCHORHOLD_ENGINE_HOST", "unix:///nonexistent/engine.sock"), ("ANCHORHOLD_MODEL_UPSTREAM", "rehearsal")];
    let env: Vec<(String, String)> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Jobs::new(Settings::from_parts(None, None, &env).unwrap())
}

/// A client with roots; without any it does not declare that it could have some.
struct Client(Vec<String>);

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        if !self.0.is_empty() {
            capabilities.roots = Some(RootsCapabilities::default());
        }
        ClientConfig::new(capabilities, Implementation::new("test", "0"))
    }

    async fn list_roots(&self, _context: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        Ok(ListRootsResult::new(self.0.iter().map(Root::new).collect()))
    }
}

/// A client, and the server that it talks to.
struct Session {
    client: RunningService<RoleClient, Client>,
    server: JoinSet<crate::error::Result<()>>,
}

impl Session {
    async fn open(era: ClientLifecycleMode) -> Self {
        Self::with_roots(era, Vec::new()).await
    }

    async fn with_roots(era: ClientLifecycleMode, roots: Vec<String>) -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (input, output) = tokio::io::split(ours);
        let mut server = JoinSet::new();
        server.spawn(super::serve(no_engine(), input, output, CancellationToken::new()));
        let client = Client(roots).serve_with_lifecycle(theirs, era).await.unwrap();
        Self { client, server }
    }

    async fn call(&self, tool: &'static str, arguments: Value) -> CallToolResult {
        let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
        self.client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await.unwrap()
    }

    /// The error object of a call that must fail.
    async fn error(&self, tool: &'static str, arguments: Value) -> Value {
        let result = self.call(tool, arguments).await;
        assert_eq!(result.is_error, Some(true));
        let envelope = result.structured_content.unwrap();
        let text: Value = serde_json::from_str(&result.content[0].as_text().unwrap().text).unwrap();
        assert_eq!(text, envelope, "clients that read only the text get the same");
        assert_eq!(envelope["ok"], false);
        envelope["error"].clone()
    }

    async fn close(mut self) {
        self.client.cancel().await.unwrap();
        self.server.join_next().await.unwrap().unwrap().unwrap();
    }
}
