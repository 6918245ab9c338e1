//! What the node does with a shard: tokenizes it, windows it, and waits for the model.

use std::sync::{Arc, OnceLock};

use c3_cascade::Compressor;
use c3_proto::{LatentCodec, LatentGroup, Provenance, Stage, pb};
use c3_service::{
    Kind,
    metrics::Metrics,
    node::{Counters, ModelFacts, NodeArgs, count},
    queue::{Queue, stopping},
};
use tokio::sync::oneshot;
use tonic::Status;

use crate::{
    Config,
    error::status,
    model::{CompressJob, Compressed, Model},
};

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

/// A handle on the node; clones are of the same one.
#[derive(Clone)]
pub(crate) struct Node(Arc<Shared>);

struct Shared {
    args: NodeArgs,
    queue: Queue<CompressJob>,
    counters: Counters,
    served: OnceLock<Served>,
}

/// What is there once the model is.
pub(crate) struct Served {
    compressor: Arc<Compressor>,
    pub(crate) facts: ModelFacts,
}

impl Node {
    pub(crate) fn new(config: &Config, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            args: config.node.clone(),
            queue: Queue::new(config.node.queue_tokens_max, metrics),
            counters: Counters::default(),
            served: OnceLock::new(),
        }))
    }

    pub(crate) fn queue(&self) -> &Queue<CompressJob> {
        &self.0.queue
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// The model is loaded.
    pub(crate) fn set_model(&self, model: &Model) {
        let (compressor, facts) = (model.compressor.clone(), model.facts.clone());
        self.0.served.get_or_init(|| Served { compressor, facts });
    }

    /// What is served. Errors: UNAVAILABLE while the model loads.
    pub(crate) fn served(&self) -> Result<&Served, Status> {
        self.0.served.get().ok_or_else(|| Kind::Unavailable.status("the model is loading: try again later"))
    }

    pub(crate) fn describe(&self) -> Result<pb::DescribeResponse, Status> {
        Ok(pb::DescribeResponse {
            load: Some(self.0.queue.load()),
            counters: Some(self.0.counters.to_wire()),
            ..self.served()?.facts.describe(Stage::Compressor, &self.0.args)
        })
    }

    /// The windows of a shard, in order. Dropping the future gives up the shard's places.
    #[tracing::instrument(name = "compress shard", skip_all, fields(bytes = shard.text.len(), ratio = shard.ratio))]
    pub(crate) async fn compress(&self, shard: Shard) -> Result<Vec<Window>, Status> {
        let Served { compressor, facts } = self.served()?;
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
                (CompressJob { window, reply }, answer)
            })
            .unzip();
        self.0.queue.push(jobs)?;
        let mut windows = Vec::with_capacity(answers.len());
        for answer in answers {
            let compressed = answer.await.map_err(|_| stopping())??;
            windows.push(encode(compressed, facts, codec)?);
        }
        Ok(windows)
    }
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
