//! Long documents: time per token and memory must not grow with length, and all nodes must share the work.

use std::time::Instant;

use anyhow::{Context, Result};
use c3_proto::pb::DescribeRequest;
use c3_proto::pb::compressor_client::CompressorClient;
use c3_proto::pb::decoder_client::DecoderClient;

use super::ops::default_options;
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::quantity::{Quantity, median};

/// Maximum resident memory of the gateway in bytes.
const MEMORY_MAX: u64 = 256 << 20;
/// Maximum time per token of a long document, relative to a shorter one.
const TIME_MAX: f64 = 1.1;
/// Number of shorter documents measured after each long one. One more is measured before the first long one.
const SHORT: usize = 2;
/// Minimum share of a stage's tokens that each of its two nodes processes.
const SHARE_MIN: f64 = 0.25;

/// Puts and gets `rounds` documents of each size in `sizes`, interleaved with shorter documents of `short` bytes; a
/// long document may take at most [`TIME_MAX`] times as long per token as a short one, and the gateway's memory must
/// stay below [`MEMORY_MAX`]. Sizes are in bytes.
pub async fn long(text: &str, short: usize, sizes: &[usize], rounds: usize) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    // Warms up with a text of enough shards (parts of the text that nodes get as units) to fill the batches. A GPU
    // driver would otherwise compile kernels during the first measurement.
    TokenTimes::of(&api, &unique_variant(text, 2 * short, usize::MAX)).await?;
    let mut variants = 0..;
    let mut measured = async |bytes| {
        let variant = variants.next().context("no variants left")?;
        TokenTimes::of(&api, &unique_variant(text, bytes, variant)).await
    };
    let mut quantities = Vec::new();
    for &size in sizes {
        let (mut longer, mut shorter) = (Vec::new(), vec![measured(short).await?]);
        for _ in 0..rounds {
            longer.push(measured(size).await?);
            for _ in 0..SHORT {
                shorter.push(measured(short).await?);
            }
        }
        let middle = |all: &[TokenTimes], of: fn(&TokenTimes) -> f64| median(all.iter().map(of).collect());
        let against = |of| middle(&longer, of) / middle(&shorter, of);
        let tokens = longer[0].tokens;
        let name = |what: &str| format!("long-{what} ({tokens} tokens)");
        let seconds = |of| middle(&longer, of) * tokens as f64;
        let identical = longer.iter().chain(&shorter).all(|timed| timed.identical);
        quantities.extend([
            Quantity::reported(name("put-seconds"), seconds(|timed| timed.put)),
            Quantity::reported(name("get-seconds"), seconds(|timed| timed.get)),
            Quantity::at_most(name("put-time-per-token"), against(|timed| timed.put), TIME_MAX),
            Quantity::at_most(name("get-time-per-token"), against(|timed| timed.get), TIME_MAX),
            Quantity::holds(name("identical"), identical, "identical"),
            Quantity::at_most(name("memory"), cluster.gateway.peak_bytes()? as f64, MEMORY_MAX as f64),
        ]);
    }
    Ok(quantities)
}

/// Puts and gets one text with two nodes of each stage; each node must process at least [`SHARE_MIN`] of its stage's
/// tokens.
pub async fn spread(text: &str) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec { compressors: 2, decoders: 2, ..ClusterSpec::default() }.start().await?;
    let api = cluster.api()?;
    let put = api.put(text.as_bytes(), default_options()).await?;
    let id = id_of(&put.document.context("no document")?);
    let same = api.get(&id).await?.text == text.as_bytes();
    let [compressed, verified, decoded] = least_shares(&cluster).await?;
    Ok(vec![
        Quantity::holds("long-spread-identical", same, "identical"),
        Quantity::at_least("long-spread-compressed", compressed, SHARE_MIN),
        Quantity::at_least("long-spread-verified", verified, SHARE_MIN),
        Quantity::at_least("long-spread-decoded", decoded, SHARE_MIN),
    ])
}

/// Returns the share of the node that processed the fewest of its stage's tokens, for compressed, verified and decoded
/// tokens.
async fn least_shares(cluster: &Cluster) -> Result<[f64; 3]> {
    let (mut compressed, mut verified, mut decoded) = (Vec::new(), Vec::new(), Vec::new());
    for node in &cluster.compressors {
        let described = CompressorClient::new(node.channel()?).describe(DescribeRequest {}).await?.into_inner();
        compressed.push(described.counters.context("no counters")?.tokens_compressed);
    }
    for node in &cluster.decoders {
        let described = DecoderClient::new(node.channel()?).describe(DescribeRequest {}).await?.into_inner();
        let counters = described.counters.context("no counters")?;
        verified.push(counters.tokens_verified);
        decoded.push(counters.tokens_decoded);
    }
    Ok([compressed, verified, decoded].map(|tokens| {
        let least = tokens.iter().min().copied().unwrap_or(0);
        least as f64 / tokens.iter().sum::<u64>().max(1) as f64
    }))
}

/// Seconds per token of a put and of a get of one document.
struct TokenTimes {
    tokens: u64,
    put: f64,
    get: f64,
    identical: bool,
}

impl TokenTimes {
    async fn of(api: &GatewayApi, text: &str) -> Result<Self> {
        let started = Instant::now();
        let put = api.put(text.as_bytes(), default_options()).await?;
        let put_seconds = started.elapsed().as_secs_f64();
        let document = put.document.context("no document")?;
        let started = Instant::now();
        let got = api.get(&id_of(&document)).await?;
        let tokens = document.tokens;
        Ok(Self {
            tokens,
            put: put_seconds / tokens as f64,
            get: started.elapsed().as_secs_f64() / tokens as f64,
            identical: got.text == text.as_bytes() && put.shards_reused == 0,
        })
    }
}

/// Repeats a text up to `bytes` bytes. A number before each paragraph makes every repetition and every variant unique.
pub fn unique_variant(text: &str, bytes: usize, variant: usize) -> String {
    let mut varied = String::with_capacity(bytes + text.len());
    let mut round = 0;
    while varied.len() < bytes {
        for (number, paragraph) in text.split_inclusive("\n\n").enumerate() {
            varied.push_str(&format!("{variant}.{round}.{number} {paragraph}"));
            if varied.len() >= bytes {
                break;
            }
        }
        round += 1;
    }
    varied.truncate(varied.floor_char_boundary(bytes));
    varied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_have_their_length_and_nothing_in_common() {
        let text = "one\n\ntwo\n\nthree";
        let (first, second) = (unique_variant(text, 100, 1), unique_variant(text, 100, 2));
        assert_eq!((first.len(), second.len()), (100, 100));
        assert!(first.starts_with("1.0.0 one\n\n1.0.1 two\n\n1.0.2 three1.1.0 one"));
        assert!(second.split("\n\n").all(|paragraph| !first.contains(paragraph)));
    }
}
