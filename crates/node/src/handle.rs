//! The handle between the calls of a node and its model's thread.

use std::sync::{Arc, OnceLock};

use c3_cascade::Source;
use c3_proto::{Stage, pb};
use c3_server::{Kind, metrics::Metrics};
use tonic::Status;

use crate::{
    Counters, Error, ModelFacts, Settings,
    queue::{Job, Queue},
};

/// A handle on a node that serves the model `M` and whose callers queue jobs `J`; clones are of the same node.
pub struct Node<J, M>(Arc<Shared<J, M>>);

impl<J, M> Clone for Node<J, M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Shared<J, M> {
    stage: Stage,
    settings: Settings,
    queue: Queue<J>,
    counters: Counters,
    metrics: Metrics,
    served: OnceLock<Served<M>>,
}

/// What is there once the model is.
pub struct Served<M> {
    /// The model.
    pub model: M,
    /// What it says of itself.
    pub facts: ModelFacts,
}

impl<J: Job, M> Node<J, M> {
    /// A node without a model yet.
    pub fn new(stage: Stage, settings: Settings, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            stage,
            queue: Queue::new(settings.queue_tokens_max, metrics.clone()),
            settings,
            counters: Counters::default(),
            metrics,
            served: OnceLock::new(),
        }))
    }

    /// The stage that it serves.
    pub fn stage(&self) -> Stage {
        self.0.stage
    }

    /// What waits for the model.
    pub fn queue(&self) -> &Queue<J> {
        &self.0.queue
    }

    /// What was computed.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// The node's numbers for Prometheus.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// What the operator set.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Where the model's files are: the operator's folder, or those inside the program.
    pub fn source(&self, embedded: Option<Source<'static>>) -> Result<Source<'_>, Error> {
        self.0.settings.model.as_deref().map(Source::Folder).or(embedded).ok_or(Error::NoModel)
    }

    /// The model is loaded and warm.
    pub fn serve(&self, model: M, facts: ModelFacts) -> &Served<M> {
        self.0.served.get_or_init(|| Served { model, facts })
    }

    /// What is served. Errors: UNAVAILABLE while the model loads.
    pub fn served(&self) -> Result<&Served<M>, Status> {
        self.0.served.get().ok_or_else(|| Kind::Unavailable.status("the model is loading: try again later"))
    }

    /// What the node says of itself. Errors: UNAVAILABLE while the model loads.
    pub fn describe(&self) -> Result<pb::DescribeResponse, Status> {
        Ok(pb::DescribeResponse {
            load: Some(self.0.queue.load()),
            counters: Some(self.0.counters.to_wire()),
            ..self.served()?.facts.describe(self.0.stage, &self.0.settings)
        })
    }
}
