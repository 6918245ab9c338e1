//! `c3 serve`: a gateway with a node of each stage in one process, until asked to stop.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use c3_server::program;
use etcetera::{AppStrategy, AppStrategyArgs, app_strategy::choose_native_strategy};
use tokio_util::sync::CancellationToken;

use crate::args::one_line;
use crate::failure::Failure;
use crate::stack::{Plan, Stack};

/// Arguments of `serve`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Where the gateway listens
    #[arg(long, value_name = "ADDR", env = "C3_LISTEN", default_value = "127.0.0.1:7300")]
    listen: SocketAddr,
    /// The nodes' model.
    #[command(flatten)]
    model: ModelArgs,
    /// The gateway. A stage whose nodes it is told of is not started here.
    #[command(flatten)]
    gateway: c3_gateway::Config,
}

/// The nodes in this process: what most callers set. The rest has its environment twins, as in the nodes' own programs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ModelArgs {
    /// Folder of the model's files; without it, the model inside this program is served
    #[arg(long, value_name = "DIR", env = "C3_MODEL")]
    model: Option<OsString>,
    /// Where to compute: auto, cpu or cuda:N [default: auto]
    #[arg(long, value_name = "DEVICE", env = "C3_DEVICE")]
    device: Option<OsString>,
    /// How precisely to compute: auto, f32 or bf16 [default: auto]
    #[arg(long, value_name = "PRECISION", env = "C3_PRECISION")]
    precision: Option<OsString>,
    /// Threads that compute in each node; without it, one for each core
    #[arg(long, value_name = "THREADS", env = "C3_THREADS")]
    threads: Option<OsString>,
}

impl ModelArgs {
    /// The settings of a node of either stage, which reads and checks them as its own program would.
    pub(crate) fn node<C: clap::Args>(&self) -> Result<C, Failure> {
        let flags = [
            ("--model", &self.model),
            ("--device", &self.device),
            ("--precision", &self.precision),
            ("--threads", &self.threads),
        ];
        let given =
            flags.into_iter().filter_map(|(flag, value)| Some([OsString::from(flag), value.clone()?]));
        let command = C::augment_args(clap::Command::new("node").no_binary_name(true));
        let parsed = command.try_get_matches_from(given.flatten());
        let node = parsed.and_then(|matches| C::from_arg_matches(&matches));
        node.map_err(|error| Failure::CallWrong(one_line(&error)))
    }
}

/// Serves until `shutdown` is cancelled and what is in flight is drained.
pub(crate) async fn run(args: ServeArgs, shutdown: CancellationToken) -> Result<(), Failure> {
    let listener = program::bind(args.listen).await;
    let listener = listener.map_err(|error| Failure::WorkFailed(error.to_string()))?;
    let gateway = args.gateway.with_cloud(std::env::vars_os());
    let plan = Plan { listener, gateway, model: args.model };
    let mut stack = Stack::start(plan).await?;
    let asked = async {
        shutdown.cancelled().await;
        Ok(())
    };
    stack.until_ended(asked).await?;
    stack.stop().await
}

/// What differs from the gateway's own program: documents are kept in the platform's folder, and nodes are started.
pub(crate) fn with_defaults(serve: clap::Command) -> clap::Command {
    let stage = |what| format!("Address of a {what} node, once for each; without it, one is started here");
    let serve = serve.mut_arg("compressors", |arg| arg.help(stage("compressor")));
    let serve = serve.mut_arg("decoders", |arg| arg.help(stage("decoder")));
    match data_folder() {
        Some(folder) => serve.mut_arg("data", |arg| arg.default_value(folder.display().to_string())),
        None => serve,
    }
}

/// Where programs of this platform keep what is theirs.
fn data_folder() -> Option<PathBuf> {
    let app = AppStrategyArgs {
        top_level_domain: "org".to_owned(),
        author: "c3".to_owned(),
        app_name: "c3".to_owned(),
    };
    Some(choose_native_strategy(app).ok()?.data_dir())
}
