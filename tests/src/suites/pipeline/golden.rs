//! The golden vectors on a device, and the published-layout checkpoint as the model of the three programs.

use std::fs;

use anyhow::{Context, Result};
use c3_cascade::{DeviceChoice, Options};
use c3_proto::{LatentCodec, pb};
use serde::Deserialize;

use crate::calls::id_of;
use crate::cluster::Plan;
use crate::fixtures::{self, Shared};
use crate::golden::{Computed, default_layout, published_layout};
use crate::row::Row;

/// Golden vectors of both layouts on a device: in f32, and on the processor also as served.
pub fn vectors(shared: Shared, device: &str) -> Result<Vec<Row>> {
    let device = device.parse()?;
    let options = Options { device, ..Options::default() };
    let published = shared.golden_model()?;
    let mut rows = published_layout(published.path(), &shared.path("golden")?, options)?;
    let (model, vectors) = (fixtures::default_model(), shared.path("model")?);
    rows.extend(default_layout(&model, &vectors, options, Computed::F32, usize::MAX)?);
    if device == DeviceChoice::Cpu {
        rows.extend(default_layout(&model, &vectors, options, Computed::Served, usize::MAX)?);
    }
    Ok(rows)
}

/// What the published chat answers about a text.
#[derive(Deserialize)]
struct Answer {
    name: String,
    context: String,
    prompt: String,
    greedy_tokens: Vec<u32>,
    returned_text: String,
}

#[derive(Deserialize)]
struct Answers {
    cases: Vec<Answer>,
}

/// The published-layout checkpoint as the model of the three programs: a page roundtrips, one-shot text is the
/// published code's.
pub async fn model(shared: Shared, page: &str) -> Result<Vec<Row>> {
    let folder = shared.golden_model()?;
    let cluster = Plan::of_model(folder.path().to_path_buf()).start().await?;
    let calls = cluster.calls()?;
    let put = calls.put(page.as_bytes(), pb::WriteOptions::default()).await?;
    let id = id_of(&put.document.context("no document")?);
    let same = calls.get(&id).await?.text == page.as_bytes();
    let mut rows = vec![Row::holds("golden-model-identical", same, "identical")];

    // Latents as the vectors have them, and each text as one window.
    let ratio = cluster.compressor_says().await?.shape.context("no shape")?.ratio_max;
    let options = pb::WriteOptions { ratio, codec: LatentCodec::F32.to_wire(), ..Default::default() };
    let answers = fs::read(shared.path("golden/vectors.json")?)?;
    for case in serde_json::from_slice::<Answers>(&answers)?.cases {
        let windows = calls.compress(case.context.as_bytes(), options.clone()).await?;
        let tokens_max = case.greedy_tokens.len() as u32;
        let prompt = pb::DecompressOptions { prompt: Some(case.prompt), tokens_max, ..Default::default() };
        let said = String::from_utf8(calls.decompress(windows, prompt).await?)?;
        rows.push(Row::equal(format!("golden-model-one-shot-{}", case.name), said, case.returned_text));
    }
    Ok(rows)
}
