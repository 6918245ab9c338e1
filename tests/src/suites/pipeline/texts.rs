//! Unusual texts, and bytes that are not text.

use anyhow::{Context, Result};
use c3_proto::pb;
use tonic::{Code, Status};

use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::fixtures::line_without_space;
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::quantity::Quantity;

const RATIO: u32 = 20;
/// Default of the gateway's `--document-size-max`.
const DEFAULT_BYTES_MAX: u64 = 256 << 20;

/// Roundtrips unusual texts; each must come back identical. One of them is a line of `line_bytes` bytes without spaces.
pub async fn unusual_texts(line_bytes: usize) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let emoji = "👩‍🔬👨‍👩‍👧‍👦🏳️‍🌈🇺🇳 e\u{301}\u{327} ﷽ \u{202e}abc\u{202c} ".repeat(12);
    let special = "<|im_end|><|im_start|>user\n<img><imgpad><imgpad></img><|endoftext|> <|im_end|\n".repeat(8);
    let texts = [
        ("empty-text", String::new()),
        ("one-byte", "x".to_owned()),
        ("line-without-space", line_without_space(line_bytes)),
        ("nul-bytes", "a\0b\0\0\0c\n\0".repeat(40)),
        ("emoji-sequences", emoji),
        ("crlf", "first\r\nsecond\r\n\r\n\rthird\n\r".repeat(20)),
        ("special-tokens", special),
    ];
    let mut quantities = Vec::new();
    for (name, text) in texts {
        let put = api.put_at(text.as_bytes(), RATIO).await.with_context(|| name)?;
        let document = put.document.context("no document")?;
        let got = api.get(&id_of(&document)).await.with_context(|| name)?;
        quantities.push(Quantity::holds(name, got.text == text.as_bytes(), "identical"));
        if text.is_empty() {
            quantities.push(Quantity::equal(format!("{name}-tokens"), document.tokens, 0));
        }
    }
    Ok(quantities)
}

/// Puts bytes that are not UTF-8; the gateway must name the offset of the first invalid byte and store nothing.
pub async fn not_utf8(text: &str) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let offset = text.len() + 1;
    let broken = [text.as_bytes(), b"\n\xff\n", text.as_bytes()].concat();
    let cut = [text.as_bytes(), "\n€".as_bytes().split_at(3).0].concat();
    let mut quantities = Vec::new();
    for (name, bytes) in [("not-utf8", broken), ("not-utf8-at-the-end", cut)] {
        let refused = api.put_at(&bytes, RATIO).await.err();
        quantities.push(refusal(name, refused, Code::InvalidArgument, &[&offset.to_string()]));
    }
    quantities.push(nothing_stored("not-utf8", &cluster, &api).await?);
    Ok(quantities)
}

/// Puts texts over the size limit, with and without announcing their size; the gateway must name the limit and store
/// nothing.
pub async fn too_large(text: &str) -> Result<Vec<Quantity>> {
    let bytes_max = text.len() as u64 - 1;
    let cluster = ClusterSpec::with_gateway_args(&["--document-size-max", &bytes_max.to_string()]).start().await?;
    let api = cluster.api()?;
    let announced = pb::WriteOptions { bytes: Some(bytes_max + 1), ..Default::default() };
    let mut quantities = Vec::new();
    for (name, text, options) in
        [("too-large-announced", "", announced), ("too-large-unannounced", text, pb::WriteOptions::default())]
    {
        let refused = api.put(text.as_bytes(), options).await.err();
        quantities.push(refusal(name, refused, Code::InvalidArgument, &[&bytes_max.to_string()]));
    }
    quantities.push(nothing_stored("too-large", &cluster, &api).await?);

    let cluster = ClusterSpec::default().start().await?;
    let announced = pb::WriteOptions { bytes: Some(DEFAULT_BYTES_MAX + 1), ..Default::default() };
    let refused = cluster.api()?.put(b"", announced).await.err();
    let limit = DEFAULT_BYTES_MAX.to_string();
    quantities.push(refusal("too-large-for-the-default", refused, Code::InvalidArgument, &[&limit]));
    Ok(quantities)
}

/// Returns a quantity that requires a refusal with this code and with a message that contains each of `says`.
pub(crate) fn refusal(name: &str, refused: Option<Status>, code: Code, says: &[&str]) -> Quantity {
    let seen = refused.as_ref().map(|status| format!("{:?}: {}", status.code(), status.message()));
    let ok =
        refused.is_some_and(|status| status.code() == code && says.iter().all(|text| status.message().contains(text)));
    Quantity::observed(name, seen, ok, format!("{code:?} with {says:?} in its message"))
}

async fn nothing_stored(name: &str, cluster: &Cluster, api: &GatewayApi) -> Result<Quantity> {
    cluster.wait_until_idle().await?;
    Ok(Quantity::equal(format!("{name}-documents-stored"), api.ids().await?.len(), 0))
}
