//! Tokenizes a shard, splits it into windows and has the model compress each window to one latent group.

use std::ops::Range;

use c3_node::{CallError, Loaded, ModelInfo, saturating_u32};
use c3_server::principal;
use c3_types::{LatentCodec, LatentGroup, Provenance};
use tokio::sync::oneshot;

use crate::model::{CompressJob, Compressed, Node, call_error};

/// A shard from a valid request.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) text: String,
    pub(crate) ratio: u32,
    pub(crate) codec: LatentCodec,
}

/// A compressed window of a shard.
#[derive(Debug)]
pub(crate) struct Window {
    /// Byte range of the window in the shard's text.
    pub(crate) bytes: Range<usize>,
    pub(crate) tokens: Vec<u32>,
    pub(crate) group: LatentGroup,
}

/// Compresses a shard. Returns its windows in order. Dropping the future cancels the jobs that are still queued.
#[tracing::instrument(name = "compress shard", skip_all, fields(bytes = shard.text.len(), ratio = shard.ratio))]
pub(crate) async fn compress(node: &Node, shard: Shard) -> Result<Vec<Window>, CallError> {
    let Loaded { model: compressor, info } = node.loaded()?;
    let Shard { text, ratio, codec } = shard;
    let windows = tokio::task::spawn_blocking({
        let compressor = compressor.clone();
        move || compressor.windows(&text, ratio as usize)
    });
    let windows = windows.await.map_err(|error| CallError::Internal(error.to_string()))?;
    let (jobs, answers): (Vec<_>, Vec<_>) = windows
        .map_err(call_error)?
        .into_iter()
        .map(|window| {
            let (reply, answer) = oneshot::channel();
            (CompressJob { window, principal: principal::current(), reply }, answer)
        })
        .unzip();
    node.queue().push(jobs)?;
    let mut windows = Vec::with_capacity(answers.len());
    for answer in answers {
        // A sender is dropped without an answer only when the queue closes.
        let compressed = answer.await.map_err(|_| CallError::Stopping)??;
        windows.push(encode(compressed, info, codec)?);
    }
    Ok(windows)
}

fn encode(compressed: Compressed, info: &ModelInfo, codec: LatentCodec) -> Result<Window, CallError> {
    let Compressed { window, latents } = compressed;
    let provenance = Provenance {
        compressor: info.cascade.compressor,
        tokens: saturating_u32(window.tokens.len()),
        ratio: saturating_u32(window.ratio),
    };
    let group = LatentGroup::encode(&latents, saturating_u32(info.latent_width), codec, provenance);
    // The check of the request ensured that the codec fits the latent width, so an error is the model's fault.
    let group = group.map_err(|error| CallError::Internal(format!("cannot encode latents: {error}")))?;
    Ok(Window { bytes: window.bytes, tokens: window.tokens, group })
}
