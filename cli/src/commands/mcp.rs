//! `c3 mcp`: serves one agent over standard input and output.

use std::ffi::OsString;
use std::path::PathBuf;

use c3_client::Client;
use c3_mcp::{Files, McpServer, serve_stdio};
use c3_server::arguments::ignore_empty_variables;
use clap::{Args, FromArgMatches};

use crate::args::TargetArgs;
use crate::embedded::EmbeddedCluster;
use crate::error::CliError;

/// Arguments of `mcp`.
#[derive(Debug, clap::Args)]
pub(crate) struct McpArgs {
    /// Folder whose files the agent may store; may be repeated [default: none]
    #[arg(long = "files", value_name = "DIR")]
    files: Vec<PathBuf>,
    /// Run servers in this process on the store in this folder, also if a gateway is configured [default: the store of
    /// `c3 serve`, unless a gateway is configured]
    #[arg(long, value_name = "FOLDER")]
    data: Option<OsString>,
    #[command(flatten)]
    target: TargetArgs,
}

/// Serves until standard input ends. Answers at once, also while the gateway or the servers in this process start.
pub(crate) async fn run(args: McpArgs) -> Result<(), CliError> {
    let files = Files::open(&args.files).map_err(|error| CliError::Usage(error.to_string()))?;
    let serve = async |client| {
        serve_stdio(McpServer::new(client, files)).await.map_err(|error| CliError::Failed(error.to_string()))
    };
    let remote = &args.target.remote;
    if args.data.is_none() && remote.gateway.is_some() {
        return serve(Client::connect_lazy(remote.url(), &remote.options()?)?).await;
    }
    let (mut cluster, url) = EmbeddedCluster::start_local(gateway_config(args.data)?, &args.target.model).await?;
    let remote = remote.at(url);
    let client = Client::connect_lazy(remote.url(), &remote.options()?)?;
    cluster.run_until(serve(client)).await
}

/// Returns the configuration of a gateway, from its environment variables and the folder of its store.
fn gateway_config(data: Option<OsString>) -> Result<c3_gateway::Config, CliError> {
    let flags = data.map(|data| [OsString::from("--data"), data]);
    let command = c3_gateway::Config::augment_args(clap::Command::new("gateway").no_binary_name(true));
    let matches = ignore_empty_variables(command).try_get_matches_from(flags.into_iter().flatten())?;
    Ok(c3_gateway::Config::from_arg_matches(&matches)?.with_cloud(std::env::vars_os()))
}
