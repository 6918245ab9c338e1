//! The gateway program.

use std::process::ExitCode;

use c3_gateway::{Config, ROLE, run};
use c3_server::arguments;
use c3_server::program::{self, ListenAddress};
use c3_server::telemetry::TelemetryConfig;
use clap::Parser;

/// mimalloc is faster than the default allocator at the dozens of allocations that each call makes. It is built without
/// transparent huge pages (feature `no_thp`): with them, idle connections take up to three times the memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gateway of C3 Serve: stores documents and returns them, over gRPC
#[derive(Parser)]
#[command(name = "gateway", version)]
struct Arguments {
    /// Address to listen on
    #[arg(long, env = "C3_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:7300")]
    listen: ListenAddress,
    #[command(flatten)]
    config: Config,
    #[command(flatten)]
    telemetry: TelemetryConfig,
}

fn main() -> ExitCode {
    let Arguments { listen, config, telemetry } = arguments::parse();
    let config = config.with_cloud(std::env::vars_os());
    let io_threads = config.server.io_threads;
    program::run(ROLE, &telemetry, io_threads, &listen, |listener, shutdown| run(config, listener, shutdown))
}
