//! Bit flips in stored files: reads must fail with an error that names the window or the document.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tonic::Code;

use crate::harness::cluster::ClusterSpec;
use crate::harness::gateway_api::id_of;
use crate::harness::quantity::Quantity;

/// Ratio (text tokens per latent) that is so high that some tokens always need corrections.
const RATIO: u32 = 80;

/// Flips one bit of one stored file at a time and reads the document; the read must fail with DATA_LOSS and name the
/// window (part of the text) or the document. Restarts the gateway before each read, and tries four offsets of every
/// file.
pub async fn flipped_bits(text: &str) -> Result<Vec<Quantity>> {
    let mut cluster = ClusterSpec::default().start().await?;
    let put = cluster.api()?.put_at(text.as_bytes(), RATIO).await?;
    let document = put.document.context("no document")?;
    ensure!(document.corrections > 0, "the text needs no corrections: there is no file of them to damage");
    let id = id_of(&document);

    let mut files = cluster.objects()?;
    // No read needs the secret of search.
    files.retain(|file| folder_of(file, &cluster.data()) != "search");
    let mut quantities = vec![Quantity::at_least("flipped-bit-files", files.len() as f64, 1.0)];
    for file in files {
        let whole = fs::read(&file)?;
        for at in [0, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&file, damaged)?;
            cluster.restart_gateway().await?;
            let answer = cluster.api()?.get(&id).await;
            let seen = match &answer {
                Ok(_) => "a text".to_owned(),
                Err(status) => format!("{:?}: {}", status.code(), status.message()),
            };
            let ok = answer.is_err_and(|status| {
                status.code() == Code::DataLoss
                    && (status.message().contains("window") || status.message().contains(&id))
            });
            let name = format!("flipped-bit-{}-at-{at}", folder_of(&file, &cluster.data()));
            quantities.push(Quantity::observed(name, seen, ok, "DataLoss with the window or the document"));
        }
        fs::write(&file, whole)?;
    }
    cluster.restart_gateway().await?;
    let got = cluster.api()?.get(&id).await?;
    quantities.push(Quantity::holds("flipped-bits-repaired", got.text == text.as_bytes(), "identical"));
    Ok(quantities)
}

/// Returns the name of the top-level folder in `data` that contains a file. Each kind of object has its own folder.
fn folder_of(file: &Path, data: &Path) -> String {
    let inside = file.strip_prefix(data).unwrap_or(file);
    inside.iter().next().map(|kind| kind.to_string_lossy().into_owned()).unwrap_or_default()
}
