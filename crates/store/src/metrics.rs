//! Metrics of the cache tiers and of garbage collection.

use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

use c3_types::SweepSummary;

/// Bucket bounds of a tier's lookup, in seconds: from a lookup in memory to a slow cloud.
const TIER_SECONDS: [f64; 12] =
    [0.000_001, 0.000_01, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 2.5, 30.0];

/// The store's instruments.
#[derive(Clone, Debug)]
pub struct Metrics {
    role: &'static str,
    tier_seconds: Histogram<f64>,
    sweeps: Counter<u64>,
    sweep_seconds: Counter<f64>,
    swept: Counter<u64>,
}

/// A place where shards are looked up.
#[derive(Clone, Copy, Debug)]
pub enum Tier {
    Memory,
    Redis,
    Store,
}

/// The result of a lookup in a tier.
#[derive(Clone, Copy, Debug)]
pub enum Lookup {
    Hit,
    Miss,
    /// The tier did not answer, or its value failed a check.
    Failed,
}

impl Metrics {
    /// Creates the instruments; every sample carries `role` as a label.
    pub fn new(meter: &Meter, role: &'static str) -> Self {
        let counter = |name, what| meter.u64_counter(name).with_description(what).build();
        let histogram = meter
            .f64_histogram("c3_cache_lookup_seconds")
            .with_description("Seconds of a shard lookup, by tier and outcome (hit, miss, failed)")
            .with_boundaries(TIER_SECONDS.to_vec());
        Self {
            role,
            tier_seconds: histogram.build(),
            sweeps: counter("c3_gc_runs", "Garbage collections, by outcome"),
            sweep_seconds: meter
                .f64_counter("c3_gc_seconds")
                .with_description("Seconds spent in garbage collection")
                .build(),
            swept: counter(
                "c3_gc_items",
                "Items that garbage collection handled, by kind: objects scheduled and removed, bytes removed, documents \
                 expired and packed",
            ),
        }
    }

    /// Records a lookup in a tier, which began at `start`.
    pub fn lookup(&self, tier: Tier, outcome: Lookup, start: Instant) {
        let tier = match tier {
            Tier::Memory => "memory",
            Tier::Redis => "redis",
            Tier::Store => "store",
        };
        let outcome = match outcome {
            Lookup::Hit => "hit",
            Lookup::Miss => "miss",
            Lookup::Failed => "failed",
        };
        let labels = [self.role(), KeyValue::new("tier", tier), KeyValue::new("outcome", outcome)];
        self.tier_seconds.record(start.elapsed().as_secs_f64(), &labels);
    }

    /// Records a garbage collection; `None` if it failed.
    pub fn sweep(&self, took: Duration, swept: Option<&SweepSummary>) {
        let outcome = if swept.is_some() { "ok" } else { "failed" };
        self.sweeps.add(1, &[self.role(), KeyValue::new("outcome", outcome)]);
        self.sweep_seconds.add(took.as_secs_f64(), &[self.role()]);
        let Some(swept) = swept else { return };
        let items = [
            ("pending", swept.pending_deletes),
            ("removed", swept.removed),
            ("removed_bytes", swept.removed_bytes),
            ("expired", swept.expired),
            ("packed", swept.packed),
        ];
        for (kind, count) in items {
            self.swept.add(count, &[self.role(), KeyValue::new("kind", kind)]);
        }
    }

    fn role(&self) -> KeyValue {
        KeyValue::new("role", self.role)
    }
}
