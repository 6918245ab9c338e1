//! The handle that a node's calls and its model's thread share.

use std::sync::{Arc, OnceLock};

use c3_proto::pb;
use c3_server::metrics::Metrics;
use c3_types::Stage;

use crate::load::DeviceLoad;
use crate::queue::{Job, Queue, QueueLoad};
use crate::{CallError, Counters, ModelInfo, NodeArgs, Operation, metrics};

/// A handle on a node that serves the model `M` and queues jobs `J`; clones share the node.
pub struct Node<J, M>(Arc<Shared<J, M>>);

impl<J, M> Clone for Node<J, M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// State of a node.
pub(crate) struct Shared<J, M> {
    stage: Stage,
    args: NodeArgs,
    pub(crate) queue: Queue<J>,
    counters: Counters,
    pub(crate) device_load: DeviceLoad,
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

impl<J: Job, M: Send + Sync + 'static> Node<J, M> {
    /// Creates a node whose model is not loaded yet.
    pub fn new(stage: Stage, args: NodeArgs, metrics: Metrics) -> Self {
        let node = Arc::new(Shared {
            stage,
            queue: Queue::new(args.queue_tokens_max, metrics.clone()),
            args,
            counters: Counters::default(),
            device_load: DeviceLoad::default(),
            metrics,
            loaded: OnceLock::new(),
        });
        metrics::observe(&node.metrics, Arc::downgrade(&node));
        Self(node)
    }
}

impl<J: Job, M> Node<J, M> {
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

    /// Returns the load of the node's device.
    pub fn device_load(&self) -> &DeviceLoad {
        &self.0.device_load
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
            load: Some(self.0.load()),
            counters: Some(self.0.counters.to_wire()),
            ..self.loaded()?.info.describe(self.0.stage, &self.0.args)
        })
    }
}

impl<J: Job, M> Shared<J, M> {
    /// Returns the load of the node.
    pub(crate) fn load(&self) -> pb::NodeLoad {
        let (queue, device) = (self.queue.load(), &self.device_load);
        let rate = |operation| device.tokens_per_second(operation).unwrap_or_default();
        pb::NodeLoad {
            queued_tokens: queue.queued_tokens.iter().sum(),
            running_tokens: queue.running_tokens.iter().sum(),
            backlog_seconds: backlog(&queue, rate),
            busy_share: device.busy(),
            batch_fill: device.fill(),
            kv_bytes_used: device.kv_cache().used,
            oldest_job_seconds: queue.oldest.as_secs_f64(),
            compress_tokens_per_second: rate(Operation::Compress),
            verify_tokens_per_second: rate(Operation::Verify),
            decode_tokens_per_second: rate(Operation::Decode),
        }
    }
}

/// Returns the seconds that the device needs for the queued and running tokens. `rate` returns the text tokens a second
/// of an operation; 0 if it is unknown, in which case its tokens do not count.
fn backlog(queue: &QueueLoad, rate: impl Fn(Operation) -> f64) -> f64 {
    let seconds = |operation: Operation| {
        let tokens = queue.queued_tokens[operation as usize] + queue.running_tokens[operation as usize];
        match rate(operation) {
            rate if rate > 0.0 => tokens as f64 / rate,
            _ => 0.0,
        }
    };
    Operation::ALL.map(seconds).iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backlog_adds_the_times_of_operations_with_known_rates() {
        let queue = QueueLoad { queued_tokens: [0, 600, 50], running_tokens: [10, 0, 50], ..QueueLoad::default() };
        let rate = |operation| match operation {
            Operation::Compress => 0.0,
            Operation::Verify => 300.0,
            Operation::Decode => 100.0,
        };
        assert_eq!(backlog(&queue, rate), 3.0);
    }
}
