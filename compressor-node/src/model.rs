//! The model on its own thread: takes what waits, computes it side by side, answers.

use std::{sync::Arc, time::Instant};

use c3_cascade::{Compressor, Source, TokenWindow};
use c3_node::{
    Error, ModelFacts,
    batch::{self, Work},
    queue::{Job, Room},
};
use c3_server::caller::Caller;
use tokio::sync::oneshot;
use tonic::Status;

/// Warms the model; any text would do.
const WARM_UP: &str = "The first batch pays for what later ones find ready.";

/// A handle on the node.
pub(crate) type Node = c3_node::Node<CompressJob, Arc<Compressor>>;

/// A window that waits for its latents.
pub(crate) struct CompressJob {
    pub(crate) window: TokenWindow,
    pub(crate) caller: Caller,
    pub(crate) reply: oneshot::Sender<Result<Compressed, Status>>,
}

/// A window and its latents: a tensor of rows of the model's width.
pub(crate) struct Compressed {
    pub(crate) window: TokenWindow,
    pub(crate) latents: Vec<f32>,
}

impl Job for CompressJob {
    fn tokens(&self) -> usize {
        self.window.tokens.len()
    }

    fn caller(&self) -> Caller {
        self.caller
    }

    fn is_gone(&self) -> bool {
        self.reply.is_closed()
    }
}

/// Loads and warms the model, and computes until the queue closes.
pub(crate) fn work(node: &Node, ready: &dyn Fn()) -> Result<(), Error> {
    let (compressor, facts) = load(node)?;
    let tokens_max = node.settings().batch_tokens_max(&facts.device);
    node.serve(compressor.clone(), facts);
    ready();
    let counted = Work { name: "compress", counter: &node.counters().compressed, metrics: node.metrics() };
    while node.queue().wait() {
        let mut room = Room::new(tokens_max, 0);
        let batch = node.queue().take(|job| if room.fits(job.tokens()) { Ok(job) } else { Err(job) });
        let compress = |jobs: &[&CompressJob]| {
            compressor.compress(&jobs.iter().map(|job| &job.window).collect::<Vec<_>>())
        };
        batch::compute(batch, &counted, &compress, &|CompressJob { window, reply, .. }, latents| {
            // A caller that left meanwhile misses nothing.
            let _ = reply.send(latents.map(|latents| Compressed { window, latents }));
        });
    }
    Ok(())
}

fn load(node: &Node) -> Result<(Arc<Compressor>, ModelFacts), Error> {
    let began = Instant::now();
    let compressor = Compressor::load(node.source(embedded())?, &node.settings().options())?;
    let facts = ModelFacts::new(compressor.info())?;
    let warm_up = compressor.windows(WARM_UP, compressor.info().ratio_default)?;
    compressor.compress(&warm_up.iter().collect::<Vec<_>>())?;
    let (cascade, device, arithmetic) = (&facts.cascade.name, &facts.device, &facts.arithmetic);
    let seconds = began.elapsed().as_secs_f64();
    tracing::info!(%cascade, %device, %arithmetic, seconds, "compressor is loaded and warm");
    Ok((Arc::new(compressor), facts))
}

#[cfg(feature = "embedded-model")]
fn embedded() -> Option<Source<'static>> {
    Some(Source::Embedded(c3_model::compressor_files()))
}

#[cfg(not(feature = "embedded-model"))]
fn embedded() -> Option<Source<'static>> {
    None
}
