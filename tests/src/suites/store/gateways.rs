//! Two gateways over one store: what either does the other sees at once.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use tonic::Code;

use super::notes::Notes;
use super::ops::{self, Dice, check, small_text, sweep, written};
use super::s3::S3;
use crate::calls::{Calls, id_of};
use crate::cluster::Plan;
use crate::row::Row;

/// Texts that operations choose from: few, so that they meet.
const TEXTS: usize = 40;

/// Does `count` random operations at either gateway, and compares each answer with a model in memory.
pub async fn gateways(plan: Plan, count: usize, seed: u64) -> Result<Vec<Row>> {
    let cluster = plan.start().await?;
    let second = cluster.another_gateway().await?;
    let both = [cluster.calls()?, Calls::to(&second)?];
    let (mut dice, mut model) = (Dice::new(seed), BTreeMap::<usize, u32>::new());
    let ids = Vec::from_iter(
        (0..TEXTS).map(|number| c3_proto::DocumentId::of(small_text(number).as_bytes()).to_string()),
    );
    let (mut notes, mut differences) = (Notes::default(), Vec::new());
    for step in 0..count {
        let calls = &both[dice.roll(2)];
        let number = dice.roll(TEXTS);
        let operation = dice.roll(100);
        let same = match operation {
            0..20 => put(calls, number, dice.roll(2), &mut model).await?,
            20..35 => {
                let same = deleted(calls, &ids[number], number, &mut model).await?;
                notes.forget(number);
                same
            }
            35..50 => stated(calls, &ids[number], model.get(&number)).await?,
            50..60 => read(calls, &ids[number], number, model.contains_key(&number)).await?,
            60..90 => notes.operate(calls, number, &ids, &model, &mut dice).await?,
            90..97 => {
                let listed = calls.ids().await?;
                let mut expected = Vec::from_iter(model.keys().map(|&number| ids[number].clone()));
                expected.sort();
                listed == expected
            }
            _ => sweep(calls, 0).await.map(|_| true)?,
        };
        if !same {
            differences.push(format!("step {step}: operation {operation} on text {number}"));
        }
    }
    let findings = check(&both[0], false).await?.len();
    Ok(vec![
        Row::equal(
            format!("gateways-differences (seed {seed}, {count} operations)"),
            differences,
            Vec::new(),
        ),
        Row::equal("gateways-findings", findings, 0),
    ])
}

/// [`gateways`] over a folder, then over S3.
pub async fn over_both(count: usize, seed: u64) -> Result<Vec<Row>> {
    // First, so that who lacks it is told at once.
    let s3 = S3::start().await?;
    let mut rows = gateways(Plan::default(), count, seed).await?;
    let over_s3 = gateways(Plan::default().over_s3(s3.address()), count, seed).await?;
    rows.extend(over_s3.into_iter().map(|row| row.named(|name| format!("s3-{name}"))));
    Ok(rows)
}

async fn put(calls: &Calls, number: usize, which: usize, model: &mut BTreeMap<usize, u32>) -> Result<bool> {
    let ratio = [20, 40][which];
    let options = c3_proto::pb::WriteOptions { ratio, ..written() };
    let put = calls.put(small_text(number).as_bytes(), options).await?;
    let document = put.document.context("no document")?;
    ensure!(!id_of(&document).is_empty(), "no id");
    model.insert(number, ratio);
    Ok(document.ratio == ratio)
}

async fn deleted(calls: &Calls, id: &str, number: usize, model: &mut BTreeMap<usize, u32>) -> Result<bool> {
    let there = model.remove(&number).is_some();
    match ops::delete(calls, id).await {
        Ok(()) => Ok(there),
        Err(status) if status.code() == Code::NotFound => Ok(!there),
        Err(status) => Err(status.into()),
    }
}

async fn stated(calls: &Calls, id: &str, expected: Option<&u32>) -> Result<bool> {
    match calls.stat(id).await {
        Ok(document) => Ok(expected == Some(&document.ratio)),
        Err(status) if status.code() == Code::NotFound => Ok(expected.is_none()),
        Err(status) => Err(status.into()),
    }
}

async fn read(calls: &Calls, id: &str, number: usize, there: bool) -> Result<bool> {
    match calls.get(id).await {
        Ok(got) => Ok(there && got.text == small_text(number).as_bytes()),
        Err(status) if status.code() == Code::NotFound => Ok(!there),
        Err(status) => Err(status.into()),
    }
}
