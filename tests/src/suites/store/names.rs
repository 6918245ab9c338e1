//! Concurrent compare-and-set of one name at two gateways: each version must have exactly one successor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use c3_proto::pb;
use tonic::Code;

use super::ops::{default_options, fsck, small_text, sweep};
use crate::harness::cluster::ClusterSpec;
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::quantity::Quantity;

/// The contended name.
const NAME: &str = "head";
/// Number of writers at each gateway.
const WRITERS: usize = 8;
/// Number of documents among which the writers switch the name.
const DOCUMENTS: usize = 3;

/// Successful changes: pairs of the expected token and the new token.
type Made = Vec<(String, String)>;

/// Runs writers that each try `tries` compare-and-set changes of one name; every version of the name must have exactly
/// one successor, and every read must succeed. Readers and sweeps (garbage collections) run at the same time.
pub async fn contended(tries: usize) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let second = cluster.start_second_gateway().await?;
    let both = [cluster.api()?, GatewayApi::to(&second)?];
    let mut ids = Vec::new();
    for number in 0..DOCUMENTS {
        let put = both[number % 2].put(small_text(number).as_bytes(), default_options()).await?;
        ids.push(id_of(&put.document.context("no document")?));
    }
    // All of these changes expect the name to be absent, so exactly one may succeed.
    let firsts = both.iter().cycle().take(2 * WRITERS).map(|api| change(api, &ids[0], String::new()));
    let firsts = futures::future::try_join_all(firsts).await?;
    let firsts = Vec::from_iter(firsts.into_iter().flatten());
    let first = firsts.first().context("no writer set the name")?.clone();

    let done = Arc::new(AtomicBool::new(false));
    let sweeps = tokio::spawn(sweep_until(both[0].clone(), Arc::clone(&done)));
    let readers = both.clone().map(|api| tokio::spawn(read_until(api, Arc::clone(&done))));
    let writers = Vec::from_iter((0..2 * WRITERS).map(|writer| {
        let (api, ids) = (both[writer % 2].clone(), ids.clone());
        tokio::spawn(async move {
            let mut made = Made::new();
            for number in 0..tries {
                let saw = token(&api).await?;
                let changed = change(&api, &ids[(writer + number) % DOCUMENTS], saw.clone()).await?;
                made.extend(changed.map(|token| (saw, token)));
            }
            Ok::<_, anyhow::Error>(made)
        })
    }));
    let mut made = Made::new();
    for writer in writers {
        made.extend(writer.await??);
    }
    done.store(true, Ordering::Relaxed);
    sweeps.await??;
    let mut broken = Vec::new();
    for reader in readers {
        broken.extend(reader.await?);
    }
    let from = BTreeSet::from_iter(made.iter().map(|(from, _)| from));
    let twice = made.len() - from.len();
    let next = BTreeMap::from_iter(made.iter().cloned());
    let chain = std::iter::successors(Some(&first), |token| next.get(*token));
    let chain = Vec::from_iter(chain);
    let findings = fsck(&both[1], false).await?.len();
    let files = crate::harness::cluster::files_under(&cluster.data().join("names"))?.len();
    Ok(vec![
        Quantity::equal("names-first-winners", firsts.len(), 1),
        Quantity::observed("names-changes-made", made.len(), !made.is_empty(), "at least 1"),
        Quantity::equal("names-second-winners", twice, 0),
        Quantity::equal("names-changes-in-one-chain", chain.len() - 1, made.len()),
        Quantity::equal("names-last-is-the-chains-end", &token(&both[1]).await?, chain[chain.len() - 1]),
        Quantity::equal("names-read-broken", broken, Vec::new()),
        Quantity::at_most("names-files", files as f64, 2.0),
        Quantity::equal("names-findings", findings, 0),
    ])
}

/// Sets the name to a document if the name's token is `expected`. Returns the new token, or `None` if the name's token
/// is another one.
async fn change(api: &GatewayApi, id: &str, expected: String) -> Result<Option<String>> {
    let request =
        pb::SetNameRequest { name: NAME.to_owned(), id: id.to_owned(), expected: Some(expected), ..Default::default() };
    match api.stub().set_name(request).await {
        Ok(set) => Ok(Some(set.into_inner().named.context("no name")?.token)),
        Err(status) if status.code() == Code::Aborted => Ok(None),
        Err(status) => Err(status.into()),
    }
}

async fn token(api: &GatewayApi) -> Result<String> {
    let request = pb::GetNameRequest { name: NAME.to_owned(), ..Default::default() };
    Ok(api.stub().get_name(request).await?.into_inner().named.context("no name")?.token)
}

/// Sweeps without a grace period until `done` is true.
async fn sweep_until(api: GatewayApi, done: Arc<AtomicBool>) -> Result<()> {
    while !done.load(Ordering::Relaxed) {
        sweep(&api, 0).await?;
    }
    Ok(())
}

/// Reads the document of the name repeatedly until `done` is true. Returns the errors.
async fn read_until(api: GatewayApi, done: Arc<AtomicBool>) -> Vec<String> {
    let mut broken = Vec::new();
    while !done.load(Ordering::Relaxed) {
        if let Err(status) = api.stat(&format!("@{NAME}")).await {
            broken.push(status.to_string());
        }
    }
    broken
}
