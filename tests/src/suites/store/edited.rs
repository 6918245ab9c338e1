//! Texts that are edited, or that grow: what is stored again is what was touched.

use std::ops::Range;
use std::time::Instant;

use anyhow::{Context, Result};
use c3_proto::pb;

use super::ops::is_there;
use crate::calls::{Calls, id_of};
use crate::cluster::{Cluster, Plan};
use crate::row::Row;

/// Unlike any default, so that what a base lends is seen.
const RATIO: u32 = 40;
const CODEC: pb::LatentCodec = pb::LatentCodec::Q80;
/// Most shards that an edit or an append compresses.
const SHARDS_MAX: u32 = 3;
/// Most windows of these: a shard of prose has 16 KB in windows of 1280 tokens.
const WINDOWS_MAX: u32 = SHARDS_MAX * 5;
/// Most of the time of a full put.
const TIME_MAX: f64 = 0.10;
/// Most bytes of the end of a document that are decoded to append to it: a shard, and what decides its cut, in whole
/// windows.
const DECODED_TOKENS_MAX: u32 = 8_000;
/// What is read on either side of a change, beside it: a window and more.
const MARGIN_BYTES: usize = 5_000;

/// How much of a document is read to tell whether it is the text that was put.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// All of it.
    Whole,
    /// What lies around the change; its id tells the rest, which no edit touched.
    AroundTheChange,
}

/// An edit in the middle and an append, each by the whole text again and by its base.
pub async fn edited(text: &str, more: [&str; 2], reading: Reading) -> Result<Vec<Row>> {
    let cluster = Plan::default().start().await?;
    let calls = cluster.calls()?;
    let begun = Instant::now();
    let put = calls.put(text.as_bytes(), full()).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let id = id_of(&put.document.context("no document")?);
    let base = pb::WriteOptions { base: id.clone(), ..Default::default() };
    let append = pb::WriteOptions { append_to: id.clone(), ..Default::default() };
    let ways = [
        ("edited-again", edit(text, 2), None, full()),
        ("edited-by-base", edit(text, 3), None, base),
        ("appended-again", format!("{text}{}", more[0]), None, full()),
        ("appended", format!("{text}{}", more[1]), Some(more[1]), append),
    ];
    let mut rows =
        vec![Row::seen(format!("edited-full-put-seconds ({} bytes)", text.len()), seconds, true, "told")];
    for (name, whole, sent, options) in ways {
        let read = match reading {
            Reading::Whole => 0..whole.len(),
            Reading::AroundTheChange => around_the_change(text, &whole),
        };
        let way = Way { name, whole: &whole, sent: sent.unwrap_or(&whole), options, read };
        rows.extend(way.measure(&cluster, &calls, seconds).await?);
    }
    let read = match reading {
        Reading::Whole => 0..text.len(),
        Reading::AroundTheChange => around_the_change(text, &edit(text, 2)),
    };
    let old = is_there(&calls, &id, text, read).await?;
    rows.push(Row::holds("edited-base-stays", old, "identical"));
    Ok(rows)
}

struct Way<'a> {
    name: &'a str,
    /// What the document must be.
    whole: &'a str,
    sent: &'a str,
    options: pb::WriteOptions,
    /// The bytes that are read.
    read: Range<usize>,
}

impl Way<'_> {
    async fn measure(self, cluster: &Cluster, calls: &Calls, full_seconds: f64) -> Result<Vec<Row>> {
        let before = cluster.counters().await?;
        let begun = Instant::now();
        let put = calls.put(self.sent.as_bytes(), self.options).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let after = cluster.counters().await?;
        let document = put.document.context("no document")?;
        let name = |what: &str| format!("{}-{what}", self.name);
        let shards = (document.shards - put.shards_reused) as u32;
        let windows = (after.0.windows_compressed - before.0.windows_compressed) as u32;
        let decoded = (after.1.tokens_decoded - before.1.tokens_decoded) as u32;
        let mut rows = vec![
            Row::at_most(name("shards-compressed"), shards, SHARDS_MAX),
            Row::seen(
                name("windows-compressed"),
                windows,
                (1..=WINDOWS_MAX).contains(&windows),
                format!("1 to {WINDOWS_MAX}"),
            ),
            Row::at_most(name("tokens-decoded"), decoded, DECODED_TOKENS_MAX),
            Row::equal(name("written-as-the-base"), (document.ratio, document.codec), (RATIO, CODEC as i32)),
        ];
        // Of a short text a shard is about a tenth, or more.
        if self.whole.len() > 200_000 {
            rows.push(Row::at_most(name("time-over-full"), seconds / full_seconds, TIME_MAX));
        }
        let same = is_there(calls, &id_of(&document), self.whole, self.read).await?;
        rows.push(Row::holds(name("identical"), same, "identical"));
        Ok(rows)
    }
}

/// The bytes of `changed` that differ from `text`, and some on either side.
fn around_the_change(text: &str, changed: &str) -> Range<usize> {
    let same = |(a, b): &(u8, u8)| a == b;
    let before = text.bytes().zip(changed.bytes()).take_while(same).count();
    let after = text.bytes().rev().zip(changed.bytes().rev()).take_while(same).count();
    let end = changed.len() - after.min(changed.len() - before);
    before.saturating_sub(MARGIN_BYTES)..(end + MARGIN_BYTES).min(changed.len())
}

fn full() -> pb::WriteOptions {
    pb::WriteOptions { ratio: RATIO, codec: CODEC as i32, ..Default::default() }
}

/// A text with a paragraph more after a part of it.
fn edit(text: &str, part: usize) -> String {
    let at = text.floor_char_boundary(text.len() / part);
    let at = at + text[at..].find("\n\n").unwrap_or(0);
    format!("{}\n\nA paragraph that the author never wrote, put in at {at}.{}", &text[..at], &text[at..])
}
