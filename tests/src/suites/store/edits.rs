//! Edited and appended documents: only the affected shards (parts of a text that are compressed and stored on their
//! own) may be compressed again.

use std::ops::Range;
use std::time::Instant;

use anyhow::{Context, Result};
use c3_proto::pb;

use super::ops::reads_back;
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::quantity::Quantity;

/// Ratio (text tokens per latent) of the base document. It differs from the default, to show that an edit inherits it.
const RATIO: u32 = 40;
const CODEC: pb::LatentCodec = pb::LatentCodec::Q80;
/// Maximum number of shards that an edit or an append compresses.
const SHARDS_MAX: u32 = 3;
/// Maximum number of windows in these shards. A shard of prose has at most 16 KB, which is divided into windows of at
/// most 1280 tokens.
const WINDOWS_MAX: u32 = SHARDS_MAX * 5;
/// Maximum duration of an edit or an append, relative to a put of the base document.
const TIME_MAX: f64 = 0.10;
/// Maximum number of tokens that an append decodes: those of the last shard and of the text that determines where it is
/// cut, rounded up to whole windows.
const DECODED_TOKENS_MAX: u32 = 8_000;
/// Number of bytes that are read on either side of a change: more than a window.
const MARGIN_BYTES: usize = 5_000;

/// Part of a document that is read back to check it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The whole text.
    Whole,
    /// The change and its surroundings. The document's id, a hash of the text, covers the rest.
    AroundTheChange,
}

/// Edits a text and appends `more` to it; at most [`SHARDS_MAX`] shards may be compressed each time, and the new and
/// the old text must be readable. Each change is made once by a put of the whole text, and once by a put that names the
/// base document.
pub async fn edits(text: &str, more: [&str; 2], reading: Reading) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let started = Instant::now();
    let put = api.put(text.as_bytes(), full()).await?;
    let seconds = started.elapsed().as_secs_f64();
    let id = id_of(&put.document.context("no document")?);
    let base = pb::WriteOptions { base: id.clone(), ..Default::default() };
    let append = pb::WriteOptions { append_to: id.clone(), ..Default::default() };
    let ways = [
        ("edited-by-text", edit(text, 2), None, full()),
        ("edited-by-base", edit(text, 3), None, base),
        ("appended-by-text", format!("{text}{}", more[0]), None, full()),
        ("appended-by-base", format!("{text}{}", more[1]), Some(more[1]), append),
    ];
    let mut quantities = vec![Quantity::reported(format!("edited-full-put-seconds ({} bytes)", text.len()), seconds)];
    for (name, whole, sent, options) in ways {
        let read = match reading {
            Reading::Whole => 0..whole.len(),
            Reading::AroundTheChange => around_the_change(text, &whole),
        };
        let way = WriteVariant { name, whole: &whole, sent: sent.unwrap_or(&whole), options, read };
        quantities.extend(way.measure(&cluster, &api, seconds).await?);
    }
    let read = match reading {
        Reading::Whole => 0..text.len(),
        Reading::AroundTheChange => around_the_change(text, &edit(text, 2)),
    };
    let old = reads_back(&api, &id, text, read).await?;
    quantities.push(Quantity::holds("edited-base-stays", old, "identical"));
    Ok(quantities)
}

struct WriteVariant<'a> {
    name: &'a str,
    /// Text of the document after the put.
    whole: &'a str,
    sent: &'a str,
    options: pb::WriteOptions,
    /// Byte range that is read back.
    read: Range<usize>,
}

impl WriteVariant<'_> {
    async fn measure(self, cluster: &Cluster, api: &GatewayApi, full_seconds: f64) -> Result<Vec<Quantity>> {
        let before = cluster.counters().await?;
        let started = Instant::now();
        let put = api.put(self.sent.as_bytes(), self.options).await?;
        let seconds = started.elapsed().as_secs_f64();
        let after = cluster.counters().await?;
        let document = put.document.context("no document")?;
        let name = |what: &str| format!("{}-{what}", self.name);
        let shards = (document.shards - put.shards_reused) as u32;
        let windows = (after.0.windows_compressed - before.0.windows_compressed) as u32;
        let decoded = (after.1.tokens_decoded - before.1.tokens_decoded) as u32;
        let mut quantities = vec![
            Quantity::at_most(name("shards-compressed"), shards, SHARDS_MAX),
            Quantity::observed(
                name("windows-compressed"),
                windows,
                (1..=WINDOWS_MAX).contains(&windows),
                format!("1 to {WINDOWS_MAX}"),
            ),
            Quantity::at_most(name("tokens-decoded"), decoded, DECODED_TOKENS_MAX),
            Quantity::equal(name("written-as-the-base"), (document.ratio, document.codec), (RATIO, CODEC as i32)),
        ];
        // In a shorter text, a single shard may take more than a tenth of the time.
        if self.whole.len() > 200_000 {
            quantities.push(Quantity::at_most(name("time-over-full"), seconds / full_seconds, TIME_MAX));
        }
        let same = reads_back(api, &id_of(&document), self.whole, self.read).await?;
        quantities.push(Quantity::holds(name("identical"), same, "identical"));
        Ok(quantities)
    }
}

/// Returns the range of `changed` that differs from `text`, with a margin on either side.
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

/// Inserts a paragraph at the first paragraph break after `1 / part` of a text.
fn edit(text: &str, part: usize) -> String {
    let at = text.floor_char_boundary(text.len() / part);
    let at = at + text[at..].find("\n\n").unwrap_or(0);
    format!("{}\n\nA paragraph that the author never wrote, put in at {at}.{}", &text[..at], &text[at..])
}
