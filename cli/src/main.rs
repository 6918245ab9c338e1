//! `c3`, the command line of C3 Serve: runs the servers, stores texts and reads them back.

mod args;
mod cli;
mod commands;
mod embedded;
mod error;
mod input;
mod latents_file;
mod output;
mod upload;

use std::process::ExitCode;

use c3_server::shutdown_signal;
use c3_server::telemetry::Telemetry;
use tracing::Instrument;

use crate::cli::Cli;
use crate::commands::Command;
use crate::error::CliError;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(Some(cli)) => cli,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => return error.report(),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return CliError::Failed(format!("cannot start threads: {error}")).report(),
    };
    let result = runtime.block_on(run(cli));
    // A thread that is blocked reading standard input cannot be woken, so do not wait for it.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

/// Runs the command until it ends or the process is asked to stop.
async fn run(cli: Cli) -> Result<(), CliError> {
    let telemetry = Telemetry::start("cli", &cli.telemetry).map_err(|error| CliError::Usage(error.to_string()))?;
    let shutdown = shutdown_signal();
    let result = match cli.command {
        // `serve` drains by itself, and its requests have traces of their own.
        Command::Serve(args) => commands::serve::run(*args, shutdown).await,
        Command::Client(command) => {
            // Root span of the trace that the command causes on the servers.
            let span = tracing::info_span!("c3", otel.name = command.span_name(), otel.kind = "client");
            tokio::select! {
                result = command.run().instrument(span) => result,
                () = shutdown.cancelled() => Err(CliError::Failed("interrupted".to_owned())),
            }
        }
    };
    telemetry.shutdown().await;
    result
}
