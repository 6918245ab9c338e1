//! What each codec costs and keeps, at each ratio, on five kinds of text, beside what programs make of them that are
//! there to make texts small.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use c3_proto::{LatentCodec, pb};
use futures::future::try_join_all;
use serde::Serialize;

use super::kinds::Kind;
use crate::calls::{Calls, id_of};
use crate::cluster::Plan;
use crate::row::Row;
use crate::tool;

/// The ratios that the default model was made for.
const RATIOS: [u32; 4] = [10, 20, 40, 80];
/// The one at which documents are read back: most tokens need help there.
const READ_RATIO: u32 = 80;

/// A document's size and fidelity.
#[derive(Clone, Copy, Debug, Serialize)]
struct Kept {
    fidelity: f64,
    bits_a_byte: f64,
    /// Of those, what the corrections take at the most: all but the latents' own bytes.
    beside_latents: f64,
}

/// Fidelity and bits a byte of text, everything counted, of every codec and ratio.
pub async fn table(texts: &[Kind]) -> Result<Vec<Row>> {
    let found = |(program, level, package)| {
        let path = tool::path_of(program, &format!("apt-get install {package}"))?;
        anyhow::Ok((program, level, path))
    };
    let others = [("zstd", "-19", "zstd"), ("xz", "-9", "xz-utils")].into_iter().map(found);
    // First, so that who lacks one is told at once.
    let others = others.collect::<Result<Vec<_>>>()?;
    let cluster = Plan::default().start().await?;
    let calls = cluster.calls()?;
    let mut rows = Vec::new();
    for (kind, text) in texts {
        // Side by side, since windows of several share batches.
        let puts = RATIOS.map(|ratio| LatentCodec::ALL.map(|codec| put(&calls, text, ratio, codec)));
        let documents = try_join_all(puts.map(try_join_all)).await?;
        for (ratio, documents) in RATIOS.into_iter().zip(documents) {
            let mut kept = BTreeMap::new();
            for (codec, document) in LatentCodec::ALL.into_iter().zip(&documents) {
                kept.insert(codec.name(), of(document, codec)?);
            }
            let sizes = LatentCodec::ALL.map(|codec| kept[codec.name()].bits_a_byte);
            let falls = sizes.is_sorted_by(|larger, smaller| larger > smaller);
            rows.push(Row::seen(
                format!("codecs-{kind}-{ratio}x"),
                kept,
                falls,
                "each smaller than the one before",
            ));
        }
        for codec in LatentCodec::ALL {
            // All are versions of one document: this makes what is stored already the newest.
            let document = put(&calls, text, READ_RATIO, codec).await?;
            let (id, name) = (id_of(&document), format!("codecs-{kind}-{codec}"));
            let stored = calls.stat(&id).await?.codec;
            rows.push(Row::equal(format!("{name}-recorded"), stored, codec.to_wire()));
            let same = calls.get(&id).await?.text == text.as_bytes();
            rows.push(Row::holds(format!("{name}-identical"), same, "identical"));
        }
        for (program, level, path) in &others {
            let size = bits_a_byte(squeezed(path, level, text)?, text.len() as u64);
            rows.push(Row::seen(format!("codecs-{kind}-{program}{level}"), size, true, "told only"));
        }
    }
    Ok(rows)
}

async fn put(calls: &Calls, text: &str, ratio: u32, codec: LatentCodec) -> Result<pb::Document> {
    let options = pb::WriteOptions { ratio, codec: codec.to_wire(), ..Default::default() };
    calls.put(text.as_bytes(), options).await?.document.context("no document")
}

fn of(document: &pb::Document, codec: LatentCodec) -> Result<Kept> {
    ensure!(document.tokens > 0 && document.bytes > 0, "the text is empty");
    /// Width of the default model's latents.
    const WIDTH: u32 = 576;
    let latents = codec.bytes(document.latents as u32, WIDTH)? as u64;
    Ok(Kept {
        fidelity: document.tokens_right as f64 / document.tokens as f64,
        bits_a_byte: bits_a_byte(document.stored_bytes, document.bytes),
        beside_latents: bits_a_byte(document.stored_bytes.saturating_sub(latents), document.bytes),
    })
}

fn bits_a_byte(bytes: u64, of: u64) -> f64 {
    (8e3 * bytes as f64 / of as f64).round() / 1e3
}

/// Bytes that a program makes of a text.
fn squeezed(program: &Path, level: &str, text: &str) -> Result<u64> {
    let mut command = Command::new(program);
    command.args([level, "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let (mut input, text) = (child.stdin.take().context("no input")?, text.to_owned());
    let fed = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    fed.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    ensure!(output.status.success(), "{} failed", program.display());
    Ok(output.stdout.len() as u64)
}
