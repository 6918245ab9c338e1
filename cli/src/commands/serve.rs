//! `c3 serve`: runs a gateway and a node of each stage in one process.

use c3_server::program::{self, ListenAddress};
use tokio_util::sync::CancellationToken;

use crate::args::ModelArgs;
use crate::embedded::EmbeddedCluster;
use crate::error::CliError;

/// Arguments of `serve`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Address that the gateway listens on
    #[arg(long, value_name = "ADDR", env = "C3_LISTEN", default_value = "127.0.0.1:7300")]
    listen: ListenAddress,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten, next_help_heading = "Gateway")]
    gateway: c3_gateway::Config,
}

/// Serves until `shutdown` is cancelled, then drains the calls in flight. Fails as soon as a server ends before
/// `shutdown` is cancelled.
pub(crate) async fn run(args: ServeArgs, shutdown: CancellationToken) -> Result<(), CliError> {
    let listener = program::bind(&args.listen).await.map_err(|error| CliError::Failed(error.to_string()))?;
    let gateway = args.gateway.with_cloud(std::env::vars_os());
    let mut cluster = EmbeddedCluster::start(listener, gateway, &args.model).await?;
    let stopped = async {
        shutdown.cancelled().await;
        Ok(())
    };
    cluster.run_until(stopped).await?;
    cluster.stop().await
}

/// Changes the help of the gateway's node flags to say that, without them, `serve` starts nodes in this process.
pub(crate) fn with_help(serve: clap::Command) -> clap::Command {
    let help = |stage| format!("URL of a {stage} node; may be repeated [default: start one in this process]");
    let serve = serve.mut_arg("compressors", |arg| arg.help(help("compressor")));
    serve.mut_arg("decoders", |arg| arg.help(help("decoder")))
}
