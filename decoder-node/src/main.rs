//! The `decoder-node` program.

use std::process::ExitCode;

use c3_decoder_node::{Config, ROLE, run};
use c3_server::telemetry::TelemetryConfig;
use c3_server::{arguments, program};
use clap::Parser;

/// Decoder node of C3 Serve: restores texts from latents and verifies new latents, over gRPC
#[derive(Parser)]
#[command(name = "decoder-node", version)]
struct Arguments {
    #[command(flatten)]
    config: Config,
    #[command(flatten)]
    telemetry: TelemetryConfig,
}

fn main() -> ExitCode {
    let Arguments { config, telemetry } = arguments::parse();
    let (io_threads, listen) = (config.node.server.io_threads, config.listen.clone());
    program::run(ROLE, &telemetry, io_threads, &listen, |listener, shutdown| run(config, listener, shutdown))
}
