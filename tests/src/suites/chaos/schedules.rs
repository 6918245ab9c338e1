//! Schedules of random faults, each from a seed that brings it back: whatever happens, no call fails, no text is wrong,
//! and what was acknowledged stays.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

use super::load::Caller;
use super::nodes::prepare;
use crate::cluster::{Cluster, Plan};
use crate::proxy::Wire;
use crate::row::Row;
use crate::store::ops::Dice;

/// Nodes of each stage.
const NODES: usize = 3;
/// Callers.
const CALLERS: usize = 6;
/// Longest time that a fault lasts, and that passes between two, in milliseconds.
const LASTS_MAX: usize = 6_000;
const PAUSE_MAX: usize = 1_500;
/// Fewest times that each kind of fault must have come, over all schedules of a whole run.
const EACH_MIN: usize = 5;

/// What happens to one node at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Killed,
    Restarted,
    Stopped,
    HalfOpen,
    Cut,
    Latency,
    Drip,
    Corrupt,
}

const FAULTS: [Fault; 8] = [
    Fault::Killed,
    Fault::Restarted,
    Fault::Stopped,
    Fault::HalfOpen,
    Fault::Cut,
    Fault::Latency,
    Fault::Drip,
    Fault::Corrupt,
];

/// Whether calls are tried again where they fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retries {
    /// As operators have it.
    On,
    /// So that the checker is seen to find what then fails.
    Off,
}

/// So many schedules of so long each. Each one's seed is told where something was violated.
pub async fn schedules(
    text: &str,
    count: usize,
    lasts: Duration,
    seed: u64,
    retries: Retries,
) -> Result<Vec<Row>> {
    let (mut fired, mut violations, mut calls) = (BTreeMap::<Fault, usize>::new(), Vec::new(), 0);
    for schedule in 0..count as u64 {
        let seed = seed + schedule;
        let (seen, well) = run(text, lasts, seed, retries, &mut fired).await?;
        calls += well;
        violations.extend(seen.into_iter().map(|violation| format!("seed {seed}: {violation}")));
    }
    let name = if retries == Retries::On { "schedules" } else { "schedules-without-retries" };
    let told = &violations[..violations.len().min(10)];
    let mut rows = vec![Row::seen(format!("{name}-calls"), calls, calls > 0, "some")];
    rows.push(match retries {
        Retries::On => {
            Row::seen(format!("{name}-violations"), (violations.len(), told), violations.is_empty(), "= 0")
        }
        Retries::Off => {
            Row::seen(format!("{name}-violations"), (violations.len(), told), !violations.is_empty(), "some")
        }
    });
    let least = FAULTS.iter().map(|fault| fired.get(fault).copied().unwrap_or(0)).min().unwrap_or(0);
    let enough = least >= EACH_MIN.min(count);
    rows.push(Row::seen(
        format!("{name}-faults"),
        format!("{fired:?}"),
        enough,
        format!("each kind >= {}", EACH_MIN.min(count)),
    ));
    Ok(rows)
}

async fn run(
    text: &str,
    lasts: Duration,
    seed: u64,
    retries: Retries,
    fired: &mut BTreeMap<Fault, usize>,
) -> Result<(Vec<String>, usize)> {
    let gateway_args = match retries {
        Retries::On => Vec::new(),
        Retries::Off => ["--tries-max", "1"].map(str::to_owned).to_vec(),
    };
    let plan = Plan { compressors: NODES, decoders: NODES, proxied: true, gateway_args, ..Plan::default() };
    let mut cluster = plan.start().await?;
    let calls = cluster.calls()?;
    let work = prepare(&calls, text).await?;
    let load = work.start(&Caller::Bare(calls.clone()), CALLERS);
    let (mut dice, begun) = (Dice::new(seed), Instant::now());
    // Every kind in turn, from a place that the seed says: so that a few schedules have all.
    let mut next = dice.roll(FAULTS.len());
    while begun.elapsed() < lasts {
        let fault = FAULTS[next % FAULTS.len()];
        next += 1;
        let number = dice.roll(cluster.nodes());
        let duration = Duration::from_millis(500 + dice.roll(LASTS_MAX) as u64);
        *fired.entry(fault).or_default() += 1;
        strike(&mut cluster, fault, number, duration).await?;
        cluster.becomes_whole().await?;
        sleep(Duration::from_millis(dice.roll(PAUSE_MAX) as u64)).await;
    }
    let tally = load.end().await?;
    let mut violations = tally.failed.clone();
    violations.extend((tally.wrong > 0).then(|| format!("{} wrong texts", tally.wrong)));
    violations.extend(tally.lost(&calls).await);
    Ok((violations, tally.well))
}

/// One fault, from its beginning to its end.
async fn strike(cluster: &mut Cluster, fault: Fault, number: usize, lasts: Duration) -> Result<()> {
    let wire = match fault {
        Fault::Killed => {
            cluster.node(number).kill()?;
            return cluster.start_again(number).await;
        }
        Fault::Restarted => {
            cluster.node(number).terminate().await?;
            return cluster.start_again(number).await;
        }
        Fault::Stopped => {
            cluster.node(number).signal("STOP")?;
            sleep(lasts).await;
            return cluster.node(number).signal("CONT");
        }
        Fault::Cut => {
            cluster.proxies[number].cut();
            return Ok(());
        }
        Fault::HalfOpen => Wire { dead: true, ..Wire::default() },
        Fault::Latency => Wire { latency: Duration::from_millis(300), ..Wire::default() },
        Fault::Drip => Wire { drip: Duration::from_millis(50), ..Wire::default() },
        Fault::Corrupt => Wire { corrupt: 0.2, ..Wire::default() },
    };
    let proxy = &cluster.proxies[number];
    proxy.set(wire);
    sleep(lasts).await;
    proxy.set(Wire::default());
    Ok(())
}
