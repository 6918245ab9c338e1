//! Metrics of the calls that a gateway makes.

use c3_server::{ErrorKind, metrics};
use c3_types::Stage;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;

/// Instruments of routing.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    role: &'static str,
    node_calls: Counter<u64>,
}

impl Metrics {
    /// Registers the instruments. Each sample is labelled with `role`.
    pub(crate) fn new(role: &'static str) -> Self {
        let help = "Attempts of stage calls on nodes, by stage, method and outcome (ok, or the error kind)";
        let node_calls = metrics::meter().u64_counter("c3_node_calls").with_description(help).build();
        Self { role, node_calls }
    }

    /// Counts one attempt; `error` is `None` if the attempt succeeded.
    pub(crate) fn node_call(&self, stage: Stage, method: &'static str, error: Option<ErrorKind>) {
        let labels = [
            KeyValue::new("role", self.role),
            KeyValue::new("stage", stage.to_string()),
            KeyValue::new("method", method),
            KeyValue::new("outcome", error.map_or("ok", ErrorKind::as_str)),
        ];
        self.node_calls.add(1, &labels);
    }
}
