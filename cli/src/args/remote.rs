//! Arguments for the gateway that a command calls and for the format of its result.

use std::path::PathBuf;

use c3_client::{ApiKey, Client, ClientOptions, Stage};
use c3_proto::FromWire;
use c3_server::tls::TlsArgs;
use c3_types::Description;
use clap::builder::BoolishValueParser;

use super::{ModelArgs, WriteArgs};
use crate::error::CliError;
use crate::notice;
use crate::output::Format;

/// Default URL of the gateway, at which `c3 serve` listens by default.
const DEFAULT_GATEWAY: &str = "http://127.0.0.1:7300";

/// Environment variable with the API key. It is no default of an argument, so that no help or error shows it.
pub(crate) const KEY_VARIABLE: &str = "C3_API_KEY";

/// Help heading of the arguments below. Without it, clap would list them under the heading of earlier arguments.
const HEADING: &str = "Gateway and output";

/// Arguments of a command that calls a gateway. They are also accepted before the command.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct RemoteArgs {
    /// URL of the gateway, or several URLs separated by commas [default: http://127.0.0.1:7300; `roundtrip` and `bench`
    /// start a gateway that runs until they end]
    ///
    /// Several gateways must share one store. If one is unreachable, the next one is used.
    #[arg(long, value_name = "URL", env = "C3_GATEWAY")]
    pub(crate) gateway: Option<String>,
    /// Profile of the configuration file, which sets the other flags of this group [default: the profile `default`]
    #[arg(long, value_name = "NAME", env = "C3_PROFILE")]
    profile: Option<String>,
    /// File with the API key for the gateway [default: the key in the environment variable C3_API_KEY, if any]
    #[arg(long, value_name = "FILE", env = "C3_API_KEY_FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Send the API key even if the connection to another machine is not encrypted
    #[arg(long, env = "C3_API_KEY_OVER_HTTP", value_parser = BoolishValueParser::new())]
    pub(crate) api_key_over_http: bool,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    #[command(flatten)]
    pub(crate) format: Format,
}

impl RemoteArgs {
    /// Returns the API key, from the file or else from the environment.
    fn api_key(&self) -> Result<Option<ApiKey>, CliError> {
        let key = match &self.api_key_file {
            Some(path) => Some(std::fs::read_to_string(path).map_err(|error| CliError::at(path, &error))?),
            None => std::env::var(KEY_VARIABLE).ok().filter(|key| !key.is_empty()),
        };
        let key = key.as_deref().map(ApiKey::new).transpose()?;
        Ok(if self.api_key_over_http { key.map(ApiKey::allow_plain_http) } else { key })
    }

    /// Returns these arguments for the gateway at `url`, which speaks plain text, such as that of a cluster that the
    /// command started.
    pub(crate) fn at(&self, url: String) -> Self {
        Self { gateway: Some(url), tls: TlsArgs::default(), ..self.clone() }
    }

    pub(crate) fn url(&self) -> &str {
        self.gateway.as_deref().unwrap_or(DEFAULT_GATEWAY)
    }

    pub(crate) fn options(&self) -> Result<ClientOptions, CliError> {
        let credentials = self.tls.load().map_err(|error| CliError::Usage(error.to_string()))?;
        Ok(ClientOptions { credentials, api_key: self.api_key()?, ..ClientOptions::default() })
    }

    pub(crate) async fn connect(&self) -> Result<Client, CliError> {
        Ok(Client::connect_with(self.url(), &self.options()?).await?)
    }

    /// Connects for calls that need nodes of these stages. While one of them has no ready node, a notice says so, see
    /// [`notice::watch`].
    pub(crate) async fn connect_to_nodes(&self, stages: &'static [Stage]) -> Result<Client, CliError> {
        let options = self.options()?;
        let client = Client::connect_with(self.url(), &options).await?;
        notice::watch(self.url(), options, stages);
        Ok(client)
    }

    /// Connects for a write, and checks the ratios of `write` with [`check_ratios`] before any text is sent.
    pub(crate) async fn connect_to_write(&self, write: &WriteArgs) -> Result<Client, CliError> {
        let client = self.connect_to_nodes(write.stages()).await?;
        check_ratios(&client, write).await?;
        Ok(client)
    }
}

/// Arguments of a command that uses a running gateway, or starts one inside this process until the command ends.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct TargetArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// Fails if `write` requests a ratio outside the range of its model. Succeeds without a check if no node serves that
/// model, or if `write` names no model and the nodes serve several. The gateway then checks the ratios itself.
pub(crate) async fn check_ratios(client: &Client, write: &WriteArgs) -> Result<(), CliError> {
    let ratios = write.requested_ratios();
    if ratios.is_empty() {
        return Ok(());
    }
    let nodes = client.nodes().await?;
    let described = nodes.into_iter().filter_map(|node| Description::from_wire(node.description?).ok());
    let mut candidates = described.filter(|node| match &write.cascade {
        Some(cascade) => node.cascade.name == *cascade,
        None => true,
    });
    match candidates.next() {
        Some(node) if candidates.all(|other| other.cascade.name == node.cascade.name) => {
            ratios.into_iter().try_for_each(|ratio| node.ratios.check(ratio).map(drop))?;
            Ok(())
        }
        _ => Ok(()),
    }
}
