//! `c3`, the command line of C3 Serve: runs the servers, stores texts and reads them back.

mod args;
mod cli;
mod commands;
mod embedded;
mod error;
mod input;
mod latents_file;
mod notice;
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
    // A thread that waits for standard input cannot be woken, so do not wait for the threads to end.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

/// Runs the command. On a shutdown signal, `serve` drains and any other command fails immediately.
async fn run(cli: Cli) -> Result<(), CliError> {
    let telemetry = Telemetry::start("cli", &cli.telemetry).map_err(|error| CliError::Usage(error.to_string()))?;
    let shutdown = shutdown_signal();
    let result = match cli.command {
        // `serve` handles the shutdown itself. It gets no span here, since each of its requests has its own trace.
        Command::Serve(args) => commands::serve::run(*args, shutdown).await,
        Command::Client(command) => {
            // Root span of the command's trace, which the servers continue.
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
