//! Changed and truncated files anywhere in the store: `fsck` must find them, and no read may return a wrong text.

use std::fs;

use anyhow::{Context, Result};

use super::ops::{Rng, default_options, fsck, large_text, small_text};
use crate::harness::cluster::ClusterSpec;
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::quantity::Quantity;

/// Number of small documents whose manifests share one object, a pack.
const PACKED: usize = 12;
/// Maximum number of bytes read after each fault, from a random offset.
const READ_BYTES: usize = 2_000;

/// Damages a random file, checks the store and reads a document, `count` times; the check must find every damage, and
/// no read may return a wrong text. Repairs the file each time.
pub async fn bit_flips(count: usize, seed: u64) -> Result<Vec<Quantity>> {
    let mut cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let mut texts = Vec::from_iter((0..PACKED).map(small_text));
    let puts = texts.iter().map(|text| api.put(text.as_bytes(), default_options()));
    let mut ids = Vec::new();
    for put in futures::future::try_join_all(puts).await? {
        ids.push(id_of(&put.document.context("no document")?));
    }
    for text in [small_text(100), large_text(100)] {
        let put = api.put(text.as_bytes(), c3_proto::pb::WriteOptions::default()).await?;
        ids.push(id_of(&put.document.context("no document")?));
        texts.push(text);
    }
    let gone = api.put(small_text(200).as_bytes(), default_options()).await?;
    super::ops::delete(&api, &id_of(&gone.document.context("no document")?)).await?;

    let files = cluster.objects()?;
    let mut rng = Rng::new(seed);
    let (mut wrong, mut unfound) = (Vec::new(), Vec::new());
    for round in 0..count {
        let file = &files[rng.below(files.len())];
        let intact = fs::read(file)?;
        let at = rng.below(intact.len());
        let mut damaged = intact.clone();
        let cut = round % 10 == 9;
        match cut {
            true => damaged.truncate(at),
            false => damaged[at] ^= 1 + rng.below(255) as u8,
        }
        fs::write(file, damaged)?;
        // Empties the gateway's caches, so that most reads reach the files.
        if round % 20 == 0 {
            cluster.restart_gateway().await?;
        }
        let api = cluster.api()?;
        let what = format!("{} at {at}{}", file.display(), if cut { " cut" } else { "" });
        if fsck(&api, false).await?.is_empty() {
            unfound.push(what.clone());
        }
        let document = rng.below(ids.len());
        let start = rng.below(texts[document].len().saturating_sub(READ_BYTES).max(1));
        if reads_wrong(&api, &ids[document], &texts[document], start).await {
            wrong.push(what);
        }
        fs::write(file, intact)?;
    }
    cluster.restart_gateway().await?;
    let left = fsck(&cluster.api()?, false).await?.len();
    Ok(vec![
        Quantity::observed(format!("flips-files (seed {seed}, {count} flips)"), files.len(), files.len() >= 5, ">= 5"),
        Quantity::equal("flips-wrong-text", wrong, Vec::new()),
        Quantity::equal("flips-not-found", unfound, Vec::new()),
        Quantity::equal("flips-left-after-repair", left, 0),
    ])
}

/// Returns true if a read of [`READ_BYTES`] from `start` succeeds with wrong bytes.
async fn reads_wrong(api: &GatewayApi, id: &str, text: &str, start: usize) -> bool {
    let part = start..text.len().min(start + READ_BYTES);
    let got = api.get_range(id, part.start as u64..part.end as u64).await;
    got.is_ok_and(|got| got.text != text.as_bytes()[part])
}
