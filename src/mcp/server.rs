//! The handler that rmcp drives.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CancelTaskParams, GetTaskParams, GetTaskResult, Implementation, InitializeRequestParams,
    InitializeResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams,
    ReadResourceResponse, ServerCapabilities, ServerConfig, SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
    UpdateTaskParams,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::arguments::Arguments;
use super::call::{self, Answer, Meta};
use super::counters::Counters;
use super::reach::Reach;
use super::start::{self, TaskAnswer};
use super::subscriptions::Subscriptions;
use super::tools::{self, ToolName};
use super::workspace::Roots;
use super::{capabilities, contracts, jobs, models, previews, resources, status, tasks, transfer};
use crate::error::{Code, Error};
use crate::job::{JobId, Jobs};
use crate::protocol::request::JobKind;
use crate::telemetry::TraceContext;

/// What all clients of a process have in common.
pub struct Shared {
    jobs: Jobs,
    tools: Vec<Tool>,
    /// None over HTTP: a client from elsewhere means nothing by it.
    own_directory: Option<PathBuf>,
    closed: CancellationToken,
    calls: TaskTracker,
    reach: Reach,
    counters: Arc<Counters>,
    /// A connection stands for its client until it ends; else each request stands for itself.
    connected: bool,
}

/// One client's server; over HTTP one request's.
pub struct Server {
    shared: Arc<Shared>,
    subscriptions: Subscriptions,
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
    /// This process's directory, where the client shares this machine with it.
    pub own_directory: Option<&'a Path>,
    /// Which jobs this client reaches.
    pub reach: &'a Reach,
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

impl Shared {
    /// Of a server for clients over HTTP. `closed` says that it ends, `calls` holds what it answers.
    pub fn over_http(jobs: Jobs, closed: CancellationToken, calls: TaskTracker, reach: Reach, counters: Arc<Counters>) -> Self {
        Self { jobs, tools: tools::definitions(), own_directory: None, closed, calls, reach, counters, connected: false }
    }
}

impl Server {
    /// Of one client on this machine. Nothing is connected to. `closed` says that the client is gone.
    pub fn new(jobs: Jobs, closed: CancellationToken) -> Self {
        let own_directory = Some(std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")));
        let (calls, reach, counters) = (TaskTracker::new(), Reach::default(), Arc::default());
        Self::of(Arc::new(Shared { jobs, tools: tools::definitions(), own_directory, closed, calls, reach, counters, connected: true }))
    }

    /// Of one client, or one request, with what it has in common with others.
    pub fn of(shared: Arc<Shared>) -> Self {
        let subscriptions = Subscriptions::new(shared.closed.clone());
        Self { shared, subscriptions }
    }

    /// The calls that are being answered; rmcp does not wait for them when the client is gone.
    pub fn calls(&self) -> TaskTracker {
        self.shared.calls.clone()
    }

    /// The same of a task.
    async fn task_within_reach(&self, task_id: &str) -> Result<(), ErrorData> {
        match task_id.parse::<JobId>() {
            Ok(id) => self.shared.reach.check(&self.shared.jobs, &id).await.map_err(|e| tasks::refused(&e)),
            Err(_) => Ok(()),
        }
    }

    /// The job of a resource, where this client reaches it; what is no id of a job is left to whoever reads it.
    async fn within_reach(&self, id: Option<JobId>) -> Result<(), ErrorData> {
        match id {
            Some(id) => self.shared.reach.check(&self.shared.jobs, &id).await.map_err(|e| resources::protocol_error(&e)),
            None => Ok(()),
        }
    }

    fn call<'a>(
        &'a self,
        tool: ToolName,
        request: &CallToolRequestParams,
        context: &'a RequestContext<RoleServer>,
    ) -> crate::error::Result<Call<'a>> {
        Ok(Call {
            jobs: &self.shared.jobs,
            arguments: Arguments::check(tool.parameters(), request.arguments.as_ref())?,
            context,
            request_id: context.id.to_string(),
            own_directory: self.shared.own_directory.as_deref(),
            reach: &self.shared.reach,
            closed: &self.shared.closed,
        })
    }

    async fn answer(&self, tool: ToolName, request: &CallToolRequestParams, context: &RequestContext<RoleServer>) -> Answer {
        let call = self.call(tool, request, context)?;
        self.shared.reach.check_arguments(&self.shared.jobs, request.arguments.as_ref()).await?;
        match tool {
            ToolName::Status => status::status(&call).await,
            ToolName::Capabilities => capabilities::capabilities(&call),
            ToolName::Models => models::models(&call),
            ToolName::Transfer => transfer::transfer(&call).await,
            ToolName::DryRun => previews::review(&call).await,
            ToolName::DelegateDryRun => previews::delegate(&call).await,
            ToolName::Delegate => start::awaited(&call, JobKind::Delegate).await,
            ToolName::DelegateAsync => start::in_background(&call, JobKind::Delegate).await,
            ToolName::Consult => start::awaited(&call, JobKind::Consult).await,
            ToolName::ConsultAsync => start::in_background(&call, JobKind::Consult).await,
            ToolName::Review => start::awaited(&call, JobKind::Review).await,
            ToolName::ReviewAsync => start::in_background(&call, JobKind::Review).await,
            ToolName::JobStatus => jobs::status(&call).await,
            ToolName::JobResult => jobs::result(&call).await,
            ToolName::JobConsumeResult => jobs::consume(&call).await,
            ToolName::JobCancel => jobs::cancel(&call).await,
            ToolName::JobList => jobs::list(&call).await,
        }
    }
}

/// Nobody is there to be told of anything once the request is answered.
fn without_connection() -> Error {
    Error::new(Code::Unsupported, "subscribe: over HTTP there are no sessions that a subscription could belong to")
        .with_hint("call codex_job_status with wait_seconds, or use subscriptions/listen of protocol revision 2026-07-28")
}

/// Whether whoever makes this request takes a task for an answer.
fn takes_tasks(context: &RequestContext<RoleServer>) -> bool {
    context.client_capabilities().is_some_and(|capabilities| capabilities.supports_tasks())
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_resources().enable_resources_subscribe().enable_tasks().build())
            .with_server_info(Implementation::new("anchorhold", call::SERVER_VERSION).with_title("Anchorhold"))
            .with_instructions(tools::INSTRUCTIONS)
    }

    async fn initialize(&self, request: InitializeRequestParams, context: RequestContext<RoleServer>) -> Result<InitializeResult, ErrorData> {
        context.peer.set_peer_info(request.clone());
        let mut answer = self.negotiate_initialize(&request)?;
        if !self.shared.connected
            && let Some(resources) = &mut answer.capabilities.resources
        {
            // What this era subscribes with needs a connection.
            resources.subscribe = None;
        }
        Ok(answer)
    }

    fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> impl Future<Output = Result<ListToolsResult, ErrorData>> + Send + '_ {
        // The list is a constant of this build, but for whom takes tasks the background tools have another result.
        let (tools, scope) = match takes_tasks(&context) {
            true => (tools::definitions_with_tasks(), CacheScope::Private),
            false => (self.shared.tools.clone(), CacheScope::Public),
        };
        let list = ListToolsResult::with_all_items(tools).with_ttl_ms(3_600_000).with_cache_scope(scope);
        std::future::ready(Ok(list))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.shared.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(&self, request: CallToolRequestParams, context: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        let Some(tool) = ToolName::parse(&request.name) else {
            return Err(ErrorData::invalid_params("tool not found", None));
        };
        let request_id = context.id.to_string();
        let answer = match tool.starts().filter(|_| takes_tasks(&context)) {
            Some((kind, _)) => {
                let started = async {
                    let call = self.call(tool, &request, &context)?;
                    self.shared.reach.check_arguments(&self.shared.jobs, request.arguments.as_ref()).await?;
                    start::as_task(&call, tool, kind).await
                };
                match self.shared.calls.track_future(started).await {
                    Ok(TaskAnswer::Job(status)) => {
                        self.shared.counters.call(tool.as_str(), "ok");
                        return Ok(tasks::handle(&status).into());
                    }
                    Ok(TaskAnswer::Whole(reply)) => Ok(reply),
                    Err(failure) => Err(failure),
                }
            }
            None => self.shared.calls.track_future(self.answer(tool, &request, &context)).await,
        };
        self.shared.counters.call(tool.as_str(), answer.as_ref().err().map_or("ok", |failure| failure.error.code.as_str()));
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
        let list = ListResourcesResult::with_all_items(contracts::list()).with_ttl_ms(3_600_000).with_cache_scope(CacheScope::Public);
        std::future::ready(Ok(list))
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
        if let Some(contract) = contracts::Contract::parse(&request.uri) {
            return Ok(contracts::read(contract, &self.shared.jobs.settings().model).into());
        }
        self.within_reach(resources::parse(&request.uri).map(|(id, _)| id)).await?;
        self.shared.calls.track_future(resources::read(&self.shared.jobs, &request.uri)).await.map(Into::into)
    }

    async fn subscribe(&self, request: SubscribeRequestParams, context: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        if !self.shared.connected {
            return Err(resources::protocol_error(&without_connection()));
        }
        self.shared.calls.track_future(self.subscriptions.subscribe(&self.shared.jobs, request.uri, context.peer, &self.shared.calls)).await
    }

    async fn unsubscribe(&self, request: UnsubscribeRequestParams, _context: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.subscriptions.unsubscribe(&request.uri);
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(self.subscriptions.accepted(requested))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        self.shared.calls.track_future(self.subscriptions.listen(&self.shared.jobs, &self.shared.reach, &context)).await
    }

    async fn get_task(&self, request: GetTaskParams, context: RequestContext<RoleServer>) -> Result<GetTaskResult, ErrorData> {
        self.task_within_reach(&request.task_id).await?;
        self.shared.calls.track_future(tasks::get(&self.shared.jobs, &request.task_id, &context.id.to_string())).await
    }

    async fn update_task(&self, request: UpdateTaskParams, _context: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.task_within_reach(&request.task_id).await?;
        self.shared.calls.track_future(tasks::update(&self.shared.jobs, &request.task_id)).await
    }

    async fn cancel_task(&self, request: CancelTaskParams, _context: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.task_within_reach(&request.task_id).await?;
        self.shared.calls.track_future(tasks::cancel(&self.shared.jobs, &request.task_id)).await
    }
}
