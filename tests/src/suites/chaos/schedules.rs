//! Random schedules of faults, each reproducible from its seed. No call may fail, no text may be wrong, and no
//! acknowledged document may be lost.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

use super::load::LoadClient;
use super::nodes::prepare;
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::proxy::Link;
use crate::harness::quantity::Quantity;
use crate::suites::store::ops::Rng;

/// Number of nodes of each stage.
const NODES: usize = 3;
/// Number of concurrent clients.
const CLIENTS: usize = 6;
/// A fault lasts 500 ms plus a random time below this number of milliseconds.
const LASTS_MAX: usize = 6_000;
/// Upper limit of the random pause between two faults, in milliseconds.
const PAUSE_MAX: usize = 1_500;
/// Minimum number of faults of each kind over all schedules. With fewer schedules than this, the minimum is the number
/// of schedules.
const EACH_MIN: usize = 5;

/// A kind of fault. Each fault hits one node.
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

/// Retry setting of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retries {
    /// Retries as configured by default.
    On,
    /// No retries. Calls then fail, which shows that the checks detect failures.
    Off,
}

/// Runs `count` random schedules of faults with consecutive seeds; with [`Retries::On`] no check may be violated, and
/// with [`Retries::Off`] some check must be. Reports the seed of each violation.
pub async fn schedules(
    text: &str,
    count: usize,
    duration: Duration,
    seed: u64,
    retries: Retries,
) -> Result<Vec<Quantity>> {
    let (mut fired, mut violations, mut answered) = (BTreeMap::<Fault, usize>::new(), Vec::new(), 0);
    for schedule in 0..count as u64 {
        let seed = seed + schedule;
        let (seen, succeeded) = run(text, duration, seed, retries, &mut fired).await?;
        answered += succeeded;
        violations.extend(seen.into_iter().map(|violation| format!("seed {seed}: {violation}")));
    }
    let name = if retries == Retries::On { "schedules" } else { "schedules-without-retries" };
    let first = &violations[..violations.len().min(10)];
    let mut quantities = vec![Quantity::observed(format!("{name}-calls"), answered, answered > 0, "at least 1")];
    quantities.push(match retries {
        Retries::On => {
            Quantity::observed(format!("{name}-violations"), (violations.len(), first), violations.is_empty(), "= 0")
        }
        Retries::Off => {
            Quantity::observed(format!("{name}-violations"), (violations.len(), first), !violations.is_empty(), "some")
        }
    });
    let least = FAULTS.iter().map(|fault| fired.get(fault).copied().unwrap_or(0)).min().unwrap_or(0);
    let enough = least >= EACH_MIN.min(count);
    quantities.push(Quantity::observed(
        format!("{name}-faults"),
        format!("{fired:?}"),
        enough,
        format!("each kind >= {}", EACH_MIN.min(count)),
    ));
    Ok(quantities)
}

async fn run(
    text: &str,
    duration: Duration,
    seed: u64,
    retries: Retries,
    fired: &mut BTreeMap<Fault, usize>,
) -> Result<(Vec<String>, usize)> {
    let gateway_args = match retries {
        Retries::On => Vec::new(),
        Retries::Off => ["--attempts-max", "1"].map(str::to_owned).to_vec(),
    };
    let spec =
        ClusterSpec { compressors: NODES, decoders: NODES, proxied: true, gateway_args, ..ClusterSpec::default() };
    let mut cluster = spec.start().await?;
    let api = cluster.api()?;
    let work = prepare(&api, text).await?;
    let load = work.start(&LoadClient::Raw(api.clone()), CLIENTS);
    let (mut rng, started) = (Rng::new(seed), Instant::now());
    // Injects the kinds of faults in a fixed order, so that a few schedules cover all. The seed selects the first kind.
    let mut next = rng.below(FAULTS.len());
    while started.elapsed() < duration {
        let fault = FAULTS[next % FAULTS.len()];
        next += 1;
        let number = rng.below(cluster.nodes());
        let duration = Duration::from_millis(500 + rng.below(LASTS_MAX) as u64);
        *fired.entry(fault).or_default() += 1;
        inject(&mut cluster, fault, number, duration).await?;
        cluster.wait_until_ready().await?;
        sleep(Duration::from_millis(rng.below(PAUSE_MAX) as u64)).await;
    }
    let report = load.end().await?;
    let mut violations = report.failed.clone();
    violations.extend((report.wrong > 0).then(|| format!("{} wrong texts", report.wrong)));
    violations.extend(report.lost(&api).await);
    Ok((violations, report.succeeded))
}

/// Injects a fault at node `number` and ends it after `duration`. Kills, restarts and cuts ignore `duration`.
async fn inject(cluster: &mut Cluster, fault: Fault, number: usize, duration: Duration) -> Result<()> {
    let link = match fault {
        Fault::Killed => {
            cluster.node(number).kill()?;
            return cluster.restart_node(number).await;
        }
        Fault::Restarted => {
            cluster.node(number).terminate().await?;
            return cluster.restart_node(number).await;
        }
        Fault::Stopped => {
            cluster.node(number).signal("STOP")?;
            sleep(duration).await;
            return cluster.node(number).signal("CONT");
        }
        Fault::Cut => {
            cluster.proxies[number].cut();
            return Ok(());
        }
        Fault::HalfOpen => Link { dead: true, ..Link::default() },
        Fault::Latency => Link { latency: Duration::from_millis(300), ..Link::default() },
        Fault::Drip => Link { drip: Duration::from_millis(50), ..Link::default() },
        Fault::Corrupt => Link { corrupt: 0.2, ..Link::default() },
    };
    let proxy = &cluster.proxies[number];
    proxy.set(link);
    sleep(duration).await;
    proxy.set(Link::default());
    Ok(())
}
