//! What the published code and our own training code compute, computed anew by the cascade.

use anyhow::{Context, Result};
use c3_cascade::{Options, Precision};
use c3_proto::{LatentCodec, pb};

use super::{golden_default, golden_published};
use crate::cluster::Plan;
use crate::fixtures::Shared;
use crate::row::Row;
use crate::vectors::Vectors;

/// Golden vectors of both layouts on a device. Row names begin with `prefix` and say the path: f32, or on the
/// processor also the served one.
pub fn vectors(shared: Shared, device: &str, prefix: &str) -> Result<Vec<Row>> {
    let device = device.parse()?;
    let exact = Options { device, precision: Precision::F32 };
    let published = Vectors::read(&shared.path("golden")?)?;
    let model = shared.golden_model()?;
    let mut rows =
        golden_published::rows(&format!("{prefix}golden-published"), model.path(), &published, &exact)?;

    let default = Vectors::read(&shared.path("model")?)?;
    let folder = crate::fixtures::default_model();
    rows.extend(golden_default::rows(&format!("{prefix}golden-default-f32"), &folder, &default, &exact)?);
    if device == c3_cascade::DeviceChoice::Cpu {
        let served = Options { device, precision: Precision::Auto };
        rows.extend(golden_default::rows(
            &format!("{prefix}golden-default-served"),
            &folder,
            &default,
            &served,
        )?);
    }
    Ok(rows)
}

/// The published-layout checkpoint as the model of the three programs: a page roundtrips, one-shot text is the
/// published code's.
pub async fn model(shared: Shared, page: &str) -> Result<Vec<Row>> {
    let folder = shared.golden_model()?;
    let cluster = Plan::of_model(folder.path().to_path_buf()).start().await?;
    let calls = cluster.calls()?;
    let put = calls.put(page.as_bytes(), pb::WriteOptions::default()).await?;
    let id = crate::calls::id_of(&put.document.context("no document")?);
    let mut rows = vec![Row::holds(
        "golden-model-identical",
        calls.get(&id).await?.text == page.as_bytes(),
        "identical",
    )];

    let ratio = cluster.compressor_says().await?.shape.context("no shape")?.ratio_max;
    let vectors = Vectors::read(&shared.path("golden")?)?;
    for case in vectors.list("cases")? {
        let text = case["context"].as_str().context("no context")?;
        let options = pb::WriteOptions { ratio, codec: LatentCodec::F32.to_wire(), ..Default::default() };
        let windows = calls.compress(text.as_bytes(), options).await?;
        let tokens_max = case["greedy_tokens"].as_array().context("no tokens")?.len() as u32;
        let prompt = case["prompt"].as_str().map(str::to_owned);
        let options = pb::DecompressOptions { prompt, tokens_max, ..Default::default() };
        let said = String::from_utf8(calls.decompress(windows, options).await?)?;
        let expected = case["returned_text"].as_str().context("no text")?;
        let name = case["name"].as_str().context("no name")?;
        rows.push(Row::equal(format!("golden-model-one-shot-{name}"), said.as_str(), expected));
    }
    Ok(rows)
}
