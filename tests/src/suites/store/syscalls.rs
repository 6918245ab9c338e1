//! System calls of a put: each new file and its folder must be synced before the put is acknowledged.

use std::collections::HashSet;
use std::fs;

use anyhow::{Context, Result};

use super::ops::{default_options, large_text, small_text};
use super::strace::Strace;
use crate::harness::cluster::{ClusterSpec, files_under};
use crate::harness::quantity::Quantity;

/// Traces a put of a small text and a put of a large text; each new file and its folder must be synced before the put
/// is acknowledged.
pub async fn syscalls() -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let mut quantities = Vec::new();
    for (name, text) in [("small", small_text(1)), ("large", large_text(1))] {
        let before = HashSet::<_>::from_iter(files_under(&cluster.data())?);
        let trace = tempfile::NamedTempFile::new()?;
        let output = trace.path().display().to_string();
        let args = ["-y", "-e", "trace=fsync,fdatasync", "-o", &output];
        let strace = Strace::attach(&cluster.gateway, &args).await?;
        api.put(text.as_bytes(), default_options()).await?;
        // Detaches immediately, so that syncs after the acknowledgement are not counted.
        strace.detach()?;
        let trace = fs::read_to_string(trace.path())?;
        let files = Vec::from_iter(files_under(&cluster.data())?.into_iter().filter(|file| !before.contains(file)));
        quantities.push(Quantity::at_least(format!("synced-{name}-files"), files.len() as f64, 1.0));
        let mut unsynced = Vec::new();
        for file in &files {
            let folder = file.parent().context("a file has a parent folder")?;
            // The store syncs a file under its temporary name, which is the final name, `#` and a number.
            let own = format!("<{}#", file.display());
            let of_folder = format!("<{}>", folder.display());
            if !(trace.contains(&own) && trace.contains(&of_folder)) {
                unsynced.push(file.display().to_string());
            }
        }
        quantities.push(Quantity::equal(format!("synced-{name}-not"), unsynced, Vec::new()));
    }
    Ok(quantities)
}
