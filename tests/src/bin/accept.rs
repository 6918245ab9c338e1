//! `accept TOPIC [ROW] [--full]`: runs an acceptance suite and prints one JSON line for each measured quantity.
//!
//! ROW is the name of one measurement of the suite. Each measurement yields one or more quantities. A line is
//! `{"row", "value", "bound", "ok"}`. Its `row` is the name of the quantity, which usually begins with the name of the
//! measurement. `ok` is null if this machine lacks the hardware to measure the quantity. The exit code is 1 if any
//! quantity is out of bounds. Standard error shows how long each measurement took.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use c3_tests::harness::fixtures::Corpus;
use c3_tests::harness::quantity::Quantity;
use c3_tests::suites::{
    agents, architecture, chaos, console, found, gpu, http, operations, pipeline, search, security, speed, store,
};
use clap::{Parser, ValueEnum};

/// The same allocator as in the programs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs an acceptance suite on the real programs.
#[derive(Parser)]
struct Arguments {
    /// Suite to run.
    topic: Topic,
    /// Measurement of the suite to run, by name [default: all measurements].
    row: Option<String>,
    /// Use whole texts and full counts, and include the measurements that build everything from scratch.
    #[arg(long)]
    full: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Topic {
    /// A book goes through a gateway and two nodes, and comes back byte for byte.
    Pipeline,
    /// Throughput and latency on a CPU.
    SpeedCpu,
    /// Throughput of the stages on an NVIDIA GPU, and agreement with the CPU.
    SpeedGpu,
    /// Durability, integrity and size of the store; cost of codecs and ratios.
    Store,
    /// Nodes die, hang, corrupt answers and drain, but no call of a client fails.
    Chaos,
    /// Faults that users, operators and developers found must not come back.
    Found,
    /// HTTP API and Python client.
    Http,
    /// Identity, tenants, quotas, encryption and hostile input.
    Security,
    /// Helm chart, alerts, dashboards, scaling and backups.
    Operations,
    /// The console in a browser, and its checked-in build.
    Console,
    /// Search: recall, size, speed, changes and kills.
    Search,
    /// MCP server, archive of sessions, and examples for agents.
    Agents,
    /// Crate sizes, crate dependencies and import cycles.
    Architecture,
}

impl Topic {
    fn rows(self) -> Vec<&'static str> {
        match self {
            Self::Pipeline => pipeline::table::ROWS.to_vec(),
            Self::SpeedCpu => speed::table::ROWS.to_vec(),
            Self::SpeedGpu => gpu::table::ROWS.to_vec(),
            Self::Store => store::table::ROWS.to_vec(),
            Self::Chaos => chaos::table::ROWS.to_vec(),
            Self::Found => found::table::rows(),
            Self::Http => http::table::ROWS.to_vec(),
            Self::Security => security::table::rows(),
            Self::Operations => operations::table::ROWS.to_vec(),
            Self::Console => console::table::ROWS.to_vec(),
            Self::Search => search::table::ROWS.to_vec(),
            Self::Agents => agents::table::ROWS.to_vec(),
            Self::Architecture => architecture::ROWS.to_vec(),
        }
    }

    async fn measure(self, row: &str, corpus: Corpus) -> Result<Vec<Quantity>> {
        match self {
            Self::Pipeline => pipeline::table::measure(row, corpus).await,
            Self::SpeedCpu => speed::table::measure(row, corpus).await,
            Self::SpeedGpu => gpu::table::measure(row, corpus).await,
            Self::Store => store::table::measure(row, corpus).await,
            Self::Chaos => chaos::table::measure(row, corpus).await,
            Self::Found => found::table::measure(row).await,
            Self::Http => http::table::measure(row, corpus).await,
            Self::Security => security::table::measure(row, corpus).await,
            Self::Operations => operations::table::measure(row, corpus).await,
            Self::Console => console::table::measure(row).await,
            Self::Search => search::table::measure(row, corpus).await,
            Self::Agents => agents::table::measure(row, corpus).await,
            Self::Architecture => architecture::measure(row),
        }
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let Arguments { topic, row, full } = Arguments::parse();
    let known = topic.rows();
    let rows = match &row {
        Some(row) if known.contains(&row.as_str()) => vec![row.as_str()],
        Some(row) => bail!("the suite has no row `{row}`: use one of {}", known.join(", ")),
        None => known,
    };
    let mut failed = false;
    for name in rows {
        let started = Instant::now();
        for quantity in Quantity::from_result(name, topic.measure(name, Corpus { full }).await) {
            println!("{}", serde_json::to_string(&quantity)?);
            failed |= quantity.is_out_of_bounds();
        }
        eprintln!("{name}: {:.0} s", started.elapsed().as_secs_f64());
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
