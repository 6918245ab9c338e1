//! `c3`, the command line: serves, stores texts and gets them back.

mod append;
mod args;
mod batch;
mod bench;
mod failure;
mod get;
mod get_many;
mod inputs;
mod jsonl;
mod latents;
mod list;
mod names;
mod oneshot;
mod output;
mod progress;
mod put;
mod put_latents;
mod put_many;
mod recode;
mod remote;
mod report;
mod roundtrip;
mod serve;
mod source;
mod stack;
mod tensors;
mod totals;
mod upkeep;
mod upload;
mod write;

use std::process::ExitCode;

use c3_server::shutdown_signal;
use c3_server::telemetry::Telemetry;
use tracing::Instrument;

use crate::args::{Args, ClientCommand, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os()) {
        Ok(Some(args)) => args,
        Ok(None) => return ExitCode::SUCCESS,
        Err(failure) => return failure.report(),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::WorkFailed(format!("no threads to run on: {error}")).report(),
    };
    let outcome = runtime.block_on(run(args));
    // A thread that reads standard input cannot be woken, and must not hold up the end.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Runs the command inside a span of its own, the root of what it causes on other machines.
async fn run(args: Args) -> Result<(), Failure> {
    let telemetry = Telemetry::start("cli", &args.telemetry);
    let telemetry = telemetry.map_err(|error| Failure::CallWrong(error.to_string()))?;
    let shutdown = shutdown_signal();
    let outcome = match args.command {
        // Drains by itself, and its requests have traces of their own.
        Command::Serve(args) => serve::run(*args, shutdown).await,
        Command::Client(command) => {
            let span = tracing::info_span!("c3", otel.name = command.span_name(), otel.kind = "client");
            tokio::select! {
                outcome = ask(command).instrument(span) => outcome,
                () = shutdown.cancelled() => Err(Failure::WorkFailed("interrupted".to_owned())),
            }
        }
    };
    telemetry.shutdown().await;
    outcome
}

async fn ask(command: ClientCommand) -> Result<(), Failure> {
    match command {
        ClientCommand::Put(args) => put::run(*args).await,
        ClientCommand::Append(args) => append::run(*args).await,
        ClientCommand::Uploads(args) => upload::list(args).await,
        ClientCommand::Get(args) => get::run(args).await,
        ClientCommand::Stat(args) => totals::stat(args).await,
        ClientCommand::Ls(args) => list::ls(args).await,
        ClientCommand::Rm(args) => list::rm(args).await,
        ClientCommand::Name(command) => names::name(command).await,
        ClientCommand::Label(args) => names::label(args).await,
        ClientCommand::Recode(args) => recode::run(args).await,
        ClientCommand::Gc(args) => upkeep::gc(args).await,
        ClientCommand::Fsck(args) => upkeep::fsck(args).await,
        ClientCommand::Latents(args) => latents::run(args).await,
        ClientCommand::PutLatents(args) => put_latents::run(args).await,
        ClientCommand::Nodes(args) => list::nodes(args).await,
        ClientCommand::Roundtrip(args) => roundtrip::run(*args).await,
        ClientCommand::Bench(args) => bench::run(*args).await,
        ClientCommand::Compress(args) => oneshot::compress(args).await,
        ClientCommand::Decompress(args) => oneshot::decompress(args).await,
    }
}
