//! Documents that a gateway with nodes on one kind of device wrote are read by a gateway with decoders on another.

use anyhow::{Context, Result};
use c3_cascade::DeviceChoice;
use tempfile::TempDir;

use crate::harness::cluster::ClusterSpec;
use crate::harness::fixtures::{parts, repeated};
use crate::harness::gateway_api::id_of;
use crate::harness::quantity::Quantity;

/// Ratios, in text tokens per latent. A window (part of a text that is decoded as a unit) of the default model has at
/// most 32 latents.
const RATIOS: [u32; 2] = [20, 40];
/// Bytes of prose per latent and text token. Windows are shorter than their maximum, so that a text of this many bytes
/// per window has more windows than needed.
const BYTES_PER_TOKEN: usize = 4;
const LATENTS: usize = 32;

/// Writes `windows` windows at each ratio through a gateway whose nodes run on the CPU. Then reads them through another
/// gateway, which has the same store but only a decoder on `device`. Does the same with the devices exchanged. All
/// texts must come back. The second gateway must retry no call, decode each window once and verify nothing.
pub async fn across_devices(device: DeviceChoice, books: &str, windows: usize) -> Result<Vec<Quantity>> {
    let mut quantities = Vec::new();
    for (name, writer, reader) in [("cpu-to-gpu", DeviceChoice::Cpu, device), ("gpu-to-cpu", device, DeviceChoice::Cpu)]
    {
        quantities.extend(write_and_read(name, [writer, reader], books, windows).await?);
    }
    Ok(quantities)
}

async fn write_and_read(
    name: &str,
    [writer, reader]: [DeviceChoice; 2],
    books: &str,
    windows: usize,
) -> Result<Vec<Quantity>> {
    let store = TempDir::with_prefix("c3-stored-")?;
    let data = Some(store.path().display().to_string());
    let spec = ClusterSpec { data, ..ClusterSpec::default() };
    let texts = texts(books, windows);
    let writing = ClusterSpec { devices: vec![writer], ..spec.clone() }.start().await?;
    let mut ids = Vec::new();
    for (ratio, text) in RATIOS.into_iter().zip(&texts) {
        let put = writing.api()?.put_at(text.as_bytes(), ratio).await?;
        ids.push(id_of(&put.document.context("no document")?));
    }
    drop(writing);

    let reading = ClusterSpec { compressors: 0, devices: vec![reader], ..spec }.start().await?;
    let (api, mut quantities, mut all) = (reading.api()?, Vec::new(), 0);
    for ((ratio, text), id) in RATIOS.into_iter().zip(&texts).zip(&ids) {
        let identical = api.get(id).await?.text == text.as_bytes();
        let read = api.windows(id).await?.len();
        all += read;
        let prefix = format!("stored-{name}-{ratio}x");
        quantities.push(Quantity::at_least(format!("{prefix}-windows"), read as f64, windows as f64));
        quantities.push(Quantity::holds(format!("{prefix}-identical"), identical, "identical"));
    }
    let calls = async |method: &str| reading.gateway.metric("c3_node_calls_total", method).await;
    let retries = reading.gateway.metric("c3_retries_total", "").await?;
    quantities.push(Quantity::equal(format!("stored-{name}-retries"), retries, 0.0));
    let decoded = calls(r#"method="Decode""#).await?;
    quantities.push(Quantity::equal(format!("stored-{name}-windows-decoded"), decoded, f64::from(all as u32)));
    let verified = calls(r#"method="Verify""#).await?;
    quantities.push(Quantity::equal(format!("stored-{name}-verified-again"), verified, 0.0));
    Ok(quantities)
}

/// Returns a text of at least `windows` windows for each ratio.
fn texts(books: &str, windows: usize) -> Vec<String> {
    let bytes = |ratio: u32| windows * LATENTS * BYTES_PER_TOKEN * ratio as usize;
    let all = repeated(books, RATIOS.into_iter().map(bytes).sum());
    // The text for 40x is twice as long as the one for 20x.
    let parts = parts(&all, 3);
    vec![parts[0].to_owned(), parts[1..].concat()]
}
