//! The `compressor-node` program.

use std::process::ExitCode;

use c3_compressor_node::{Config, ROLE, run};
use c3_server::telemetry::TelemetryConfig;
use c3_server::{arguments, program};
use clap::Parser;

/// Compressor node of C3 Serve: compresses texts to latents, over gRPC
#[derive(Parser)]
#[command(name = "compressor-node", version)]
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
