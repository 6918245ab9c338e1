//! Size and fidelity of each codec at each ratio on five genres of text, compared with zstd and xz.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use c3_proto::{ToWire, pb};
use c3_types::LatentCodec;
use serde::Serialize;

use super::genres::GenreText;
use crate::harness::cluster::ClusterSpec;
use crate::harness::external;
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::quantity::Quantity;

/// Ratios that the default model was trained for.
const RATIOS: [u32; 4] = [10, 20, 40, 80];
/// Ratio of the documents that are read back: the one that needs the most corrections.
const READ_RATIO: u32 = 80;

/// Size and fidelity of a document.
#[derive(Clone, Copy, Debug, Serialize)]
struct CodecResult {
    fidelity: f64,
    bits_per_byte: f64,
    /// Part of `bits_per_byte` that is not latents: mostly corrections.
    beside_latents: f64,
}

/// Measures fidelity and stored bits per byte of text for every codec and ratio; the size must fall in the order of
/// codecs, and the text must come back identical with every codec. Fidelity is the fraction of tokens that the decoder
/// predicts correctly, and a ratio is the number of text tokens per latent.
pub async fn table(texts: &[GenreText]) -> Result<Vec<Quantity>> {
    let found = |(program, level, package)| {
        let path = external::path_of(program, &format!("apt-get install {package}"))?;
        anyhow::Ok((program, level, path))
    };
    let others = [("zstd", "-19", "zstd"), ("xz", "-9", "xz-utils")].into_iter().map(found);
    // Finds the programs first, so that a missing one is reported immediately.
    let others = others.collect::<Result<Vec<_>>>()?;
    let cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let mut quantities = Vec::new();
    for (kind, text) in texts {
        for ratio in RATIOS {
            let mut kept = BTreeMap::new();
            // One after another: of concurrent puts of one text, all return the version that won.
            for codec in LatentCodec::ALL {
                kept.insert(codec.name(), of(&put(&api, text, ratio, codec).await?, codec)?);
            }
            let sizes = LatentCodec::ALL.map(|codec| kept[codec.name()].bits_per_byte);
            let falls = sizes.is_sorted_by(|larger, smaller| larger > smaller);
            quantities.push(Quantity::observed(
                format!("codecs-{kind}-{ratio}x"),
                kept,
                falls,
                "decreasing in the order of codecs",
            ));
        }
        for codec in LatentCodec::ALL {
            // All puts above have written versions of one document. This put makes the version with `codec` the newest.
            let document = put(&api, text, READ_RATIO, codec).await?;
            let (id, name) = (id_of(&document), format!("codecs-{kind}-{codec}"));
            let stored = api.stat(&id).await?.codec;
            quantities.push(Quantity::equal(format!("{name}-recorded"), stored, codec.to_wire()));
            let same = api.get(&id).await?.text == text.as_bytes();
            quantities.push(Quantity::holds(format!("{name}-identical"), same, "identical"));
        }
        for (program, level, path) in &others {
            let size = bits_per_byte(compressed_size(path, level, text)?, text.len() as u64);
            quantities.push(Quantity::reported(format!("codecs-{kind}-{program}{level}"), size));
        }
    }
    Ok(quantities)
}

async fn put(api: &GatewayApi, text: &str, ratio: u32, codec: LatentCodec) -> Result<pb::Document> {
    let options = pb::WriteOptions { ratio, codec: codec.to_wire(), ..Default::default() };
    api.put(text.as_bytes(), options).await?.document.context("no document")
}

fn of(document: &pb::Document, codec: LatentCodec) -> Result<CodecResult> {
    ensure!(document.tokens > 0 && document.bytes > 0, "the text is empty");
    /// Latent width of the default model.
    const WIDTH: u32 = 576;
    let latents = codec.bytes(document.latents as u32, WIDTH)? as u64;
    Ok(CodecResult {
        fidelity: document.tokens_right as f64 / document.tokens as f64,
        bits_per_byte: bits_per_byte(document.stored_bytes, document.bytes),
        beside_latents: bits_per_byte(document.stored_bytes.saturating_sub(latents), document.bytes),
    })
}

fn bits_per_byte(bytes: u64, of: u64) -> f64 {
    (8e3 * bytes as f64 / of as f64).round() / 1e3
}

/// Returns the size in bytes of a text that a program has compressed.
fn compressed_size(program: &Path, level: &str, text: &str) -> Result<u64> {
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
