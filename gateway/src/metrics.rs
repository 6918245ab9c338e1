//! The gateway's numbers, beside those that every role has.

use std::time::{Duration, Instant};

use c3_proto::Stage;
use c3_server::Kind;
use c3_server::metrics::{self, Metrics as Shared};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram};

use crate::ROLE;
use crate::store::sweep::Swept;

/// The gateway's instruments.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Corrections, and what the server itself counts.
    pub(crate) shared: Shared,
    shards: Counter<u64>,
    bytes: Counter<u64>,
    tokens: Counter<u64>,
    node_calls: Counter<u64>,
    sweeps: Counter<u64>,
    sweep_seconds: Counter<f64>,
    swept: Counter<u64>,
    tier_seconds: Histogram<f64>,
}

/// Bounds of a tier's seconds: from a look into memory to a cloud that is slow.
const TIER_SECONDS: [f64; 12] =
    [0.000_001, 0.000_01, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 2.5, 30.0];

/// Where a shard is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tier {
    Memory,
    Redis,
    Store,
}

impl Tier {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::Store => "store",
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    Hit,
    Miss,
    /// The tier did not answer, or not with what was written.
    Failed,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Failed => "failed",
        }
    }
}

/// Which way a text goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    In,
    Out,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

impl Metrics {
    /// The instruments.
    pub(crate) fn new() -> Self {
        let meter = metrics::meter();
        let counter = |name, what| meter.u64_counter(name).with_description(what).build();
        Self {
            shared: Shared::new(ROLE),
            shards: counter(
                "c3_shards",
                "Shards written, by whether the store had them (reused, compressed)",
            ),
            bytes: counter("c3_text_bytes", "Bytes of text that came in and went out"),
            tokens: counter("c3_text_tokens", "Text tokens that came in and went out"),
            node_calls: counter("c3_node_calls", "Calls to nodes, by stage, method and outcome"),
            sweeps: counter("c3_sweeps", "Sweeps of the store, by outcome"),
            sweep_seconds: meter
                .f64_counter("c3_sweep_seconds")
                .with_description("Time that sweeps took")
                .build(),
            swept: counter(
                "c3_swept",
                "What sweeps did: objects condemned, objects and bytes removed, documents expired and packed",
            ),
            tier_seconds: meter
                .f64_histogram("c3_tier_seconds")
                .with_description(
                    "Seconds that a tier took to look for a shard, by outcome (hit, miss, failed)",
                )
                .with_boundaries(TIER_SECONDS.to_vec())
                .build(),
        }
    }

    /// A shard was written.
    pub(crate) fn shard(&self, reused: bool) {
        let outcome = if reused { "reused" } else { "compressed" };
        self.shards.add(1, &[role(), KeyValue::new("outcome", outcome)]);
    }

    /// A tier was asked for a shard, from `begun` until now.
    pub(crate) fn tier(&self, tier: Tier, outcome: Outcome, begun: Instant) {
        let labels = [role(), KeyValue::new("tier", tier.name()), KeyValue::new("outcome", outcome.name())];
        self.tier_seconds.record(begun.elapsed().as_secs_f64(), &labels);
    }

    /// Text came in or went out.
    pub(crate) fn text(&self, direction: Direction, bytes: u64, tokens: u64) {
        let labels = [role(), KeyValue::new("direction", direction.name())];
        self.bytes.add(bytes, &labels);
        self.tokens.add(tokens, &labels);
    }

    /// A sweep ended; `None` where it failed.
    pub(crate) fn sweep(&self, took: Duration, swept: Option<&Swept>) {
        let outcome = if swept.is_some() { "ok" } else { "failed" };
        self.sweeps.add(1, &[role(), KeyValue::new("outcome", outcome)]);
        self.sweep_seconds.add(took.as_secs_f64(), &[role()]);
        let Some(swept) = swept else { return };
        let done = [
            ("condemned", swept.condemned),
            ("removed", swept.removed),
            ("removed_bytes", swept.removed_bytes),
            ("expired", swept.expired),
            ("packed", swept.packed),
        ];
        for (what, count) in done {
            self.swept.add(count, &[role(), KeyValue::new("what", what)]);
        }
    }

    /// A call to a node ended.
    pub(crate) fn node_call(&self, stage: Stage, method: &'static str, failed: Option<Kind>) {
        let outcome = failed.map_or("ok", Kind::name);
        let labels = [
            role(),
            KeyValue::new("stage", stage.to_string()),
            KeyValue::new("method", method),
            KeyValue::new("outcome", outcome),
        ];
        self.node_calls.add(1, &labels);
    }
}

fn role() -> KeyValue {
    KeyValue::new("role", ROLE)
}
