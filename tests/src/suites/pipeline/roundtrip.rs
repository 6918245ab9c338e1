//! Roundtrips through the public client.

use anyhow::{Context, Result};
use c3_client::Client;
use c3_types::{ByteRange, WriteOptions};
use futures::TryStreamExt;
use futures::future::try_join_all;

use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::quantity::Quantity;

/// Result of a put followed by a get.
#[derive(Clone, Copy, Debug)]
pub struct RoundTrip {
    /// True if the text came back unchanged.
    pub identical: bool,
    /// Fraction of tokens predicted correctly without corrections.
    pub fidelity: f64,
}

/// Puts a text with the public client and gets it back.
pub async fn trip(client: &Client, text: &str, ratio: u32) -> Result<RoundTrip> {
    let options = WriteOptions { ratio: Some(ratio), ..Default::default() };
    let text = text.to_owned();
    let stored = client.put(std::io::Cursor::new(text.clone()), &options).await?.finish().await?;
    let document = stored.document;
    let got = client.get(&document.id.to_string(), ByteRange::default()).await?;
    let back: Vec<_> = got.try_collect().await?;
    let fidelity = document.fidelity().context("the document was not verified")?;
    Ok(RoundTrip { identical: back.concat() == text.as_bytes(), fidelity })
}

/// Roundtrips a text at several ratios; it must come back identical and with the minimum fidelity. `bounds` pairs each
/// ratio (text tokens per latent) with its minimum fidelity.
pub async fn ratios(text: &str, bounds: &[(u32, f64)]) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let client = Client::connect(&cluster.gateway.url()).await?;
    let mut quantities = Vec::new();
    for &(ratio, bound) in bounds {
        let trip = trip(&client, text, ratio).await?;
        quantities.push(Quantity::holds(format!("ratio-{ratio}-identical"), trip.identical, "identical"));
        quantities.push(Quantity::at_least(format!("ratio-{ratio}-fidelity"), trip.fidelity, bound));
    }
    Ok(quantities)
}

/// Roundtrips a text through a new cluster; it must come back identical. Returns one quantity, called `name`.
pub async fn identical(name: &str, spec: ClusterSpec, text: &str, ratio: u32) -> Result<Vec<Quantity>> {
    let cluster = spec.start().await?;
    let client = Client::connect(&cluster.gateway.url()).await?;
    let trip = trip(&client, text, ratio).await?;
    Ok(vec![Quantity::holds(name, trip.identical, "identical")])
}

/// Roundtrips all texts concurrently, each with its own client; all must come back identical.
pub async fn clients(texts: &[&str]) -> Result<Vec<Quantity>> {
    const RATIO: u32 = 20;
    let cluster = ClusterSpec { compressors: 2, decoders: 2, ..ClusterSpec::default() }.start().await?;
    let url = cluster.gateway.url();
    let trips = texts.iter().map(async |text| {
        let client = Client::connect(&url).await?;
        trip(&client, text, RATIO).await
    });
    let identical = try_join_all(trips).await?.iter().filter(|trip| trip.identical).count();
    Ok(vec![Quantity::equal("clients-identical", identical, texts.len())])
}

/// Measures the gateway's peak resident memory during the roundtrip of a long text; it may be at most `bound_mib` MiB.
pub async fn memory(text: &str, bound_mib: u32) -> Result<Vec<Quantity>> {
    let cluster: Cluster = ClusterSpec::default().start().await?;
    let client = Client::connect(&cluster.gateway.url()).await?;
    let trip = trip(&client, text, 20).await?;
    let peak_mib = cluster.gateway.peak_bytes()? as f64 / f64::from(1 << 20);
    Ok(vec![
        Quantity::holds("memory-identical", trip.identical, "identical"),
        Quantity::at_most("memory-gateway-peak-mib", peak_mib, bound_mib),
    ])
}
