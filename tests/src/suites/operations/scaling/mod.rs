//! Scaling drills: the load on real programs grows and falls, and the rule of the ScaledObjects adds and removes nodes.
//!
//! The test stands for Kubernetes: it evaluates the rule's queries in a Prometheus that scrapes the gateway, and starts
//! and drains nodes, which announce themselves. Each node may use only a small share of a core, so that several nodes
//! of a stage are several times as fast as one.

mod load;
mod pool;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use self::load::{Call, Load, Texts};
use self::pool::Pool;
use crate::harness::gateway_api::GatewayApi;
use crate::harness::process::{Launch, Program};
use crate::harness::prometheus::Prometheus;
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;

/// Share of a core that a node of each stage may use, in percent. A compressor is faster than a decoder.
const CPU_PERCENT: [u32; 2] = [6, 25];
/// Factor by which the load grows.
const FACTOR: f64 = 4.0;
/// Durations of the phases: before the load grows, while it is larger, and after it has fallen.
const BEFORE: Duration = Duration::from_secs(45);
const GROWN: Duration = Duration::from_secs(105);
const AFTER: Duration = Duration::from_secs(200);
/// The objective: a call ends within this time.
const OBJECTIVE: Duration = Duration::from_secs(10);
/// Maximum time after the growth of the load until calls that begin meet the objective.
const RECOVERY_MAX: Duration = Duration::from_secs(60);
/// Pause between two decisions about the load and the nodes.
const TICK: Duration = Duration::from_millis(50);
/// Maximum time until nodes have announced themselves.
const ANNOUNCE_LIMIT: Duration = Duration::from_secs(30);

/// The part of the load that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    /// Writes and reads, which fall again later.
    Both,
    /// Writes only.
    Writes,
    /// Reads only.
    Reads,
}

impl Growth {
    /// Returns the share of the decoder's time that writes take before the load grows. It is such that a load of
    /// [`FACTOR`] times as many reads, or writes, needs a second decoder.
    fn verify_busy(self) -> f64 {
        match self {
            Self::Both | Self::Writes => 0.3,
            Self::Reads => 0.1,
        }
    }

    /// Returns the stages that are then short of nodes.
    fn short(self) -> Vec<&'static str> {
        match self {
            Self::Both | Self::Writes => vec!["compressor", "decoder"],
            Self::Reads => vec!["decoder"],
        }
    }
}

/// Runs one drill. The quantities begin with `row`.
pub(super) async fn drill(row: &str, text: &str, growth: Growth) -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-scaling-")?;
    let gateway = Launch::new(Program::Gateway).arg("--accept-nodes").arg("--data").arg(folder.path().join("data"));
    let gateway = gateway.serve(folder.path()).await?;
    let job = json!({"job_name": "gateway", "static_configs": [{"targets": [gateway.address()]}]});
    let prometheus = Prometheus::start(vec![job], &[]).await?;
    let mut pools = [
        Pool::new(Program::CompressorNode, "compressor", CPU_PERCENT[0])?,
        Pool::new(Program::DecoderNode, "decoder", CPU_PERCENT[1])?,
    ];
    for pool in &mut pools {
        pool.start(&gateway, folder.path()).await?;
    }
    let api = GatewayApi::to(&gateway)?;
    until("both nodes to be known", ANNOUNCE_LIMIT, async || (api.nodes().await.ok()?.len() == 2).then_some(()))
        .await?;
    let texts = Arc::new(Texts(text.to_owned()));
    let load = Arc::new(Load::calibrated(api, &texts, &pools, growth.verify_busy()).await?);

    let begun = Instant::now();
    let _load = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&load).run(texts)));
    let mut phases = vec![(BEFORE, [1.0, 1.0])];
    phases.push(match growth {
        Growth::Both => (GROWN, [FACTOR, FACTOR]),
        Growth::Writes => (GROWN, [FACTOR, 1.0]),
        Growth::Reads => (GROWN, [1.0, FACTOR]),
    });
    if growth == Growth::Both {
        phases.push((AFTER, [1.0, 1.0]));
    }
    for (duration, factors) in phases {
        load.set_factors(factors);
        let end = Instant::now() + duration;
        while Instant::now() < end {
            for pool in &mut pools {
                pool.sync(begun, &prometheus, &gateway, folder.path()).await?;
            }
            sleep(TICK).await;
        }
    }
    load.set_factors([0.0, 0.0]);
    until("the last calls to end", 3 * OBJECTIVE, async || (load.in_flight() == 0).then_some(())).await?;
    for pool in &mut pools {
        pool.drain().await?;
    }
    Ok(quantities(row, growth, &pools, &load, begun))
}

fn quantities(row: &str, growth: Growth, pools: &[Pool], load: &Load, begun: Instant) -> Vec<Quantity> {
    let calls = load.calls();
    let name = |what: &str| format!("{row}-{what}");
    let grown_at = begun + BEFORE;
    let late = calls.iter().filter(|call| call.took > OBJECTIVE);
    let (before, after): (Vec<&Call>, Vec<&Call>) = late.partition(|call| call.begun < grown_at);
    let recovery = after.iter().map(|call| (call.begun - grown_at).as_secs_f64()).fold(0.0, f64::max);
    let failed = Vec::from_iter(calls.iter().filter_map(|call| call.error.clone()));
    let grew = Vec::from_iter(pools.iter().filter(|pool| pool.most() > 1).map(|pool| pool.stage));
    let history = |pool: &Pool| Vec::from_iter(pool.history.iter().map(|(at, replicas)| (at.as_secs(), *replicas)));
    let mut quantities = vec![
        Quantity::reported(name("writes-and-reads-per-second"), load.rates),
        Quantity::reported(name("replicas"), pools.iter().map(history).collect::<Vec<_>>()),
        Quantity::observed(name("calls"), calls.len(), calls.len() > 50, "> 50"),
        Quantity::equal(name("failed-calls"), failed, Vec::new()),
        Quantity::equal(name("late-before"), before.len(), 0),
        Quantity::reported(name("late"), after.len()),
        Quantity::at_most(name("recovery-seconds"), recovery, RECOVERY_MAX.as_secs_f64()),
        Quantity::equal(name("grew"), grew, growth.short()),
        Quantity::equal(name("flaps"), pools.iter().map(Pool::flaps).sum::<usize>(), 0),
    ];
    if growth == Growth::Both {
        let last = Vec::from_iter(pools.iter().map(Pool::requested));
        quantities.push(Quantity::equal(name("replicas-at-the-end"), last, vec![1, 1]));
    }
    quantities
}
