//! Gauges of a node's load. Their values are read from the node at each scrape.

use std::sync::Weak;

use c3_server::metrics::{self, Metrics};

use crate::node::Shared;
use crate::queue::Job;

/// Registers the gauges. The series end when the node is dropped.
pub(crate) fn observe<J: Job, M: Send + Sync + 'static>(metrics: &Metrics, node: Weak<Shared<J, M>>) {
    gauge(metrics, &node, "c3_backlog_seconds", "Estimated time to compute the queued and running tokens", |node| {
        Some(node.load().backlog_seconds)
    });
    gauge(metrics, &node, "c3_device_busy_ratio", "Share of the last seconds in which the device computed", |node| {
        Some(node.device_load.busy())
    });
    gauge(metrics, &node, "c3_batch_fill_ratio", "Average size of the latest batches over the maximum", |node| {
        Some(node.device_load.fill())
    });
    gauge(metrics, &node, "c3_oldest_job_age_seconds", "Age of the oldest job that waits for the model", |node| {
        Some(node.queue.load().oldest.as_secs_f64())
    });
    let kv_used = "Bytes of the KV cache that the running windows need at most";
    gauge(metrics, &node, "c3_kv_cache_used_bytes", kv_used, |node| {
        let kv = node.device_load.kv_cache();
        (kv.max > 0).then_some(kv.used as f64)
    });
    gauge(metrics, &node, "c3_kv_cache_max_bytes", "Maximum bytes of the KV cache", |node| {
        let kv = node.device_load.kv_cache();
        (kv.max > 0).then_some(kv.max as f64)
    });
}

/// Registers a gauge. `read` returns its value, or `None` if the node has no such value.
fn gauge<J: Job, M: Send + Sync + 'static>(
    metrics: &Metrics,
    node: &Weak<Shared<J, M>>,
    name: &'static str,
    help: &'static str,
    read: fn(&Shared<J, M>) -> Option<f64>,
) {
    let (role, node, meter) = (metrics.role(), node.clone(), metrics::meter());
    let gauge = meter.f64_observable_gauge(name).with_description(help);
    gauge
        .with_callback(move |instrument| {
            if let Some(value) = node.upgrade().and_then(|node| read(&node)) {
                instrument.observe(value, std::slice::from_ref(&role));
            }
        })
        .build();
}
