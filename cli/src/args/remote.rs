//! The gateway that a command talks to, and the format of the result.

use c3_client::Client;
use c3_proto::FromWire;
use c3_types::Description;

use super::{ModelArgs, WriteArgs};
use crate::error::CliError;
use crate::output::Format;

/// Address of `c3 serve` by default.
const DEFAULT_GATEWAY: &str = "http://127.0.0.1:7300";

/// Help heading of both groups. Without one, they would continue the group before them.
const HEADING: &str = "Gateway and output";

/// A running gateway.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct RemoteArgs {
    /// URL of the gateway, or several separated by commas
    ///
    /// Several gateways must share one store. If one is gone, the next one is used.
    #[arg(long, value_name = "URL", env = "C3_GATEWAY", default_value = DEFAULT_GATEWAY)]
    gateway: String,
    #[command(flatten)]
    pub(crate) format: Format,
}

impl RemoteArgs {
    pub(crate) async fn connect(&self) -> Result<Client, CliError> {
        Ok(Client::connect(&self.gateway).await?)
    }

    /// Connects, and checks the ratios of `write` against the gateway's models before any text is sent.
    pub(crate) async fn connect_to_write(&self, write: &WriteArgs) -> Result<Client, CliError> {
        let client = self.connect().await?;
        check_ratios(&client, write).await?;
        Ok(client)
    }
}

/// A running gateway, or else one that runs inside this process for the duration of the command.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct TargetArgs {
    /// URL of the gateway [default: start one for this command only]
    #[arg(long, value_name = "URL", env = "C3_GATEWAY")]
    pub(crate) gateway: Option<String>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Fails if a requested ratio is outside the range of the model that would serve the call. Passes if no node answers,
/// or if the model is ambiguous: the gateway then reports the problem.
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
