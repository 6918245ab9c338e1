//! `c3 bench`: measures throughput and latency of writes and reads.
//!
//! In a *closed* loop, each of a fixed number of clients starts its next call as soon as the previous one has ended. In
//! an *open* loop, calls start at a fixed mean rate, even while earlier calls are still running. Latency is measured
//! from the time at which a call should have started, so that a late start is included.

mod load;
mod texts;
mod worker;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use c3_client::Stage;
use c3_server::units::Size;
use futures::future::try_join_all;
use serde::Serialize;

use crate::args::{RemoteArgs, TargetArgs, WriteArgs, positive, seconds};
use crate::embedded::with_gateway;
use crate::error::CliError;
use crate::kept;

use load::{Arrivals, Load, OpenLoop};
use texts::Texts;
use worker::{Worker, WorkerReport};

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// UTF-8 file from which the texts are cut
    file: PathBuf,
    /// Operation to measure; repeat the flag to measure both operations at the same time [default: get]
    #[arg(long = "op", value_name = "OPERATION")]
    operations: Vec<Operation>,
    /// Approximate size of each text
    #[arg(long, value_name = "SIZE", default_value_t = Size(2000))]
    size: Size,
    /// Closed loop: clients per operation; each starts its next call as soon as the previous one has ended
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = positive)]
    clients: usize,
    /// Open loop: calls to start per second per operation, even while earlier calls are still running
    #[arg(long, value_name = "RATE", conflicts_with = "clients", value_parser = rate)]
    rate: Option<f64>,
    /// Open loop: distribution of the intervals between calls
    #[arg(long, requires = "rate", default_value = "constant", value_enum)]
    arrivals: Arrivals,
    /// Time during which calls are started; after it, the command waits for the last answers
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = seconds)]
    duration: u64,
    /// Documents stored beforehand for `get`
    ///
    /// Use more documents than calls in flight, since parallel reads of one document are decoded only once.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    documents: usize,
    #[command(flatten)]
    pub(super) write: WriteArgs,
    #[command(flatten)]
    target: TargetArgs,
}

/// Operation to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Operation {
    /// Store texts
    Put,
    /// Read stored texts
    Get,
}

/// Result of a measurement.
#[derive(Debug, Serialize)]
struct BenchReport {
    gateway: Option<String>,
    bytes: u64,
    load: Load,
    put: Option<WorkerReport>,
    get: Option<WorkerReport>,
}

/// Runs the load and prints the report.
pub(crate) async fn run(args: BenchArgs) -> Result<(), CliError> {
    let texts = Texts::open(&args.file, args.size.0 as usize)?;
    kept::set(match args.target.remote.gateway {
        Some(_) => "documents stored so far stay stored",
        None => "nothing was kept",
    });
    let work = async |gateway: &RemoteArgs| measure(&args, gateway, texts).await;
    let (report, _) = with_gateway(&args.target, work).await?;
    args.target.remote.format.print(report.text(), &report)
}

async fn measure(args: &BenchArgs, gateway: &RemoteArgs, texts: Texts) -> Result<BenchReport, CliError> {
    let client = gateway.connect_to_nodes(&Stage::ALL).await?;
    let open = args.rate.map(|rate| OpenLoop { rate, arrivals: args.arrivals });
    let load = Load { clients: args.clients, open, seconds: args.duration };
    let mut workers = Vec::new();
    if args.operations.contains(&Operation::Put) {
        workers.push(Worker::puts(client.clone(), texts.clone(), args.write.clone()));
    }
    if args.operations.contains(&Operation::Get) || args.operations.is_empty() {
        workers.push(Worker::gets(client, &texts, args.documents, &args.write).await?);
    }
    let until = Instant::now() + Duration::from_secs(args.duration);
    let runs = workers
        .iter()
        .map(|worker| async move { Ok::<_, CliError>((worker.operation(), load.run(worker, until).await?)) });
    let mut report =
        BenchReport { gateway: args.target.remote.gateway.clone(), bytes: args.size.0, load, put: None, get: None };
    for (operation, worker) in try_join_all(runs).await? {
        match operation {
            Operation::Put => report.put = Some(worker),
            Operation::Get => report.get = Some(worker),
        }
    }
    Ok(report)
}

impl BenchReport {
    fn text(&self) -> String {
        let mut lines = Vec::new();
        for (name, worker) in [("put", &self.put), ("get", &self.get)] {
            let Some(worker) = worker else { continue };
            lines.push(format!(
                "{name}  {} calls, {} failed; {:.1} calls/s, {:.0} tokens/s, {:.0} bytes/s",
                worker.calls, worker.failed, worker.calls_per_second, worker.tokens_per_second, worker.bytes_per_second
            ));
            for (label, ms) in [("first byte", &worker.first_byte_ms), ("total", &worker.total_ms)] {
                lines.push(format!(
                    "     {label:10}  p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
                    ms.p50, ms.p90, ms.p99, ms.max
                ));
            }
            lines.extend(worker.first_error.iter().map(|error| format!("     first error: {error}")));
        }
        lines.join("\n")
    }
}

fn rate(typed: &str) -> Result<f64, String> {
    let rate = typed.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or("give a number of calls per second above 0".to_owned())
}
