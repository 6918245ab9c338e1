//! `c3 bench`: how fast a gateway that lives takes texts and gives them back.
//!
//! *Closed*: so many callers, each calling again as soon as it was answered. *Open*: calls come at a rate, evenly or at random
//! times (Poisson), whether or not those before were answered, and a call's time counts from when it was due, so that a
//! queue shows.

pub(crate) mod args;
mod load;
mod side;
mod texts;

use std::time::{Duration, Instant};

use c3_client::Client;
use futures::future::try_join_all;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::print;
use crate::report;
use crate::stack::Stack;

use args::{BenchArgs, BenchOperation};
use load::{Load, Open};
use side::{Side, SideReport};
use texts::Texts;

/// What a bench found: one line of JSON, or a few for people.
#[derive(Debug, Serialize)]
struct BenchReport {
    gateway: Option<String>,
    bytes: usize,
    load: Load,
    put: Option<SideReport>,
    get: Option<SideReport>,
}

/// Runs the load and reports.
pub(crate) async fn run(args: BenchArgs) -> Result<(), Failure> {
    let texts = Texts::open(&args.file, args.bytes)?;
    let report = match &args.at.gateway {
        Some(gateway) => measure(&args, gateway, texts).await?,
        None => {
            let mut stack = Stack::temporary(&args.at.model).await?;
            let gateway = stack.gateway().to_owned();
            let report = stack.until_ended(measure(&args, &gateway, texts)).await?;
            stack.stop().await?;
            report
        }
    };
    match args.at.json {
        true => print(&report::json(&report)),
        false => report.tell(),
    }
}

async fn measure(args: &BenchArgs, gateway: &str, texts: Texts) -> Result<BenchReport, Failure> {
    let client = Client::connect(gateway).await?;
    let does = |operation| {
        args.operation.is_empty() && operation == BenchOperation::Get || args.operation.contains(&operation)
    };
    let open = args.rate.map(|rate| Open { rate, arrivals: args.arrivals });
    let load = Load { clients: args.clients, open, seconds: args.seconds };
    let mut sides = Vec::new();
    if does(BenchOperation::Put) {
        sides.push(Side::puts(client.clone(), texts.clone(), args.write.clone()));
    }
    if does(BenchOperation::Get) {
        sides.push(Side::gets(client, &texts, args.documents, &args.write).await?);
    }
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let runs =
        sides.iter().map(|side| async { Ok::<_, Failure>((side.name(), load.run(side, until).await?)) });
    let mut report =
        BenchReport { gateway: args.at.gateway.clone(), bytes: args.bytes, load, put: None, get: None };
    for (name, side) in try_join_all(runs).await? {
        match name {
            "put" => report.put = Some(side),
            _ => report.get = Some(side),
        }
    }
    Ok(report)
}

impl BenchReport {
    fn tell(&self) -> Result<(), Failure> {
        for (name, side) in [("put", &self.put), ("get", &self.get)] {
            let Some(side) = side else { continue };
            print(&format!(
                "{name}  {} calls, {} failed; {:.1} calls/s, {:.0} tokens/s, {:.0} bytes/s",
                side.calls, side.failed, side.calls_per_second, side.tokens_per_second, side.bytes_per_second
            ))?;
            for (what, ms) in [("first byte", &side.first_byte_ms), ("whole", &side.total_ms)] {
                print(&format!(
                    "     {what:10}  p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
                    ms.p50, ms.p90, ms.p99, ms.max
                ))?;
            }
            if let Some(error) = &side.first_error {
                print(&format!("     first error: {error}"))?;
            }
        }
        Ok(())
    }
}
