//! A gateway that is killed during writes: acknowledged documents must stay, and no reference may dangle.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use c3_proto::pb::{PutName, WriteOptions};
use c3_types::DocumentId;
use tokio::time::{Instant, sleep};
use tonic::Code;

use super::ops::{self, Rng, dangling, default_options, fsck, large_text, medium_text, small_text, sweep};
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::quantity::Quantity;

/// Number of puts in flight when the gateway is killed.
const PUTS: usize = 4;
/// Number of the text that is put before the first kill; later kills use the numbers after it. With these texts, every
/// kill has an acknowledged document.
const FIRST: usize = 900_000;
/// Minimum number of kills for the share of kills during a write to have a bound.
const COUNT_MIN: usize = 20;
/// Number of bytes of each document that are read at the end, from its beginning.
const PART_BYTES: usize = 150;
/// Number of documents that are deleted before each sweep.
const DELETED_AT_ONCE: usize = 2;

/// Acknowledged documents: texts by id.
type Model = BTreeMap<String, String>;

/// Index, among the puts in flight, of the put that also sets [`NAME`].
const NAMED_PUT: usize = 1;
/// The name that each round of puts sets to a new document.
const NAME: &str = "latest";

/// Expected id of the document that has the name, and observations that contradict it.
#[derive(Default)]
struct NameCheck {
    is: Option<String>,
    broken: Vec<String>,
}

impl NameCheck {
    /// Requires that the name refers to its previous document or to `tried`, whose put may have been interrupted.
    async fn check(&mut self, api: &GatewayApi, tried: String) {
        match api.stat(&format!("@{NAME}")).await.map(|document| id_of(&document)) {
            Ok(id) if id == tried || Some(&id) == self.is.as_ref() => {
                self.is = Some(id);
            }
            Err(status) if status.code() == Code::NotFound && self.is.is_none() => {}
            other => self.broken.push(format!("{other:?} instead of {:?}", self.is)),
        }
    }
}

/// Kills the gateway `count` times during puts, and `count` times during deletes and sweeps (garbage collections); no
/// acknowledged document may be lost, and no reference may dangle.
pub async fn kills(count: usize, seed: u64) -> Result<Vec<Quantity>> {
    let mut scenario = Scenario::begin(seed).await?;
    let mut quantities = scenario.puts(count).await?;
    quantities.extend(scenario.sweeps(count).await?);
    Ok(quantities)
}

/// Kills the gateway `count` times during puts; no acknowledged document may be lost, and no reference may dangle.
pub async fn during_puts_only(count: usize, seed: u64) -> Result<Vec<Quantity>> {
    Scenario::begin(seed).await?.puts(count).await
}

struct Scenario {
    cluster: Cluster,
    rng: Rng,
    seed: u64,
    model: Model,
}

impl Scenario {
    async fn begin(seed: u64) -> Result<Self> {
        let cluster = ClusterSpec::with_gateway_args(&["--gc-grace", "1s"]).start().await?;
        Ok(Self { cluster, rng: Rng::new(seed), seed, model: Model::new() })
    }

    async fn puts(&mut self, count: usize) -> Result<Vec<Quantity>> {
        let (mut inside, mut named) = (0, NameCheck::default());
        let Self { cluster, rng, model, seed } = self;
        for round in 0..count {
            inside += usize::from(during_puts(cluster, round, rng, model, &mut named).await?);
        }
        let mut quantities =
            vec![Quantity::equal("kills-put-names-broken", std::mem::take(&mut named.broken), Vec::new())];
        quantities.extend(verdict("put", *seed, count, inside, cluster, model).await?);
        Ok(quantities)
    }

    async fn sweeps(&mut self, count: usize) -> Result<Vec<Quantity>> {
        let (mut inside, Self { cluster, rng, model, seed }) = (0, self);
        for round in 0..count {
            inside += usize::from(during_sweeps(cluster, count + round, rng, model).await?);
        }
        verdict("sweep", *seed, count, inside, cluster, model).await
    }
}

/// Puts several texts and kills the gateway at a random time after the first write. Returns true if any put was not
/// acknowledged.
async fn during_puts(
    cluster: &mut Cluster,
    round: usize,
    rng: &mut Rng,
    model: &mut Model,
    named: &mut NameCheck,
) -> Result<bool> {
    let api = cluster.api()?;
    let first = small_text(FIRST + round);
    let put = api.put(first.as_bytes(), default_options()).await?;
    model.insert(id_of(&put.document.context("no document")?), first);
    let before = cluster.objects()?.len();
    let puts = Vec::from_iter((0..PUTS).map(|put| {
        let number = round * PUTS + put;
        let text = if put == 0 { large_text(number) } else { small_text(number) };
        let api = api.clone();
        let name = (put == NAMED_PUT).then(|| PutName { name: NAME.to_owned(), ..PutName::default() });
        tokio::spawn(async move {
            let put = api.put(text.as_bytes(), WriteOptions { name, ..default_options() }).await?;
            Ok::<_, tonic::Status>((id_of(&put.document.unwrap_or_default()), text))
        })
    }));
    // Waits for the first write to the store. Before that, only the models work.
    let deadline = Instant::now() + Duration::from_secs(60);
    while cluster.objects()?.len() == before && Instant::now() < deadline {
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_micros(rng.below(120_000) as u64)).await;
    cluster.gateway.kill()?;
    let mut acknowledged = 0;
    let tried = DocumentId::of(small_text(round * PUTS + NAMED_PUT).as_bytes()).to_string();
    for put in puts {
        if let Ok((id, text)) = put.await? {
            if id == tried {
                named.is = Some(id.clone());
            }
            model.insert(id, text);
            acknowledged += 1;
        }
    }
    cluster.restart_gateway().await?;
    named.check(&cluster.api()?, tried).await;
    Ok(acknowledged < PUTS)
}

/// Deletes documents, sweeps, and kills the gateway at a random time. Returns true if the kill interrupted a delete or
/// the sweep.
async fn during_sweeps(cluster: &mut Cluster, round: usize, rng: &mut Rng, model: &mut Model) -> Result<bool> {
    let api = cluster.api()?;
    for number in [2 * round, 2 * round + 1] {
        let text = if number % 2 == 0 { small_text(number + 500_000) } else { medium_text(number + 500_000) };
        let put = api.put(text.as_bytes(), default_options()).await?;
        model.insert(id_of(&put.document.context("no document")?), text);
    }
    let victims = Vec::from_iter((0..DELETED_AT_ONCE.min(model.len())).map(|_| {
        let nth = rng.below(model.len());
        model.keys().nth(nth).cloned().unwrap_or_default()
    }));
    let upkeep = {
        let (api, victims) = (api.clone(), victims.clone());
        tokio::spawn(async move {
            for id in &victims {
                match ops::delete(&api, id).await {
                    Err(status) if status.code() != Code::NotFound => return Err(status),
                    _ => {}
                }
            }
            sweep(&api, 0).await.map(drop)
        })
    };
    sleep(Duration::from_micros(rng.below(20_000) as u64)).await;
    let under_way = !upkeep.is_finished();
    cluster.gateway.kill()?;
    drop(upkeep.await?);
    cluster.restart_gateway().await?;
    // An interrupted delete may or may not have succeeded. A document that was not deleted must be intact.
    for id in victims {
        if is_deleted(&cluster.api()?, &id).await? {
            model.remove(&id);
        }
    }
    Ok(under_way)
}

async fn is_deleted(api: &GatewayApi, id: &str) -> Result<bool> {
    match api.stat(id).await {
        Ok(_) => Ok(false),
        Err(status) if status.code() == Code::NotFound => Ok(true),
        Err(status) => Err(status.into()),
    }
}

async fn verdict(
    what: &str,
    seed: u64,
    count: usize,
    inside: usize,
    cluster: &Cluster,
    model: &Model,
) -> Result<Vec<Quantity>> {
    let api = cluster.api()?;
    let mut lost = 0;
    for (id, text) in model {
        // Reads only a part, which is faster. `fsck` below reads every object of every window.
        let part = 0..text.len().min(PART_BYTES);
        let got = api.get_range(id, part.start as u64..part.end as u64).await;
        let same = got.is_ok_and(|got| got.text == text.as_bytes()[part]);
        lost += usize::from(!same);
    }
    let findings = fsck(&api, false).await?;
    let share = inside as f64 / count as f64;
    let name = format!("kills-{what}-during-a-write (seed {seed}, {count} kills)");
    Ok(vec![
        Quantity::observed(name, share, share >= 0.8 || count < COUNT_MIN, format!(">= 0.8 of {COUNT_MIN} or more")),
        Quantity::observed(format!("kills-{what}-documents"), model.len(), !model.is_empty(), "at least 1"),
        Quantity::equal(format!("kills-{what}-lost"), lost, 0),
        Quantity::equal(format!("kills-{what}-dangling"), dangling(&findings), 0),
        Quantity::equal(format!("kills-{what}-findings"), findings.len(), 0),
    ])
}
