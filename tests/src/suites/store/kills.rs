//! A gateway that is killed while it writes: what it acknowledged stays, and nothing dangles.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use c3_proto::DocumentId;
use c3_proto::pb::{PutName, WriteOptions};
use tokio::time::{Instant, sleep};
use tonic::Code;

use super::ops::{self, Dice, check, dangling, large_text, objects_text, small_text, sweep, written};
use crate::calls::{Calls, id_of};
use crate::cluster::{Cluster, Plan, files_under};
use crate::row::Row;

/// Texts that are put at once when the gateway is killed.
const PUTS: usize = 4;
/// Number of the text that a round puts before all others, so that each kill finds an acknowledged document.
const FIRST: usize = 900_000;
/// Fewest kills of which a share can be asked for.
const COUNT_MIN: usize = 20;
/// Bytes of each document that are read in the end.
const PART_BYTES: usize = 150;
/// Documents that a sweep has to do with.
const DELETED_AT_ONCE: usize = 2;

/// What must be there.
type Model = BTreeMap<String, String>;

/// The put of a round that gives its document the name.
const NAMED_PUT: usize = 1;
/// That name.
const NAME: &str = "latest";

/// What the name must be.
#[derive(Default)]
struct Named {
    is: Option<String>,
    broken: Vec<String>,
}

impl Named {
    /// Whether the name is as it was, or as a put that was killed would have it.
    async fn check(&mut self, calls: &Calls, tried: String) {
        match calls.stat(&format!("@{NAME}")).await.map(|document| id_of(&document)) {
            Ok(id) if id == tried || Some(&id) == self.is.as_ref() => {
                self.is = Some(id);
            }
            Err(status) if status.code() == Code::NotFound && self.is.is_none() => {}
            other => self.broken.push(format!("{other:?} in the place of {:?}", self.is)),
        }
    }
}

/// Kills `count` times during puts, and `count` times during deletes and sweeps.
pub async fn kills(count: usize, seed: u64) -> Result<Vec<Row>> {
    let mut scene = Scene::begin(seed).await?;
    let mut rows = scene.puts(count).await?;
    rows.extend(scene.sweeps(count).await?);
    Ok(rows)
}

/// Kills `count` times during puts.
pub async fn during_every_put(count: usize, seed: u64) -> Result<Vec<Row>> {
    Scene::begin(seed).await?.puts(count).await
}

struct Scene {
    cluster: Cluster,
    dice: Dice,
    seed: u64,
    model: Model,
}

impl Scene {
    async fn begin(seed: u64) -> Result<Self> {
        let cluster = Plan::with_gateway_args(&["--grace-s", "1"]).start().await?;
        Ok(Self { cluster, dice: Dice::new(seed), seed, model: Model::new() })
    }

    async fn puts(&mut self, count: usize) -> Result<Vec<Row>> {
        let (mut inside, mut named) = (0, Named::default());
        let Self { cluster, dice, model, seed } = self;
        for round in 0..count {
            inside += usize::from(during_puts(cluster, round, dice, model, &mut named).await?);
        }
        let mut rows =
            vec![Row::equal("kills-put-names-broken", std::mem::take(&mut named.broken), Vec::new())];
        rows.extend(verdict("put", *seed, count, inside, cluster, model).await?);
        Ok(rows)
    }

    async fn sweeps(&mut self, count: usize) -> Result<Vec<Row>> {
        let (mut inside, Self { cluster, dice, model, seed }) = (0, self);
        for round in 0..count {
            inside += usize::from(during_sweeps(cluster, count + round, dice, model).await?);
        }
        verdict("sweep", *seed, count, inside, cluster, model).await
    }
}

/// Puts several texts and kills at a random instant. Whether files were being written when it was.
async fn during_puts(
    cluster: &mut Cluster,
    round: usize,
    dice: &mut Dice,
    model: &mut Model,
    named: &mut Named,
) -> Result<bool> {
    let calls = cluster.calls()?;
    let first = small_text(FIRST + round);
    let put = calls.put(first.as_bytes(), written()).await?;
    model.insert(id_of(&put.document.context("no document")?), first);
    let before = files_under(&cluster.data())?.len();
    let puts = Vec::from_iter((0..PUTS).map(|put| {
        let number = round * PUTS + put;
        let text = if put == 0 { large_text(number) } else { small_text(number) };
        let calls = calls.clone();
        let name = (put == NAMED_PUT).then(|| PutName { name: NAME.to_owned(), ..PutName::default() });
        tokio::spawn(async move {
            let put = calls.put(text.as_bytes(), WriteOptions { name, ..written() }).await?;
            Ok::<_, tonic::Status>((id_of(&put.document.unwrap_or_default()), text))
        })
    }));
    // From the first write on: what comes before it is the models' work.
    let deadline = Instant::now() + Duration::from_secs(60);
    while files_under(&cluster.data())?.len() == before && Instant::now() < deadline {
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_micros(dice.roll(120_000) as u64)).await;
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
    named.check(&cluster.calls()?, tried).await;
    Ok(acknowledged < PUTS)
}

/// Deletes, sweeps and kills at a random instant. Whether they were under way when it was.
async fn during_sweeps(
    cluster: &mut Cluster,
    round: usize,
    dice: &mut Dice,
    model: &mut Model,
) -> Result<bool> {
    let calls = cluster.calls()?;
    for number in [2 * round, 2 * round + 1] {
        let text =
            if number % 2 == 0 { small_text(number + 500_000) } else { objects_text(number + 500_000) };
        let put = calls.put(text.as_bytes(), written()).await?;
        model.insert(id_of(&put.document.context("no document")?), text);
    }
    let victims = Vec::from_iter((0..DELETED_AT_ONCE.min(model.len())).map(|_| {
        let nth = dice.roll(model.len());
        model.keys().nth(nth).cloned().unwrap_or_default()
    }));
    let upkeep = {
        let (calls, victims) = (calls.clone(), victims.clone());
        tokio::spawn(async move {
            for id in &victims {
                match ops::delete(&calls, id).await {
                    Err(status) if status.code() != Code::NotFound => return Err(status),
                    _ => {}
                }
            }
            sweep(&calls, 0).await.map(drop)
        })
    };
    sleep(Duration::from_micros(dice.roll(20_000) as u64)).await;
    let under_way = !upkeep.is_finished();
    cluster.gateway.kill()?;
    drop(upkeep.await?);
    cluster.restart_gateway().await?;
    // Whether a delete came to its end nobody was told: it did or did not, as a whole.
    for id in victims {
        if is_gone(&cluster.calls()?, &id).await? {
            model.remove(&id);
        }
    }
    Ok(under_way)
}

async fn is_gone(calls: &Calls, id: &str) -> Result<bool> {
    match calls.stat(id).await {
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
) -> Result<Vec<Row>> {
    let calls = cluster.calls()?;
    let mut lost = 0;
    for (id, text) in model {
        // The check below reads all objects of all windows; that the text comes back, a part of it shows sooner.
        let part = 0..text.len().min(PART_BYTES);
        let got = calls.get_range(id, part.start as u64..part.end as u64).await;
        let same = got.is_ok_and(|got| got.text == text.as_bytes()[part]);
        lost += usize::from(!same);
    }
    let findings = check(&calls, false).await?;
    let share = inside as f64 / count as f64;
    let name = format!("kills-{what}-inside (seed {seed}, {count} kills)");
    Ok(vec![
        Row::seen(name, share, share >= 0.8 || count < COUNT_MIN, format!(">= 0.8 of {COUNT_MIN} or more")),
        Row::seen(format!("kills-{what}-documents"), model.len(), !model.is_empty(), "some are acknowledged"),
        Row::equal(format!("kills-{what}-lost"), lost, 0),
        Row::equal(format!("kills-{what}-dangling"), dangling(&findings), 0),
        Row::equal(format!("kills-{what}-findings"), findings.len(), 0),
    ])
}
