//! The handle that a node's calls and its model's thread share.

use std::sync::{Arc, OnceLock};

use c3_proto::pb;
use c3_server::metrics::Metrics;
use c3_types::Stage;

use crate::queue::{Job, Queue};
use crate::{CallError, Counters, ModelInfo, NodeArgs};

/// A handle on a node that serves the model `M` and queues jobs `J`; clones share the node.
pub struct Node<J, M>(Arc<Shared<J, M>>);

impl<J, M> Clone for Node<J, M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Shared<J, M> {
    stage: Stage,
    args: NodeArgs,
    queue: Queue<J>,
    counters: Counters,
    metrics: Metrics,
    loaded: OnceLock<Loaded<M>>,
}

/// A model that is loaded and warm.
pub struct Loaded<M> {
    /// The model.
    pub model: M,
    /// Properties of the model.
    pub info: ModelInfo,
}

impl<J: Job, M> Node<J, M> {
    /// Creates a node whose model is not loaded yet.
    pub fn new(stage: Stage, args: NodeArgs, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            stage,
            queue: Queue::new(args.queue_tokens_max, metrics.clone()),
            args,
            counters: Counters::default(),
            metrics,
            loaded: OnceLock::new(),
        }))
    }

    /// Returns the stage that the node serves.
    pub fn stage(&self) -> Stage {
        self.0.stage
    }

    /// Returns the queue of jobs for the model.
    pub fn queue(&self) -> &Queue<J> {
        &self.0.queue
    }

    /// Returns the counters of work done.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Returns the node's metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Returns the operator's settings.
    pub fn args(&self) -> &NodeArgs {
        &self.0.args
    }

    /// Makes the model available to calls. Further calls of this method have no effect.
    pub fn set_loaded(&self, model: M, info: ModelInfo) {
        self.0.loaded.get_or_init(|| Loaded { model, info });
    }

    /// Returns the model, or [`CallError::Loading`] before [`Node::set_loaded`].
    pub fn loaded(&self) -> Result<&Loaded<M>, CallError> {
        self.0.loaded.get().ok_or(CallError::Loading)
    }

    /// Returns the node's description: model, limits, load and counters. Errors: [`CallError::Loading`].
    pub fn describe(&self) -> Result<pb::DescribeResponse, CallError> {
        Ok(pb::DescribeResponse {
            load: Some(self.0.queue.load()),
            counters: Some(self.0.counters.to_wire()),
            ..self.loaded()?.info.describe(self.0.stage, &self.0.args)
        })
    }
}
