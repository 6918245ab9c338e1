//! Many who change one name at once, at two gateways: each state is followed by the change of one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use c3_proto::pb;
use tonic::Code;

use super::ops::{check, small_text, sweep, written};
use crate::calls::{Calls, id_of};
use crate::cluster::Plan;
use crate::row::Row;

/// The name that all change.
const NAME: &str = "head";
/// Writers at each gateway.
const WRITERS: usize = 8;
/// Documents that the name is switched between.
const DOCUMENTS: usize = 3;

/// Changes that one writer made: the token that it expected, and the one that it got.
type Made = Vec<(String, String)>;

/// Each writer tries `tries` times to change the name from what it saw. Readers and sweeps go on meanwhile.
pub async fn contended(tries: usize) -> Result<Vec<Row>> {
    let cluster = Plan::default().start().await?;
    let second = cluster.another_gateway().await?;
    let both = [cluster.calls()?, Calls::to(&second)?];
    let mut ids = Vec::new();
    for number in 0..DOCUMENTS {
        let put = both[number % 2].put(small_text(number).as_bytes(), written()).await?;
        ids.push(id_of(&put.document.context("no document")?));
    }
    // All of them find no name: one of them sets it.
    let firsts = both.iter().cycle().take(2 * WRITERS).map(|calls| change(calls, &ids[0], String::new()));
    let firsts = futures::future::try_join_all(firsts).await?;
    let firsts = Vec::from_iter(firsts.into_iter().flatten());
    let first = firsts.first().context("nobody set the name")?.clone();

    let done = Arc::new(AtomicBool::new(false));
    let sweeps = tokio::spawn(sweep_until(both[0].clone(), Arc::clone(&done)));
    let readers = both.clone().map(|calls| tokio::spawn(read_until(calls, Arc::clone(&done))));
    let writers = Vec::from_iter((0..2 * WRITERS).map(|writer| {
        let (calls, ids) = (both[writer % 2].clone(), ids.clone());
        tokio::spawn(async move {
            let mut made = Made::new();
            for number in 0..tries {
                let saw = token(&calls).await?;
                let changed = change(&calls, &ids[(writer + number) % DOCUMENTS], saw.clone()).await?;
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
    let findings = check(&both[1], false).await?.len();
    let files = crate::cluster::files_under(&cluster.data().join("names"))?.len();
    Ok(vec![
        Row::equal("names-first-winners", firsts.len(), 1),
        Row::seen("names-changes-made", made.len(), !made.is_empty(), "some are made"),
        Row::equal("names-second-winners", twice, 0),
        Row::equal("names-changes-in-one-chain", chain.len() - 1, made.len()),
        Row::equal("names-last-is-the-chains-end", &token(&both[1]).await?, chain[chain.len() - 1]),
        Row::equal("names-read-broken", broken, Vec::new()),
        Row::at_most("names-files", files as f64, 2.0),
        Row::equal("names-findings", findings, 0),
    ])
}

/// Points the name at a document if it still has the token: the new token, or `None` where somebody was faster.
async fn change(calls: &Calls, id: &str, expected: String) -> Result<Option<String>> {
    let request = pb::SetNameRequest {
        name: NAME.to_owned(),
        id: id.to_owned(),
        expected: Some(expected),
        ..Default::default()
    };
    match calls.raw().set_name(request).await {
        Ok(set) => Ok(Some(set.into_inner().named.context("no name")?.token)),
        Err(status) if status.code() == Code::Aborted => Ok(None),
        Err(status) => Err(status.into()),
    }
}

async fn token(calls: &Calls) -> Result<String> {
    let request = pb::GetNameRequest { name: NAME.to_owned(), ..Default::default() };
    Ok(calls.raw().get_name(request).await?.into_inner().named.context("no name")?.token)
}

/// Sweeps without a grace for as long as others change the name.
async fn sweep_until(calls: Calls, done: Arc<AtomicBool>) -> Result<()> {
    while !done.load(Ordering::Relaxed) {
        sweep(&calls, 0).await?;
    }
    Ok(())
}

/// Reads by the name for as long as others change it. What was other than a document.
async fn read_until(calls: Calls, done: Arc<AtomicBool>) -> Vec<String> {
    let mut broken = Vec::new();
    while !done.load(Ordering::Relaxed) {
        if let Err(status) = calls.stat(&format!("@{NAME}")).await {
            broken.push(status.to_string());
        }
    }
    broken
}
