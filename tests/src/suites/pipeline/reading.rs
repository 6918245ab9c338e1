//! Range reads that decode few windows, and puts that reuse stored shards, as the nodes' counters show.

use anyhow::{Context, Result};

use crate::harness::cluster::ClusterSpec;
use crate::harness::gateway_api::id_of;
use crate::harness::quantity::Quantity;

const RATIO: u32 = 20;

/// Reads `bytes` bytes from the middle of a document; they must be exact, and nodes may decode at most `windows_max`
/// windows (parts of the text) for them.
pub async fn range(text: &str, bytes: u64, windows_max: u32) -> Result<Vec<Quantity>> {
    let mut cluster = ClusterSpec::default().start().await?;
    let put = cluster.api()?.put_at(text.as_bytes(), RATIO).await?;
    cluster.restart_gateway().await?;

    let from = text.len() as u64 / 2;
    let before = cluster.counters().await?.1.windows_decoded;
    let id = id_of(&put.document.context("no document")?);
    let got = cluster.api()?.get_range(&id, from..from + bytes).await?;
    let decoded = cluster.counters().await?.1.windows_decoded - before;
    let exact = got.text == text.as_bytes()[from as usize..(from + bytes) as usize];
    Ok(vec![
        Quantity::holds("range-exact", exact, format!("the {bytes} requested bytes")),
        Quantity::observed(
            "range-windows-decoded",
            decoded,
            (1..=u64::from(windows_max)).contains(&decoded),
            format!("1 to {windows_max}"),
        ),
    ])
}

/// Puts a text twice, then with a new paragraph in the middle; the second put must compute nothing, and the third may
/// compress at most `shards_max` shards. A shard is a part of the text whose results are reused as a unit.
pub async fn reuse(text: &str, shards_max: u32) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    api.put_at(text.as_bytes(), RATIO).await?;
    let first = cluster.counters().await?;
    api.put_at(text.as_bytes(), RATIO).await?;
    let second = cluster.counters().await?;
    let compressed = second.0.windows_compressed - first.0.windows_compressed;
    let verified = second.1.windows_verified - first.1.windows_verified;

    let middle = text[text.floor_char_boundary(text.len() / 2)..].find("\n\n").context("no paragraph")?;
    let middle = text.floor_char_boundary(text.len() / 2) + middle;
    let edited = format!("{}\n\nA sentence that the author never wrote.{}", &text[..middle], &text[middle..]);
    let put = api.put_at(edited.as_bytes(), RATIO).await?;
    let document = put.document.context("no document")?;
    let shards = (document.shards - put.shards_reused) as u32;
    let third = cluster.counters().await?;
    let back = api.get(&id_of(&document)).await?.text == edited.as_bytes();
    Ok(vec![
        Quantity::equal("reuse-windows-compressed-again", compressed, 0),
        Quantity::equal("reuse-windows-verified-again", verified, 0),
        Quantity::holds(
            "reuse-edit-compressed",
            third.0.windows_compressed > second.0.windows_compressed,
            "the edit is compressed",
        ),
        Quantity::at_most("reuse-edit-shards-compressed", shards, shards_max),
        Quantity::holds("reuse-edit-identical", back, "identical"),
    ])
}
