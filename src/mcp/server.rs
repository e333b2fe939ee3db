//! The handler that rmcp drives.

use std::path::PathBuf;

use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, Implementation, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::arguments::Arguments;
use super::call::{self, Answer, Meta};
use super::tools::{self, ToolName};
use super::workspace::Roots;
use super::{delegate, jobs, resources, status};
use crate::job::Jobs;
use crate::telemetry::TraceContext;

/// One client's server.
pub struct Server {
    jobs: Jobs,
    tools: Vec<Tool>,
    own_directory: PathBuf,
    closed: CancellationToken,
    calls: TaskTracker,
}

/// What a handler gets to work with.
pub struct Call<'a> {
    /// The domain.
    pub jobs: &'a Jobs,
    /// Checked arguments.
    pub arguments: Arguments,
    /// The request, and the client that made it.
    pub context: &'a RequestContext<RoleServer>,
    /// Of this request, as text.
    pub request_id: String,
    /// This process's directory.
    pub own_directory: &'a PathBuf,
    /// The client is gone.
    pub closed: &'a CancellationToken,
}

impl Call<'_> {
    /// A meta block for this call.
    pub fn meta(&self) -> Meta {
        Meta::new(&self.request_id)
    }

    /// The place in a trace that the client names, as the protocol's convention has it; `None` where it is not well-formed.
    pub fn trace(&self) -> Option<TraceContext> {
        let text = |key: &str| self.context.meta.get(key).and_then(serde_json::Value::as_str);
        TraceContext::parse(text("traceparent")?, text("tracestate"))
    }

    /// The client's roots.
    pub async fn roots(&self) -> Roots {
        Roots::ask(self.context).await
    }
}

impl Server {
    /// Nothing is connected to. `closed` says that the client is gone.
    pub fn new(jobs: Jobs, closed: CancellationToken) -> Self {
        let own_directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        Self { jobs, tools: tools::definitions(), own_directory, closed, calls: TaskTracker::new() }
    }

    /// The calls that are being answered; rmcp does not wait for them when the client is gone.
    pub fn calls(&self) -> TaskTracker {
        self.calls.clone()
    }

    async fn answer(&self, tool: ToolName, request: CallToolRequestParams, request_id: &str, context: &RequestContext<RoleServer>) -> Answer {
        let arguments = Arguments::check(tool.parameters(), request.arguments.as_ref())?;
        let call = Call {
            jobs: &self.jobs,
            arguments,
            context,
            request_id: request_id.to_owned(),
            own_directory: &self.own_directory,
            closed: &self.closed,
        };
        match tool {
            ToolName::Status => status::status(&call).await,
            ToolName::Delegate => delegate::delegate(&call).await,
            ToolName::DelegateAsync => delegate::delegate_async(&call).await,
            ToolName::JobStatus => jobs::status(&call).await,
            ToolName::JobResult => jobs::result(&call).await,
            ToolName::JobConsumeResult => jobs::consume(&call).await,
            ToolName::JobCancel => jobs::cancel(&call).await,
            ToolName::JobList => jobs::list(&call).await,
        }
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_resources().build())
            .with_server_info(Implementation::new("anchorhold", call::SERVER_VERSION).with_title("Anchorhold"))
            .with_instructions(tools::INSTRUCTIONS)
    }

    fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> impl Future<Output = Result<ListToolsResult, ErrorData>> + Send + '_ {
        // The list is a constant of this build.
        let list = ListToolsResult::with_all_items(self.tools.clone()).with_ttl_ms(3_600_000).with_cache_scope(CacheScope::Public);
        std::future::ready(Ok(list))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(&self, request: CallToolRequestParams, context: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        let Some(tool) = ToolName::parse(&request.name) else {
            return Err(ErrorData::invalid_params("tool not found", None));
        };
        let request_id = context.id.to_string();
        let answer = self.calls.track_future(self.answer(tool, request, &request_id, &context)).await;
        if let Err(failure) = &answer {
            tracing::info!(tool = tool.as_str(), code = failure.error.code.as_str(), "call failed");
        }
        Ok(call::to_result(answer, tool, &request_id).into())
    }

    fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> impl Future<Output = Result<ListResourcesResult, ErrorData>> + Send + '_ {
        // A job's resources are reached by its id, through the templates; codex_job_list finds ids.
        std::future::ready(Ok(ListResourcesResult::default()))
    }

    fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> impl Future<Output = Result<ListResourceTemplatesResult, ErrorData>> + Send + '_ {
        let list = ListResourceTemplatesResult::with_all_items(resources::templates()).with_ttl_ms(3_600_000).with_cache_scope(CacheScope::Public);
        std::future::ready(Ok(list))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        self.calls.track_future(resources::read(&self.jobs, &request.uri)).await.map(Into::into)
    }
}
