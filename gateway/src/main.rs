//! The gateway as a program.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use c3_gateway::{Config, ROLE, run};
use c3_server::{program, telemetry::TelemetryConfig};
use clap::Parser;

/// A call allocates some dozens of times, and calls are what a gateway does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Where the gateway listens by default.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7300);

/// Gateway of C3 Serve: documents in, documents out, over gRPC
#[derive(Parser)]
#[command(name = "gateway", version)]
struct Arguments {
    /// Address to listen on
    #[arg(long, env = "C3_LISTEN", value_name = "ADDRESS", default_value_t = LISTEN)]
    listen: SocketAddr,
    #[command(flatten)]
    config: Config,
    #[command(flatten)]
    telemetry: TelemetryConfig,
}

fn main() -> ExitCode {
    let Arguments { listen, config, telemetry } = Arguments::parse();
    let config = config.with_cloud(std::env::vars_os());
    let io_threads = config.server.io_threads;
    program::run(ROLE, &telemetry, io_threads, listen, |listener, shutdown| run(config, listener, shutdown))
}
