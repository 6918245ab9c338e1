//! Bytes that flip and files that are cut short anywhere in the store: found, and never a wrong text.

use std::fs;

use anyhow::{Context, Result};

use super::ops::{Dice, check, large_text, small_text, written};
use crate::calls::{Calls, id_of};
use crate::cluster::{Plan, files_under};
use crate::row::Row;

/// Small documents that share a pack.
const PACKED: usize = 12;
/// Most bytes of a document that are read after a flip, anywhere in it.
const READ_BYTES: usize = 2_000;

/// Damages a random place of a random object, `count` times.
pub async fn flips(count: usize, seed: u64) -> Result<Vec<Row>> {
    let mut cluster = Plan::default().start().await?;
    let calls = cluster.calls()?;
    let mut texts = Vec::from_iter((0..PACKED).map(small_text));
    let puts = texts.iter().map(|text| calls.put(text.as_bytes(), written()));
    let mut ids = Vec::new();
    for put in futures::future::try_join_all(puts).await? {
        ids.push(id_of(&put.document.context("no document")?));
    }
    for text in [small_text(100), large_text(100)] {
        let put = calls.put(text.as_bytes(), c3_proto::pb::WriteOptions::default()).await?;
        ids.push(id_of(&put.document.context("no document")?));
        texts.push(text);
    }
    let gone = calls.put(small_text(200).as_bytes(), written()).await?;
    super::ops::delete(&calls, &id_of(&gone.document.context("no document")?)).await?;

    let files = files_under(&cluster.data())?;
    let mut dice = Dice::new(seed);
    let (mut wrong, mut unfound) = (Vec::new(), Vec::new());
    for round in 0..count {
        let file = &files[dice.roll(files.len())];
        let intact = fs::read(file)?;
        let at = dice.roll(intact.len());
        let mut damaged = intact.clone();
        let cut = round % 10 == 9;
        match cut {
            true => damaged.truncate(at),
            false => damaged[at] ^= 1 + dice.roll(255) as u8,
        }
        fs::write(file, damaged)?;
        // What a gateway has in memory is not what lies on the disk: a cold one reads.
        if round % 20 == 0 {
            cluster.restart_gateway().await?;
        }
        let calls = cluster.calls()?;
        let what = format!("{} at {at}{}", file.display(), if cut { " cut" } else { "" });
        if check(&calls, false).await?.is_empty() {
            unfound.push(what.clone());
        }
        let document = dice.roll(ids.len());
        let start = dice.roll(texts[document].len().saturating_sub(READ_BYTES).max(1));
        if reads_wrong(&calls, &ids[document], &texts[document], start).await {
            wrong.push(what);
        }
        fs::write(file, intact)?;
    }
    cluster.restart_gateway().await?;
    let left = check(&cluster.calls()?, false).await?.len();
    Ok(vec![
        Row::seen(format!("flips-files (seed {seed}, {count} flips)"), files.len(), files.len() >= 5, ">= 5"),
        Row::equal("flips-wrong-text", wrong, Vec::new()),
        Row::equal("flips-not-found", unfound, Vec::new()),
        Row::equal("flips-left-when-mended", left, 0),
    ])
}

/// Whether a part of a document, or the whole of a small one, comes and is another.
async fn reads_wrong(calls: &Calls, id: &str, text: &str, start: usize) -> bool {
    let part = start..text.len().min(start + READ_BYTES);
    let got = calls.get_range(id, part.start as u64..part.end as u64).await;
    got.is_ok_and(|got| got.text != text.as_bytes()[part])
}
