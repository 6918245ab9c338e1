//! Load of a gateway: readings of its nodes and metrics, and rates between two readings.

use std::time::Instant;

use c3_client::{Client, pb};
use serde::Serialize;

use crate::error::CliError;
use crate::metrics::Samples;

/// Tiers in which a gateway looks up shards, in this order.
const TIERS: [&str; 3] = ["memory", "redis", "store"];
const LOOKUPS: &str = "c3_cache_lookup_duration_seconds_count";
const CALLS: &str = "rpc_server_call_duration_seconds_count";

/// State of a gateway at one moment.
pub(super) struct Reading {
    taken: Instant,
    nodes: Vec<pb::Node>,
    /// Empty if the API key does not give access to the metrics.
    samples: Samples,
}

/// Load between two readings. Rates are per second.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Frame {
    /// Calls of clients.
    pub(super) calls: f64,
    /// Calls that failed.
    pub(super) errors: f64,
    pub(super) calls_in_flight: f64,
    /// Text tokens that clients wrote and read.
    pub(super) tokens_in: f64,
    pub(super) tokens_out: f64,
    pub(super) caches: Vec<Cache>,
    pub(super) stages: [Stage; 2],
    pub(super) nodes: Vec<Node>,
}

/// Lookups in a cache tier per second.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Cache {
    pub(super) tier: &'static str,
    pub(super) hits: f64,
    pub(super) lookups: f64,
}

/// Load of a stage.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Stage {
    pub(super) stage: &'static str,
    pub(super) ready: usize,
    pub(super) nodes: usize,
    /// Mean busy share of the ready nodes, 0 to 1.
    pub(super) busy_share: f64,
    /// Work in seconds of one node: queued and running on nodes, waiting in the gateway, and upcoming.
    pub(super) backlog_seconds: f64,
    pub(super) queued_tokens: u64,
    /// Text tokens computed.
    pub(super) tokens: f64,
}

/// Load of a node.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Node {
    pub(super) stage: &'static str,
    pub(super) address: String,
    pub(super) ready: bool,
    pub(super) problem: String,
    pub(super) busy_share: f64,
    pub(super) backlog_seconds: f64,
    pub(super) queued_tokens: u64,
    pub(super) calls_in_flight: u32,
    pub(super) tokens: f64,
}

impl Reading {
    pub(super) async fn take(client: &Client) -> Result<Self, CliError> {
        let nodes = client.nodes().await?;
        let samples = match client.metrics().await {
            Ok(page) => Samples::parse(&page.text),
            Err(error) => match error.code() {
                Some(tonic::Code::Unauthenticated | tonic::Code::PermissionDenied) => Samples::default(),
                _ => return Err(error.into()),
            },
        };
        Ok(Self { taken: Instant::now(), nodes, samples })
    }
}

impl Frame {
    /// Returns the load between two readings. Both may be the same; all rates are then 0.
    pub(super) fn between(old: &Reading, new: &Reading) -> Self {
        let seconds = new.taken.duration_since(old.taken).as_secs_f64().max(0.001);
        let rate = |name: &str, labels: &[(&str, &str)]| {
            let count = |reading: &Reading| reading.samples.sum(name, labels).unwrap_or_default();
            (count(new) - count(old)).max(0.0) / seconds
        };
        // The nodes of `c3 serve` share a registry with the gateway.
        let gateway = [("role", "gateway")];
        let calls = rate(CALLS, &gateway);
        let failed = |reading: &Reading| reading.samples.by_label(CALLS, "error_type").into_values().sum::<f64>();
        let cache = |tier| Cache {
            tier,
            hits: rate(LOOKUPS, &[("tier", tier), ("outcome", "hit")]),
            lookups: rate(LOOKUPS, &[("tier", tier)]),
        };
        let has_tier = |tier: &&'static str| new.samples.sum(LOOKUPS, &[("tier", tier)]).is_some();
        let nodes = Vec::from_iter(new.nodes.iter().map(|node| {
            let before = old.nodes.iter().find(|before| before.address == node.address && before.stage == node.stage);
            Node::between(before, node, seconds)
        }));
        Self {
            calls,
            errors: (failed(new) - failed(old)).max(0.0) / seconds,
            calls_in_flight: new.samples.sum("c3_calls_in_flight", &gateway).unwrap_or_default(),
            tokens_in: rate("c3_text_tokens_total", &[("direction", "in")]),
            tokens_out: rate("c3_text_tokens_total", &[("direction", "out")]),
            caches: TIERS.into_iter().filter(has_tier).map(cache).collect(),
            stages: ["compressor", "decoder"].map(|stage| Stage::of(stage, &nodes, &new.samples)),
            nodes,
        }
    }
}

impl Node {
    fn between(old: Option<&pb::Node>, new: &pb::Node, seconds: f64) -> Self {
        let load = new.description.as_ref().and_then(|description| description.load).unwrap_or_default();
        let count = |node: &pb::Node| {
            let counters = node.description.as_ref().and_then(|description| description.counters);
            counters.map_or(0, |it| it.tokens_compressed + it.tokens_verified + it.tokens_decoded)
        };
        let tokens = old.map_or(0, |old| count(new).saturating_sub(count(old)));
        Self {
            stage: if new.stage() == pb::Stage::Decoder { "decoder" } else { "compressor" },
            address: new.address.clone(),
            ready: new.state() == pb::NodeState::Ready,
            problem: new.problem.clone(),
            busy_share: load.busy_share,
            backlog_seconds: load.backlog_seconds,
            queued_tokens: load.queued_tokens,
            calls_in_flight: new.calls_in_flight,
            tokens: tokens as f64 / seconds,
        }
    }
}

impl Stage {
    fn of(stage: &'static str, nodes: &[Node], samples: &Samples) -> Self {
        let nodes = Vec::from_iter(nodes.iter().filter(|node| node.stage == stage));
        let ready = nodes.iter().filter(|node| node.ready).count();
        let busy: f64 = nodes.iter().filter(|node| node.ready).map(|node| node.busy_share).sum();
        let own: f64 = nodes.iter().map(|node| node.backlog_seconds).sum();
        let waiting = ["gateway", "upcoming"].map(|queue| {
            samples.sum("c3_stage_backlog_seconds", &[("stage", stage), ("queue", queue)]).unwrap_or_default()
        });
        Self {
            stage,
            ready,
            nodes: nodes.len(),
            busy_share: if ready == 0 { 0.0 } else { busy / ready as f64 },
            backlog_seconds: own + waiting.iter().sum::<f64>(),
            queued_tokens: nodes.iter().map(|node| node.queued_tokens).sum(),
            tokens: nodes.iter().map(|node| node.tokens).sum(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    fn reading(taken: Instant, tokens: u64, page: &str) -> Reading {
        let description = pb::DescribeResponse {
            load: Some(pb::NodeLoad { busy_share: 0.5, backlog_seconds: 2.0, queued_tokens: 7, ..Default::default() }),
            counters: Some(pb::NodeCounters { tokens_verified: tokens, ..Default::default() }),
            ..Default::default()
        };
        let node = pb::Node {
            address: "http://n:1".to_owned(),
            stage: pb::Stage::Decoder.into(),
            state: pb::NodeState::Ready.into(),
            description: Some(description),
            ..Default::default()
        };
        Reading { taken, nodes: vec![node], samples: Samples::parse(page) }
    }

    /// Returns a frame with known rates.
    pub(in super::super) fn frame() -> Frame {
        let now = Instant::now();
        let old = "rpc_server_call_duration_seconds_count{role=\"gateway\"} 10\n\
                   c3_cache_lookup_duration_seconds_count{tier=\"memory\",outcome=\"hit\"} 4";
        let new = "rpc_server_call_duration_seconds_count{role=\"gateway\"} 30\n\
                   c3_stage_backlog_seconds{stage=\"decoder\",queue=\"gateway\"} 1\n\
                   c3_cache_lookup_duration_seconds_count{tier=\"memory\",outcome=\"hit\"} 8\n\
                   c3_cache_lookup_duration_seconds_count{tier=\"memory\",outcome=\"miss\"} 4";
        Frame::between(&reading(now, 100, old), &reading(now + Duration::from_secs(2), 500, new))
    }

    #[test]
    fn rates_are_per_second() {
        let frame = frame();
        assert_eq!((frame.calls, frame.errors), (10.0, 0.0));
        assert_eq!((frame.caches[0].hits, frame.caches[0].lookups), (2.0, 4.0));
        let [compressor, decoder] = &frame.stages;
        assert_eq!((compressor.ready, compressor.nodes), (0, 0));
        assert_eq!((decoder.ready, decoder.queued_tokens, decoder.tokens), (1, 7, 200.0));
        assert_eq!((decoder.busy_share, decoder.backlog_seconds), (0.5, 3.0));
    }
}
