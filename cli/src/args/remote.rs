//! Arguments for the gateway that a command calls and for the format of its result.

use c3_client::{Client, ClientOptions, Stage};
use c3_proto::FromWire;
use c3_server::tls::TlsArgs;
use c3_types::Description;

use super::{ModelArgs, WriteArgs};
use crate::error::CliError;
use crate::notice;
use crate::output::Format;

/// Default URL of the gateway, at which `c3 serve` listens by default.
const DEFAULT_GATEWAY: &str = "http://127.0.0.1:7300";

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
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    #[command(flatten)]
    pub(crate) format: Format,
}

impl RemoteArgs {
    /// Returns these arguments for the gateway at `url`, which speaks plain text.
    pub(crate) fn at(&self, url: String) -> Self {
        Self { gateway: Some(url), tls: TlsArgs::default(), format: self.format }
    }

    fn url(&self) -> &str {
        self.gateway.as_deref().unwrap_or(DEFAULT_GATEWAY)
    }

    fn options(&self) -> Result<ClientOptions, CliError> {
        let credentials = self.tls.load().map_err(|error| CliError::Usage(error.to_string()))?;
        Ok(ClientOptions { credentials, ..ClientOptions::default() })
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
