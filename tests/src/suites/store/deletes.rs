//! Sweeps (garbage collections) after deletes: deleted documents must stay deleted, and all others must stay readable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use tonic::Code;

use super::ops::{self, Rng, default_options, medium_text, small_text, sweep};
use crate::harness::cluster::ClusterSpec;
use crate::harness::gateway_api::id_of;
use crate::harness::quantity::Quantity;

/// Deletes every second document, then makes `reads` reads of random documents while sweeps run; deleted documents must
/// give NOT_FOUND, and all others their text.
pub async fn deletes(documents: usize, reads: usize, seed: u64) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let texts = Vec::from_iter((0..documents).map(|number| match number % 10 {
        0 | 1 => medium_text(number),
        _ => small_text(number),
    }));
    let puts = try_join_all(texts.iter().map(|text| api.put(text.as_bytes(), default_options()))).await?;
    let mut ids = Vec::new();
    for put in puts {
        ids.push(id_of(&put.document.context("no document")?));
    }
    for id in ids.iter().step_by(2) {
        ops::delete(&api, id).await?;
    }
    let done = Arc::new(AtomicBool::new(false));
    let sweeping = {
        let (api, done) = (api.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut removed = 0;
            while !done.load(Ordering::Relaxed) {
                removed += sweep(&api, 0).await?.removed;
            }
            Ok::<_, tonic::Status>(removed)
        })
    };
    let mut rng = Rng::new(seed);
    let (mut found, mut wrong) = (0, 0);
    for _ in 0..reads {
        let number = rng.below(documents);
        let read = api.get(&ids[number]).await;
        match number.is_multiple_of(2) {
            true => found += usize::from(!read.is_err_and(|status| status.code() == Code::NotFound)),
            false => wrong += usize::from(!read.is_ok_and(|got| got.text == texts[number].as_bytes())),
        }
    }
    done.store(true, Ordering::Relaxed);
    let removed = sweeping.await??;
    Ok(vec![
        Quantity::equal(format!("deleted-but-found (seed {seed}, {reads} reads)"), found, 0),
        Quantity::equal("kept-but-wrong", wrong, 0),
        Quantity::at_least("swept-objects", removed as f64, 1.0),
        Quantity::equal("documents-left", api.ids().await?.len(), documents / 2),
        Quantity::equal("findings-after", ops::fsck(&api, false).await?.len(), 0),
    ])
}
