//! Latents as safetensors files: export, import, rejected imports, and decoding by another program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::ops;
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::fixtures;
use crate::harness::gateway_api::id_of;
use crate::harness::process::{Launch, Program};
use crate::harness::quantity::Quantity;

const RATIO: u32 = 20;
/// Key of the metadata that describes the document and its windows.
const ENTRY: &str = "c3.latents.2";
/// Number of bytes before the header. These bytes contain the length of the header.
const LENGTH_BYTES: usize = 8;

/// Exports a document's latents, imports them and exports them again; both files must be identical, and imports of
/// modified files must fail.
pub async fn again(text: &str) -> Result<Vec<Quantity>> {
    let exported = ExportedDocument::begin(text).await?;
    let ExportedDocument { cluster, folder, id, file } = &exported;
    let api = cluster.api()?;
    ops::delete(&api, id).await?;
    let mut quantities = Vec::new();
    for (name, says, changed) in changed(&fs::read(file)?)? {
        let path = folder.path().join(name);
        fs::write(&path, changed)?;
        let (code, printed) = exported.c3(&["put-latents".as_ref(), &path]).await?;
        // `c3` itself rejects a file whose content is contradictory. The gateway rejects the other modified files.
        let refused = matches!(code, Some(1 | 2)) && printed.contains(says);
        quantities.push(Quantity::observed(
            format!("safetensors-{name}"),
            printed.trim(),
            refused,
            format!("refused with `{says}`"),
        ));
    }
    quantities.push(Quantity::equal("safetensors-refused-stored", api.ids().await?.len(), 0));

    let (code, printed) = exported.c3(&["put-latents".as_ref(), file]).await?;
    ensure!(code == Some(0), "put-latents: {printed}");
    let same = api.get(id).await?.text == text.as_bytes();
    quantities.push(Quantity::holds("safetensors-text", same, "identical"));
    let second = exported.latents("second").await?;
    let same = fs::read(file)? == fs::read(second)?;
    quantities.push(Quantity::holds("safetensors-out-in-and-out", same, "identical"));
    quantities.push(Quantity::equal("safetensors-findings", ops::fsck(&api, false).await?.len(), 0));
    Ok(quantities)
}

/// Decodes an exported file with the Python example, which uses PyTorch; the text must be identical.
pub async fn by_torch(text: &str) -> Result<Vec<Quantity>> {
    let exported = ExportedDocument::begin(text).await?;
    let output = exported.folder.path().join("by-torch");
    let run = Command::new(python()?)
        .arg(fixtures::root().join("clients/examples/decode_latents.py"))
        .arg(&exported.file)
        .arg("--model")
        .arg(fixtures::default_model())
        .arg("-o")
        .arg(&output)
        .output()?;
    ensure!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Ok(vec![Quantity::holds("safetensors-by-torch", fs::read(output)? == text.as_bytes(), "identical")])
}

/// A stored document and its exported latents.
struct ExportedDocument {
    cluster: Cluster,
    folder: TempDir,
    id: String,
    file: PathBuf,
}

impl ExportedDocument {
    async fn begin(text: &str) -> Result<Self> {
        let cluster = ClusterSpec::default().start().await?;
        let put = cluster.api()?.put_at(text.as_bytes(), RATIO).await?;
        let id = id_of(&put.document.context("no document")?);
        let folder = TempDir::with_prefix("c3-interchange-")?;
        let mut exported = Self { cluster, folder, id, file: PathBuf::new() };
        exported.file = exported.latents("first").await?;
        Ok(exported)
    }

    /// Exports the document's latents to a new file.
    async fn latents(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        let (code, printed) = self.c3(&["latents".as_ref(), self.id.as_ref(), "-o".as_ref(), &path]).await?;
        ensure!(code == Some(0), "latents: {printed}");
        Ok(path)
    }

    async fn c3(&self, args: &[&Path]) -> Result<(Option<i32>, String)> {
        let launch = Launch::new(Program::C3).args(args).env("C3_GATEWAY", self.cluster.gateway.url());
        let output = launch.output().await?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

/// Parsed safetensors file: tensor descriptions, metadata and tensor data.
struct File {
    tensors: Value,
    entry: Value,
    data: Vec<u8>,
}

/// Returns modified files that must be rejected, with their names and expected messages.
fn changed(file: &[u8]) -> Result<Vec<(&'static str, &'static str, Vec<u8>)>> {
    type Change = fn(&mut File);
    let changes: [(&str, &str, Change); 5] = [
        ("another-text", "were declared", |file| {
            file.entry["document"]["id"] = json!(blake3::hash(b"another text").to_hex().as_str());
        }),
        ("another-model", "is served", |file| {
            let other = blake3::hash(b"another model").to_hex();
            file.entry["document"]["compressor"] = json!(other.as_str());
            for window in file.entry["windows"].as_array_mut().into_iter().flatten() {
                window["compressor"] = json!(other.as_str());
            }
        }),
        ("another-shape", "latents for", |file| {
            // Twice as many latents of half the width, so that the size in bytes stays the same.
            for (number, window) in file.entry["windows"].as_array_mut().into_iter().flatten().enumerate() {
                let [latents, width] = ["latents", "width"].map(|of| window[of].as_u64().unwrap_or(0));
                (window["latents"], window["width"]) = (json!(latents * 2), json!(width / 2));
                file.tensors[format!("window.{number}")]["shape"] = json!([latents * 2, width / 2]);
            }
        }),
        ("another-hash", "does not match the declared hash", |file| {
            file.entry["windows"][0]["hash"] = json!(blake3::hash(b"another text").to_hex().as_str());
        }),
        ("not-finite", "not finite", |file| file.data[..4].copy_from_slice(&f32::NAN.to_le_bytes())),
    ];
    changes.into_iter().map(|(name, says, change)| Ok((name, says, edit(file, change)?))).collect()
}

fn edit(file: &[u8], change: impl FnOnce(&mut File)) -> Result<Vec<u8>> {
    let (length, rest) = file.split_first_chunk::<LENGTH_BYTES>().context("no header")?;
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut tensors: Value = serde_json::from_slice(header)?;
    let entry = tensors["__metadata__"][ENTRY].as_str().context("no metadata")?;
    let mut file = File { entry: serde_json::from_str(entry)?, data: data.to_vec(), tensors: Value::Null };
    file.tensors = tensors.take();
    change(&mut file);
    file.tensors["__metadata__"][ENTRY] = json!(file.entry.to_string());
    let header = file.tensors.to_string();
    Ok([&(header.len() as u64).to_le_bytes(), header.as_bytes(), &file.data].concat())
}

/// Returns the path of a Python with the example's requirements. On first use, installs them in `target/torch`.
fn python() -> Result<PathBuf> {
    let folder = fixtures::root().join("target/torch");
    let (python, needs) = (folder.join("bin/python"), "import blake3, gguf, safetensors, tokenizers, torch");
    if !can(&python, needs) {
        eprintln!("installing PyTorch in {}", folder.display());
        // Uses the system's PyTorch if there is one, because the download is about a gigabyte.
        let has_torch = ["python3", "/usr/bin/python3"].into_iter().find(|python| can(python.as_ref(), "import torch"));
        let mut venv = Command::new(has_torch.unwrap_or("python3"));
        venv.args(["-m", "venv"]).args(has_torch.map(|_| "--system-site-packages")).arg(&folder);
        ensure!(venv.status()?.success(), "python3 -m venv failed: install Python's venv");
        let requirements = fixtures::root().join("clients/examples/requirements.txt");
        let mut pip = Command::new(folder.join("bin/pip"));
        let installed = pip.args(["install", "--quiet", "-r"]).arg(requirements).status()?.success();
        ensure!(installed && can(&python, needs), "pip install failed: see above");
    }
    Ok(python)
}

fn can(python: &Path, import: &str) -> bool {
    let asked = Command::new(python).args(["-c", import]).stderr(std::process::Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}
