//! What the node does with a shard: tokenizes it, windows it, and waits for the model.

use c3_node::{ModelFacts, Served, count, queue::stopping, status};
use c3_proto::{LatentCodec, LatentGroup, Provenance};
use c3_server::{Kind, caller};
use tokio::sync::oneshot;
use tonic::Status;

use crate::model::{CompressJob, Compressed, Node};

/// A shard that was checked.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) text: String,
    pub(crate) ratio: u32,
    pub(crate) codec: LatentCodec,
}

/// A window of a shard.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) bytes: std::ops::Range<usize>,
    pub(crate) tokens: Vec<u32>,
    pub(crate) group: LatentGroup,
}

/// The windows of a shard, in order. Dropping the future gives up the shard's places.
#[tracing::instrument(name = "compress shard", skip_all, fields(bytes = shard.text.len(), ratio = shard.ratio))]
pub(crate) async fn compress(node: &Node, shard: Shard) -> Result<Vec<Window>, Status> {
    let Served { model: compressor, facts } = node.served()?;
    let Shard { text, ratio, codec } = shard;
    let windows = tokio::task::spawn_blocking({
        let compressor = compressor.clone();
        move || compressor.windows(&text, ratio as usize)
    });
    let windows = windows.await.map_err(|error| Kind::Internal.status(error.to_string()))?;
    let windows = windows.map_err(|error| status(&error))?;
    let (jobs, answers): (Vec<_>, Vec<_>) = windows
        .into_iter()
        .map(|window| {
            let (reply, answer) = oneshot::channel();
            (CompressJob { window, caller: caller::current(), reply }, answer)
        })
        .unzip();
    node.queue().push(jobs)?;
    let mut windows = Vec::with_capacity(answers.len());
    for answer in answers {
        let compressed = answer.await.map_err(|_| stopping())??;
        windows.push(encode(compressed, facts, codec)?);
    }
    Ok(windows)
}

fn encode(compressed: Compressed, facts: &ModelFacts, codec: LatentCodec) -> Result<Window, Status> {
    let Compressed { window, latents } = compressed;
    let of = Provenance {
        compressor: facts.cascade.compressor,
        tokens: count(window.tokens.len()),
        ratio: count(window.ratio),
    };
    let group = LatentGroup::encode(&latents, count(facts.latent_width), codec, of);
    // The shard was checked: what does not encode now is the model's fault.
    let group = group.map_err(|error| Kind::Internal.status(format!("latents do not encode: {error}")))?;
    Ok(Window { bytes: window.bytes, tokens: window.tokens, group })
}
