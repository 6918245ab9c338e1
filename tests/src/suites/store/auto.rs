//! `ratio: auto`: the gateway chooses a ratio (text tokens per latent) for each shard, a part of the text. It must meet
//! the bound with few latents and little additional computation.

use anyhow::{Context, Result};
use c3_proto::pb;

use super::genres::GenreText;
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::gateway_api::id_of;
use crate::harness::quantity::Quantity;

/// Candidate ratios.
const RATIOS: [u32; 4] = [10, 20, 40, 80];
/// Minimum fidelity: the fraction of tokens that the decoder predicts correctly.
const FIDELITY_MIN: f64 = 0.999;
/// Maximum number of latents, relative to a put of the whole text at the highest single ratio that meets the bound.
const LATENTS_MAX: f64 = 1.1;
/// Maximum number of tokens that are compressed in addition to those of a put at one ratio, as a fraction of the
/// latter.
const EXTRA_MAX: f64 = 0.6;
/// Minimum number of shards for [`EXTRA_MAX`] to apply. In a text of fewer shards, a single shard is a large part.
const BOUNDED_SHARDS: u64 = 4;

/// Puts texts of several genres with `ratio: auto`; each must meet the fidelity bound or report that it does not, with
/// at most [`LATENTS_MAX`] times the latents of a put at the best single ratio. A second put of a text of several
/// shards must compress nothing.
pub async fn auto(texts: &[GenreText]) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let (mut quantities, mut compressed, mut tokens) = (Vec::new(), 0, 0);
    for (number, (genre, text)) in texts.iter().enumerate() {
        let before = compressed_tokens(&cluster).await?;
        let put = cluster.api()?.put(text.as_bytes(), options()).await?;
        let added = compressed_tokens(&cluster).await? - before;
        let document = put.document.context("no document")?;
        let size = format!("text {number}, {} bytes, {} shards", text.len(), document.shards);
        let name = |what: &str| format!("auto-{genre}-{what} ({size})");

        let fidelity = fidelity(&document);
        let kept = fidelity >= FIDELITY_MIN;
        let reported = put.bound_met.context("the answer lacks bound_met")?;
        quantities.push(Quantity::observed(
            name("fidelity"),
            fidelity,
            kept || !reported,
            format!(">= {FIDELITY_MIN}, or reported as not met"),
        ));
        quantities.push(Quantity::equal(name("bound-met"), reported, kept));
        let same = cluster.api()?.get(&id_of(&document)).await?.text == text.as_bytes();
        quantities.push(Quantity::holds(name("identical"), same, "identical"));
        let extra = added as f64 / document.tokens as f64 - 1.0;
        (compressed, tokens) = (compressed + added, tokens + document.tokens);
        quantities.push(match document.shards {
            BOUNDED_SHARDS.. => Quantity::at_most(name("extra-work"), extra, EXTRA_MAX),
            _ => Quantity::reported(name("extra-work"), extra),
        });

        let again = compressed_tokens(&cluster).await?;
        let put = cluster.api()?.put(text.as_bytes(), options()).await?;
        let again = (compressed_tokens(&cluster).await? - again) as f64 / document.tokens as f64;
        quantities.push(match document.shards {
            // A single shard is stored in the manifest, and only at its final ratio. A second put therefore tries the
            // other ratios again.
            ..=1 => Quantity::reported(name("again-compressed"), again),
            _ => Quantity::at_most(name("again-compressed"), again, 0.0),
        });
        quantities.push(Quantity::equal(
            name("again-latents"),
            put.document.map_or(0, |of| of.latents),
            document.latents,
        ));

        let best = best_single(&cluster, text).await?;
        let over = best.map(|best| document.latents as f64 / best as f64);
        let ok = over.is_none_or(|over| over <= LATENTS_MAX);
        quantities.push(Quantity::observed(name("latents-over-best-single"), over, ok, format!("<= {LATENTS_MAX}")));
    }
    let extra = compressed as f64 / tokens as f64 - 1.0;
    let name = format!("auto-extra-work ({} texts, {tokens} tokens)", texts.len());
    quantities.push(Quantity::reported(name, extra));
    Ok(quantities)
}

/// Puts a text with three different bounds on its stored bytes; the gateway must choose the lowest ratios with which
/// the text fits.
pub async fn stored_bytes(text: &str) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let [low, high] = [20, 80].map(|ratio| api.put_at(text.as_bytes(), ratio));
    let (low, high) = (low.await?.document.unwrap_or_default(), high.await?.document.unwrap_or_default());
    let mut quantities = Vec::new();
    for (name, most, met) in [
        ("generous", 2 * low.stored_bytes, true),
        ("between", (low.stored_bytes + high.stored_bytes) / 2, true),
        ("impossible", 100, false),
    ] {
        let auto = pb::AutoRatio { ratios: vec![20, 80], stored_bytes_max: Some(most), ..Default::default() };
        let bytes = Some(text.len() as u64);
        let options = pb::WriteOptions { auto_ratio: Some(auto), bytes, ..Default::default() };
        let put = api.put(text.as_bytes(), options).await?;
        let stored = put.document.context("no document")?;
        quantities.push(Quantity::equal(format!("auto-bytes-{name}-met"), put.bound_met, Some(met)));
        let expected = match name {
            "generous" => stored.latents == low.latents,
            "between" => stored.stored_bytes <= most && stored.latents > high.latents,
            _ => stored.latents == high.latents,
        };
        let latents = (stored.latents, stored.stored_bytes);
        quantities.push(Quantity::observed(
            format!("auto-bytes-{name}"),
            latents,
            expected,
            "the lowest ratios that fit",
        ));
    }
    Ok(quantities)
}

fn options() -> pb::WriteOptions {
    let auto = pb::AutoRatio { ratios: RATIOS.into(), fidelity_min: Some(FIDELITY_MIN), ..Default::default() };
    pb::WriteOptions { auto_ratio: Some(auto), ..Default::default() }
}

fn fidelity(document: &pb::Document) -> f64 {
    document.tokens_right as f64 / document.tokens.max(1) as f64
}

async fn compressed_tokens(cluster: &Cluster) -> Result<u64> {
    Ok(cluster.counters().await?.0.tokens_compressed)
}

/// Returns the number of latents at the highest single ratio that meets the bound, or `None` if no ratio does.
async fn best_single(cluster: &Cluster, text: &str) -> Result<Option<u64>> {
    for ratio in RATIOS.into_iter().rev() {
        let put = cluster.api()?.put_at(text.as_bytes(), ratio).await?;
        let document = put.document.context("no document")?;
        if fidelity(&document) >= FIDELITY_MIN {
            return Ok(Some(document.latents));
        }
    }
    Ok(None)
}
