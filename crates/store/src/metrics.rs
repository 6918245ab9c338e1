//! Metrics of the cache tiers, of the store's size and of garbage collection.

use std::path::Path;
use std::time::{Duration, Instant};

use c3_types::SweepSummary;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};
use rustix::fs::{StatVfs, statvfs};

use crate::object::Size;

/// Upper bounds of the histogram's buckets in seconds, from a lookup in memory to a read from a slow cloud.
const LOOKUP_SECONDS: [f64; 12] =
    [0.000_001, 0.000_01, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 2.5, 30.0];

/// Instruments of the store.
#[derive(Clone, Debug)]
pub struct Metrics {
    labels: Vec<KeyValue>,
    lookup_seconds: Histogram<f64>,
    objects: Gauge<u64>,
    bytes: Gauge<u64>,
    gc_runs: Counter<u64>,
    gc_seconds: Counter<f64>,
    gc_objects: Counter<u64>,
    gc_removed_bytes: Counter<u64>,
}

/// Registers the gauges of the file system that holds a store in a local folder. It is measured at each scrape.
pub fn observe_file_system(meter: &Meter, role: &'static str, folder: &Path) {
    let gauge = |name, description, bytes: fn(&StatVfs) -> u64| {
        let folder = folder.to_owned();
        let gauge = meter.u64_observable_gauge(name).with_description(description);
        gauge
            .with_callback(move |instrument| {
                // Without a measurement, the series has a gap.
                if let Ok(measured) = statvfs(&folder) {
                    instrument.observe(bytes(&measured), &[KeyValue::new("role", role)]);
                }
            })
            .build();
    };
    gauge("c3_store_free_bytes", "Free bytes of the file system that holds the store", |file_system| {
        file_system.f_bavail * file_system.f_frsize
    });
    gauge("c3_store_capacity_bytes", "Size of the file system that holds the store", |file_system| {
        file_system.f_blocks * file_system.f_frsize
    });
}

/// A tier in which shards are looked up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tier {
    Memory,
    Redis,
    Store,
}

/// Result of a lookup in a tier.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lookup {
    Hit,
    Miss,
    /// The tier failed, or was skipped after a failure. An invalid value counts as a failure in the store, but as a
    /// miss in Redis.
    Failed,
}

impl Metrics {
    /// Creates the instruments. Every sample has the label `role`.
    pub fn new(meter: &Meter, role: &'static str) -> Self {
        let counter = |name, description| meter.u64_counter(name).with_description(description).build();
        let gauge = |name, description| meter.u64_gauge(name).with_description(description).build();
        let lookup_seconds = meter
            .f64_histogram("c3_cache_lookup_duration_seconds")
            .with_description(
                "Duration of shard lookups, by tier (memory, redis, store) and outcome (hit, miss, failed)",
            )
            .with_boundaries(LOOKUP_SECONDS.to_vec());
        let gc_seconds =
            meter.f64_counter("c3_gc_duration_seconds").with_description("Time spent in garbage collection");
        Self {
            labels: vec![KeyValue::new("role", role)],
            lookup_seconds: lookup_seconds.build(),
            objects: gauge("c3_store_objects", "Objects in the store when it was last measured"),
            bytes: gauge("c3_store_bytes", "Bytes of all objects in the store when it was last measured"),
            gc_runs: counter("c3_gc_runs", "Garbage collection runs, by outcome (ok, failed)"),
            gc_seconds: gc_seconds.build(),
            gc_objects: counter(
                "c3_gc_objects",
                "Objects and documents handled by garbage collection, by action (scheduled, removed, expired, packed)",
            ),
            gc_removed_bytes: counter("c3_gc_removed_bytes", "Bytes freed by garbage collection"),
        }
    }

    /// Returns the same instruments with one more label on each sample, such as the tenant.
    pub fn with_label(&self, label: KeyValue) -> Self {
        Self { labels: [self.labels.as_slice(), &[label]].concat(), ..self.clone() }
    }

    /// Records a lookup in a tier that began at `start` and ends now.
    pub(crate) fn lookup(&self, tier: Tier, outcome: Lookup, start: Instant) {
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
        let labels = self.labels([KeyValue::new("tier", tier), KeyValue::new("outcome", outcome)]);
        self.lookup_seconds.record(start.elapsed().as_secs_f64(), &labels);
    }

    /// Records the number of all objects and their size in bytes.
    pub fn size(&self, size: Size) {
        self.objects.record(size.objects, &self.labels);
        self.bytes.record(size.bytes, &self.labels);
    }

    /// Records a run of garbage collection that took `elapsed`. `summary` is `None` if the run failed.
    pub fn sweep(&self, elapsed: Duration, summary: Option<&SweepSummary>) {
        let outcome = if summary.is_some() { "ok" } else { "failed" };
        self.gc_runs.add(1, &self.labels([KeyValue::new("outcome", outcome)]));
        self.gc_seconds.add(elapsed.as_secs_f64(), &self.labels);
        let Some(summary) = summary else { return };
        let counts = [
            ("scheduled", summary.pending_deletes),
            ("removed", summary.removed),
            ("expired", summary.expired),
            ("packed", summary.packed),
        ];
        for (action, count) in counts {
            self.gc_objects.add(count, &self.labels([KeyValue::new("action", action)]));
        }
        self.gc_removed_bytes.add(summary.removed_bytes, &self.labels);
    }

    fn labels<const N: usize>(&self, own: [KeyValue; N]) -> Vec<KeyValue> {
        [self.labels.as_slice(), &own].concat()
    }
}
