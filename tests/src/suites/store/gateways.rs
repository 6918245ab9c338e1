//! Two gateways over one store: each must see the other's writes immediately.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use tonic::Code;

use super::name_model::NameModel;
use super::ops::{self, Rng, default_options, fsck, small_text, sweep};
use super::s3::S3;
use crate::harness::cluster::ClusterSpec;
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::quantity::Quantity;

/// Number of texts. There are few, so that many operations concern the same document.
const TEXTS: usize = 40;

/// Runs `count` random operations at two gateways and compares each answer with an in-memory model; no answer may
/// differ, and `fsck` must find no faults. Each operation goes to a random gateway.
pub async fn gateways(spec: ClusterSpec, count: usize, seed: u64) -> Result<Vec<Quantity>> {
    let cluster = spec.start().await?;
    let second = cluster.start_second_gateway().await?;
    let both = [cluster.api()?, GatewayApi::to(&second)?];
    let (mut rng, mut model) = (Rng::new(seed), BTreeMap::<usize, u32>::new());
    let ids =
        Vec::from_iter((0..TEXTS).map(|number| c3_types::DocumentId::of(small_text(number).as_bytes()).to_string()));
    let (mut notes, mut differences) = (NameModel::default(), Vec::new());
    for step in 0..count {
        let api = &both[rng.below(2)];
        let number = rng.below(TEXTS);
        let operation = rng.below(100);
        let same = match operation {
            0..20 => put(api, number, rng.below(2), &mut model).await?,
            20..35 => {
                let same = deleted(api, &ids[number], number, &mut model).await?;
                notes.forget(number);
                same
            }
            35..50 => stat(api, &ids[number], model.get(&number)).await?,
            50..60 => read(api, &ids[number], number, model.contains_key(&number)).await?,
            60..90 => notes.operate(api, number, &ids, &model, &mut rng).await?,
            90..97 => {
                let listed = api.ids().await?;
                let mut expected = Vec::from_iter(model.keys().map(|&number| ids[number].clone()));
                expected.sort();
                listed == expected
            }
            _ => sweep(api, 0).await.map(|_| true)?,
        };
        if !same {
            differences.push(format!("step {step}: operation {operation} on text {number}"));
        }
    }
    let findings = fsck(&both[0], false).await?.len();
    Ok(vec![
        Quantity::equal(format!("gateways-differences (seed {seed}, {count} operations)"), differences, Vec::new()),
        Quantity::equal("gateways-findings", findings, 0),
    ])
}

/// Runs [`gateways`] over a store in a folder, then over a store in S3. Both runs must meet the bounds of that function.
pub async fn over_both(count: usize, seed: u64) -> Result<Vec<Quantity>> {
    // Starts the S3 server first, so that a missing program is reported immediately.
    let s3 = S3::start().await?;
    let mut quantities = gateways(ClusterSpec::default(), count, seed).await?;
    let over_s3 = gateways(ClusterSpec::default().over_s3(s3.address()), count, seed).await?;
    quantities.extend(over_s3.into_iter().map(|quantity| quantity.renamed(|name| format!("s3-{name}"))));
    Ok(quantities)
}

async fn put(api: &GatewayApi, number: usize, which: usize, model: &mut BTreeMap<usize, u32>) -> Result<bool> {
    let ratio = [20, 40][which];
    let options = c3_proto::pb::WriteOptions { ratio, ..default_options() };
    let put = api.put(small_text(number).as_bytes(), options).await?;
    let document = put.document.context("no document")?;
    ensure!(!id_of(&document).is_empty(), "no id");
    model.insert(number, ratio);
    Ok(document.ratio == ratio)
}

async fn deleted(api: &GatewayApi, id: &str, number: usize, model: &mut BTreeMap<usize, u32>) -> Result<bool> {
    let there = model.remove(&number).is_some();
    match ops::delete(api, id).await {
        Ok(()) => Ok(there),
        Err(status) if status.code() == Code::NotFound => Ok(!there),
        Err(status) => Err(status.into()),
    }
}

async fn stat(api: &GatewayApi, id: &str, expected: Option<&u32>) -> Result<bool> {
    match api.stat(id).await {
        Ok(document) => Ok(expected == Some(&document.ratio)),
        Err(status) if status.code() == Code::NotFound => Ok(expected.is_none()),
        Err(status) => Err(status.into()),
    }
}

async fn read(api: &GatewayApi, id: &str, number: usize, there: bool) -> Result<bool> {
    match api.get(id).await {
        Ok(got) => Ok(there && got.text == small_text(number).as_bytes()),
        Err(status) if status.code() == Code::NotFound => Ok(!there),
        Err(status) => Err(status.into()),
    }
}
