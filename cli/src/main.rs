//! `c3`, the command line of C3 Serve: runs the servers, stores texts and reads them back.

// `println!` and `eprintln!` panic if they cannot write to their stream.
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod args;
mod cli;
mod commands;
mod complete;
mod embedded;
mod error;
mod input;
mod kept;
mod latents_file;
mod metrics;
mod notice;
mod output;
mod profile;
mod temporary;
mod upload;

use std::process::ExitCode;
use std::time::Duration;

use c3_server::telemetry::Telemetry;
use c3_server::{Signals, program, shutdown_signal};
use clap_complete::CompleteEnv;
use tokio::sync::oneshot;
use tracing::Instrument;

use crate::cli::Cli;
use crate::commands::{ClientCommand, Command, completions};
use crate::error::CliError;

/// Maximum time from a signal to the exit, even if a thread is blocked.
const INTERRUPTION_LIMIT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // Answers a completion and exits, if a shell asks for one.
    complete::ask_gateway_of(cli::remote_of_partial);
    CompleteEnv::with_factory(cli::plain_command).var(completions::VARIABLE).complete();
    let cli = match cli::parse(std::env::args_os()) {
        Ok(Some(cli)) => cli,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => return report(&error),
    };
    if cli.verbosity.quiet {
        output::be_quiet();
    }
    let runtime = match program::runtime(None) {
        Ok(runtime) => runtime,
        Err(error) => return report(&CliError::Failed(error.to_string())),
    };
    // Reports the error while the runtime still exists: writing the message may block, and only the signal task of the
    // runtime can then end the program.
    let code = runtime.block_on(run(cli)).map_or_else(|error| report(&error), |()| ExitCode::SUCCESS);
    // Does not wait for the runtime's threads to end, since a thread that waits for standard input cannot be woken.
    runtime.shutdown_background();
    code
}

/// Prints the error, if it must be printed, and returns the exit code.
fn report(error: &CliError) -> ExitCode {
    if error.is_printed() {
        output::error(error);
    }
    error.exit_code()
}

/// Runs the command. On a signal, `serve` drains and any other command fails immediately.
async fn run(cli: Cli) -> Result<(), CliError> {
    let telemetry = Telemetry::start("cli", &cli.telemetry).map_err(|error| CliError::Usage(error.to_string()))?;
    let result = match cli.command {
        // `serve` handles the shutdown itself. It gets no span here, since each of its requests has its own trace.
        Command::Serve(args) => commands::serve::run(*args, shutdown_signal()).await,
        Command::Certs(command) => commands::certs::run(command),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => commands::man::run(&args, cli::plain_command()),
        Command::Client(command) => run_client(command).await,
    };
    telemetry.shutdown().await;
    result
}

/// Runs the command until it ends or a signal arrives.
async fn run_client(command: ClientCommand) -> Result<(), CliError> {
    // Root span of the command's trace, which the servers continue.
    let span = tracing::info_span!("c3", otel.name = command.span_name(), otel.kind = "client");
    let (interrupt, interrupted) = oneshot::channel();
    tokio::spawn(end_on_signal(Signals::listen(), interrupt));
    tokio::select! {
        result = command.run().instrument(span) => result,
        Ok(code) = interrupted => Err(CliError::Interrupted(code)),
    }
}

/// Waits for a signal and sends its exit code to `interrupt`. [`run_client`] then drops the command, and the program
/// ends. If the program still runs after [`INTERRUPTION_LIMIT`], or if a second signal arrives, exits immediately,
/// since a thread of the command may be blocked in a write.
#[expect(clippy::exit, reason = "the main thread may be blocked")]
async fn end_on_signal(mut signals: Signals, interrupt: oneshot::Sender<u8>) {
    let code = signals.next().await;
    // The receiver is gone if the command has just ended.
    let _ = interrupt.send(code);
    let _second = tokio::time::timeout(INTERRUPTION_LIMIT, signals.next()).await;
    temporary::remove_all();
    std::process::exit(code.into());
}
