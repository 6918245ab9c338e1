//! The server: what it offers, and how it answers.

use std::sync::Arc;

use c3_client::{ApiKey, Client, ClientOptions};
use http::header::AUTHORIZATION;
use http::request::Parts;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams, CompleteResult,
    ContentBlock, ErrorCode, Implementation, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tonic::transport::Channel;
use tracing::Instrument;

use crate::call::Call;
use crate::files::Files;
use crate::{resources, tools};

/// Told to the model once.
const INSTRUCTIONS: &str = "Memory for long texts. `store` what you will not need for a while (logs, files, tool \
    results, old conversation) and keep the handle; `recall` returns it exactly, whole or in part; `find` searches what \
    is stored.";
/// Time for which clients may cache what changes only with the version of the server, in milliseconds.
const HOUR_MS: u64 = 3_600_000;
/// Code of the error of a cancelled request. Clients do not wait for it.
const CANCELLED: ErrorCode = ErrorCode(-32800);

/// MCP server of a gateway.
#[derive(Clone, Debug)]
pub struct McpServer {
    gateway: Gateway,
    files: Arc<Files>,
}

#[derive(Clone, Debug)]
enum Gateway {
    /// Calls are made by this client.
    Client(Client),
    /// Calls are made over this channel, with the key of the request that causes them.
    Channel(Channel),
}

impl McpServer {
    /// Returns a server for one agent, whose calls are made by `client`. It reads only `files`.
    pub fn new(client: Client, files: Files) -> Self {
        Self { gateway: Gateway::Client(client), files: Arc::new(files) }
    }

    /// Returns a server for agents that connect over HTTP. Each call over `channel` has the key of its agent.
    pub(crate) fn of_channel(channel: Channel) -> Self {
        Self { gateway: Gateway::Channel(channel), files: Arc::new(Files::default()) }
    }

    fn call<'a>(&'a self, context: &'a RequestContext<RoleServer>) -> Result<Call<'a>, ErrorData> {
        let client = match &self.gateway {
            Gateway::Client(client) => client.clone(),
            Gateway::Channel(channel) => Client::over(channel.clone(), &options(context)?),
        };
        Ok(Call::new(client, &self.files, context))
    }
}

/// Returns the options of a client with the key of the HTTP request, if it has one.
fn options(context: &RequestContext<RoleServer>) -> Result<ClientOptions, ErrorData> {
    let headers = context.extensions.get::<Parts>().map(|parts| &parts.headers);
    let token = headers.and_then(|headers| headers.get(AUTHORIZATION)).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.split_once(' ')).map(|(_, token)| ApiKey::new(token));
    let api_key = token.transpose().map_err(|error| ErrorData::invalid_request(error.to_string(), None))?;
    Ok(ClientOptions { api_key, ..ClientOptions::default() })
}

/// Runs `work` until the client cancels the request. Dropping the work ends its calls on the gateway and its nodes.
async fn until_cancelled<T>(
    context: &RequestContext<RoleServer>,
    work: impl Future<Output = Result<T, ErrorData>>,
) -> Result<T, ErrorData> {
    let cancelled = || ErrorData::new(CANCELLED, "the request was cancelled", None);
    context.ct.run_until_cancelled(work).await.unwrap_or_else(|| Err(cancelled()))
}

impl ServerHandler for McpServer {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_resources().enable_completions().build();
        let mut implementation = Implementation::new("c3-serve", env!("CARGO_PKG_VERSION"));
        implementation.title = Some("C3 Serve".to_owned());
        ServerConfig::new(capabilities).with_server_info(implementation).with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = ListToolsResult::with_all_items(tools::list(!self.files.is_empty()));
        Ok(tools.with_ttl_ms(HOUR_MS).with_cache_scope(CacheScope::Public))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let call = self.call(&context)?;
        let work = async {
            let arguments = request.arguments.clone().unwrap_or_default();
            let Some(result) = tools::call(&request.name, arguments, &call).await else {
                let problem = format!("no tool is named `{}`: see tools/list", request.name);
                return Err(ErrorData::invalid_params(problem, None));
            };
            // The model reads an error of a tool, but not one of the protocol.
            let failed =
                |error: crate::error::Error| CallToolResult::error(vec![ContentBlock::text(error.to_string())]);
            Ok(result.map_or_else(failed, tools::Output::into_result))
        };
        let span = tracing::info_span!(parent: None, "mcp", otel.name = format!("tools/call {}", request.name));
        Ok(until_cancelled(&context, work.instrument(span)).await?.into())
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let cursor = request.and_then(|request| request.cursor);
        until_cancelled(&context, resources::list(&self.call(&context)?, cursor.as_deref())).await
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let templates = ListResourceTemplatesResult::with_all_items(resources::templates());
        Ok(templates.with_ttl_ms(HOUR_MS).with_cache_scope(CacheScope::Public))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let result = until_cancelled(&context, resources::read(&self.call(&context)?, &request.uri)).await?;
        Ok(result.into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        until_cancelled(&context, resources::complete(&self.call(&context)?, &request)).await
    }
}
