//! Comparison with golden vectors on a device, and a cluster that serves the published-layout checkpoint.

use std::fs;

use anyhow::{Context, Result};
use c3_cascade::{DeviceChoice, Options};
use c3_proto::{ToWire, pb};
use c3_types::LatentCodec;
use serde::Deserialize;

use crate::harness::cluster::ClusterSpec;
use crate::harness::fixtures::{self, Corpus};
use crate::harness::gateway_api::id_of;
use crate::harness::golden::{Arithmetic, default_layout, published_layout};
use crate::harness::quantity::Quantity;

/// Compares the network's results in f32 with golden vectors of both checkpoint layouts; they must agree within
/// tolerances. On a CPU, also compares the results of the default layout with the arithmetic (order and precision of
/// operations) that nodes use by default.
pub fn vectors(corpus: Corpus, device: &str) -> Result<Vec<Quantity>> {
    let device = device.parse()?;
    let options = Options { device, ..Options::default() };
    let published = corpus.golden_model()?;
    let mut quantities = published_layout(published.path(), &corpus.path("golden")?, options)?;
    let (model, vectors) = (fixtures::default_model(), corpus.path("model")?);
    quantities.extend(default_layout(&model, &vectors, options, Arithmetic::F32, usize::MAX)?);
    if device == DeviceChoice::Cpu {
        quantities.extend(default_layout(&model, &vectors, options, Arithmetic::Served, usize::MAX)?);
    }
    Ok(quantities)
}

/// An answer of the published chat code about a text.
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

/// Serves the published-layout checkpoint; a page must roundtrip, and one-shot prompts must give the same answers as
/// the published code.
pub async fn model(corpus: Corpus, page: &str) -> Result<Vec<Quantity>> {
    let folder = corpus.golden_model()?;
    let cluster = ClusterSpec::of_model(folder.path().to_path_buf()).start().await?;
    let api = cluster.api()?;
    let put = api.put(page.as_bytes(), pb::WriteOptions::default()).await?;
    let id = id_of(&put.document.context("no document")?);
    let same = api.get(&id).await?.text == page.as_bytes();
    let mut quantities = vec![Quantity::holds("golden-model-identical", same, "identical")];

    // Makes the request like the vectors: the latents are f32, and each text is one window, since the ratio is the
    // maximum.
    let ratio = cluster.describe_compressor().await?.shape.context("no shape")?.ratio_max;
    let options = pb::WriteOptions { ratio, codec: LatentCodec::F32.to_wire(), ..Default::default() };
    let answers = fs::read(corpus.path("golden/vectors.json")?)?;
    for case in serde_json::from_slice::<Answers>(&answers)?.cases {
        let windows = api.compress(case.context.as_bytes(), options.clone()).await?;
        let tokens_max = case.greedy_tokens.len() as u32;
        let prompt = pb::DecompressOptions { prompt: Some(case.prompt), tokens_max, ..Default::default() };
        let answer = String::from_utf8(api.decompress(windows, prompt).await?)?;
        quantities.push(Quantity::equal(format!("golden-model-one-shot-{}", case.name), answer, case.returned_text));
    }
    Ok(quantities)
}
