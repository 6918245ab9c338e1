//! Fidelity computed independently of the gateway, and a search for plaintext in the store.
//!
//! A *correction* is a token position and the token that the decoder must write there. *Fidelity* is the fraction of
//! tokens that the decoder predicts correctly without corrections, as the gateway reports it. The check decodes each
//! window (part of the text) without corrections, then adds corrections one by one until the window's text is exact.
//! The number of corrections added must equal the number of tokens that the gateway reports as wrong.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use c3_cascade::{Compressor, Decoder, Options, Source};
use c3_proto::pb;
use c3_proto::pb::decode_request::Task;
use c3_proto::pb::decoder_client::DecoderClient;
use futures::stream;
use tonic::transport::Channel;

use crate::harness::cluster::{ClusterSpec, files_under};
use crate::harness::fixtures;
use crate::harness::gateway_api::id_of;
use crate::harness::quantity::Quantity;

/// Number of consecutive bytes of the text that must not appear in the store.
const RUN_BYTES: usize = 40;

/// Puts a text and computes its fidelity independently of the gateway; both results must be equal, and no stored file
/// may contain [`RUN_BYTES`] consecutive bytes of the text. Restarts all programs in between.
pub async fn fidelity(name: &str, text: &str, ratio: u32) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let put = cluster.api()?.put_at(text.as_bytes(), ratio).await?;
    let document = put.document.context("no document")?;
    let cluster = cluster.restart().await?;

    let windows = cluster.api()?.windows(&id_of(&document)).await?;
    let model = Model::load(&fixtures::default_model())?;
    let truths = model.truths(text, &windows)?;
    let mut decoder = DecoderClient::new(cluster.decoders[0].channel()?);
    let mut corrections = 0;
    for (window, truth) in windows.into_iter().zip(&truths) {
        corrections += truth.corrections_needed(&mut decoder, window.group.context("no latents")?).await?;
    }
    let tokens: usize = truths.iter().map(|truth| truth.tokens.len()).sum();
    cluster.api()?.get(&id_of(&document)).await?;
    let found = files_with_runs_of(text.as_bytes(), &cluster.data())?;
    let wrong = document.tokens - document.tokens_right;
    Ok(vec![
        Quantity::equal(format!("{name}-tokens"), document.tokens, tokens as u64),
        Quantity::equal(format!("{name}-tokens-wrong"), wrong, corrections),
        Quantity::equal(format!("{name}-files-with-text"), found, Vec::new()),
    ])
}

/// Both stages, loaded in this process to compute the true tokens of a text.
struct Model {
    compressor: Compressor,
    decoder: Decoder,
}

/// True tokens of a window, each with its bytes of text.
struct Truth {
    tokens: Vec<(u32, Vec<u8>)>,
    ratio: usize,
}

impl Model {
    fn load(folder: &Path) -> Result<Self> {
        let options = Options::default();
        let compressor = Compressor::load(Source::Folder(folder), &options)?;
        Ok(Self { compressor, decoder: Decoder::load(Source::Folder(folder), &options)? })
    }

    /// Returns the true tokens of every window. Takes only the shard boundaries and ratios from `windows`.
    fn truths(&self, text: &str, windows: &[pb::WindowLatents]) -> Result<Vec<Truth>> {
        let mut truths = Vec::new();
        for shard in windows.chunk_by(|a, b| a.shard == b.shard) {
            let (first, last) = (&shard[0], &shard[shard.len() - 1]);
            let ratio = first.group.as_ref().context("no latents")?.ratio as usize;
            let text = &text[first.start as usize..last.end as usize];
            let cut = self.compressor.windows(text, ratio)?;
            ensure!(cut.len() == shard.len(), "{} windows stored, {} due", shard.len(), cut.len());
            for window in cut {
                let bytes = |&token: &u32| Ok((token, self.decoder.text(&[token])?));
                truths.push(Truth { tokens: window.tokens.iter().map(bytes).collect::<Result<_>>()?, ratio });
            }
        }
        Ok(truths)
    }
}

impl Truth {
    /// Returns the number of corrections that the decoder needs to reproduce the window exactly.
    async fn corrections_needed(&self, decoder: &mut DecoderClient<Channel>, group: pb::LatentGroup) -> Result<u64> {
        ensure!(
            group.tokens as usize == self.tokens.len(),
            "{} tokens stored, {} true",
            group.tokens,
            self.tokens.len()
        );
        let mut corrections = BTreeMap::new();
        loop {
            let written = decode(decoder, group.clone(), &corrections).await?;
            let Some(at) = self.first_wrong(&written) else { return Ok(corrections.len() as u64) };
            // A block is the run of tokens that one latent stands for, and is decoded on its own. If a token differs
            // although it is corrected, an earlier token of its block must be wrong. The search goes back to that
            // token.
            let block = at - at % self.ratio;
            let wrong = (block..=at).rev().find(|&at| corrections.remove(&(at as u32)).is_none());
            let wrong = wrong.context("a block is wrong although all its tokens are corrected")?;
            corrections.insert(wrong as u32, self.tokens[wrong].0);
        }
    }

    /// Returns the index of the first token whose bytes differ. Returns the last index if there are more bytes after
    /// all tokens, and `None` if nothing differs.
    fn first_wrong(&self, written: &[u8]) -> Option<usize> {
        let mut rest = written;
        for (at, (_, bytes)) in self.tokens.iter().enumerate() {
            match rest.strip_prefix(bytes.as_slice()) {
                Some(after) => rest = after,
                None => return Some(at),
            }
        }
        (!rest.is_empty()).then(|| self.tokens.len() - 1)
    }
}

async fn decode(
    decoder: &mut DecoderClient<Channel>,
    group: pb::LatentGroup,
    corrections: &BTreeMap<u32, u32>,
) -> Result<Vec<u8>> {
    let corrections = pb::Corrections {
        positions: corrections.keys().copied().collect(),
        tokens: corrections.values().copied().collect(),
    };
    let task = Task::Reconstruct(pb::Reconstruct { corrections: Some(corrections) });
    let request = pb::DecodeRequest { window: 0, group: Some(group), task: Some(task) };
    let mut pieces = decoder.decode(stream::iter([request])).await?.into_inner();
    let mut written = Vec::new();
    while let Some(piece) = pieces.message().await? {
        written.extend(piece.text);
    }
    Ok(written)
}

/// Returns the files under `folder` that contain any [`RUN_BYTES`] consecutive bytes of the text.
fn files_with_runs_of(text: &[u8], folder: &Path) -> Result<Vec<String>> {
    let runs: HashSet<&[u8]> = text.windows(RUN_BYTES).collect();
    let files = files_under(folder)?;
    ensure!(!files.is_empty(), "nothing is stored in {}", folder.display());
    let mut found = Vec::new();
    for file in files {
        if fs::read(&file)?.windows(RUN_BYTES).any(|run| runs.contains(run)) {
            found.push(file.display().to_string());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth() -> Truth {
        let tokens = ["the", " cat", " sat"].iter().enumerate();
        Truth { tokens: tokens.map(|(id, token)| (id as u32, token.as_bytes().to_vec())).collect(), ratio: 3 }
    }

    #[test]
    fn the_first_wrong_token_is_found() {
        assert_eq!(truth().first_wrong(b"the cat sat"), None);
        assert_eq!(truth().first_wrong(b"the dog sat"), Some(1));
        assert_eq!(truth().first_wrong(b"the cat sat."), Some(2));
        assert_eq!(truth().first_wrong(b""), Some(0));
    }

    #[test]
    fn a_run_of_the_text_is_found_at_any_offset() {
        let text = b"It was the best of times, it was the worst of times, it was the age of wisdom";
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("clean"), &text[..RUN_BYTES - 1]).unwrap();
        assert_eq!(files_with_runs_of(text, folder.path()).unwrap(), Vec::<String>::new());
        fs::write(folder.path().join("spoilt"), [b"\0\0", &text[7..7 + RUN_BYTES], b"\0"].concat()).unwrap();
        assert_eq!(files_with_runs_of(text, folder.path()).unwrap().len(), 1);
    }
}
