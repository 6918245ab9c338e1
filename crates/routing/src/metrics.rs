//! Metrics of the nodes and of the calls that a gateway makes on them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use c3_server::error::code_name;
use c3_server::{ErrorKind, metrics};
use c3_types::Stage;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Counter};
use tonic::Code;

use crate::backlog::{StageLoad, WaitingTokens};
use crate::breaker::BreakerState;
use crate::discovery::Registry;
use crate::node::Node;

/// Instruments of routing.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    role: &'static str,
    server: metrics::Metrics,
    call_duration: metrics::Durations,
    retries: Counter<u64>,
}

/// A finished attempt of a stage call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndedCall<'a> {
    pub(crate) node: &'a Node,
    pub(crate) method: &'static str,
    pub(crate) duration: Duration,
    /// Status that the node sent; `None` if it sent none.
    pub(crate) code: Option<Code>,
    /// `None` if the attempt succeeded.
    pub(crate) error: Option<ErrorKind>,
}

impl Metrics {
    /// Registers the instruments. Each sample is labelled with `role`.
    pub(crate) fn new(role: &'static str, registry: &Arc<Registry>, waiting: &WaitingTokens) -> Self {
        observe_nodes(role, registry);
        observe_stages(role, registry, waiting);
        let (meter, waiting) = (metrics::meter(), waiting.clone());
        meter
            .u64_observable_gauge("c3_waiting_tokens")
            .with_description("Text tokens of stage calls that wait for a node")
            .with_callback(move |gauge| {
                gauge.observe(waiting.total(), &[KeyValue::new("role", role)]);
            })
            .build();
        let help = "Attempts of stage calls after a failed one, by stage and error kind of the failed attempt";
        Self {
            role,
            server: metrics::Metrics::new(role),
            call_duration: metrics::Durations::new(
                "rpc_client_call_duration_seconds",
                "Duration of attempts of stage calls",
            ),
            retries: meter.u64_counter("c3_retries").with_description(help).build(),
        }
    }

    /// Records how long a call waited for a node.
    pub(crate) fn node_wait(&self, method: &'static str, wait: Duration) {
        let operation = match method {
            "Compress" => "compress",
            "Verify" => "verify",
            _ => "decode",
        };
        self.server.queue_wait(operation, wait);
    }

    /// Counts an attempt that follows a failed one.
    pub(crate) fn retry(&self, stage: Stage, reason: ErrorKind) {
        let (stage, reason) = (stage.to_string(), reason.as_str());
        let labels = [("role", self.role.to_owned()), ("stage", stage), ("reason", reason.to_owned())];
        self.retries.add(1, &labels.map(|(label, value)| KeyValue::new(label, value)));
    }

    /// Records an attempt that ended. The histogram has no label for the node, because it would have many series for
    /// each node.
    pub(crate) fn node_call(&self, call: EndedCall<'_>) {
        let EndedCall { node, method, duration, code, error } = call;
        node.count_call(method, error);
        let mut labels = vec![
            KeyValue::new("role", self.role),
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", format!("{}/{method}", node.service())),
        ];
        labels.extend(code.map(|code| KeyValue::new("rpc.response.status_code", code_name(code))));
        labels.extend(error.map(|kind| KeyValue::new("error.type", kind.as_str())));
        self.call_duration.record(duration.as_secs_f64(), &labels);
    }
}

/// A sample of a node: the value, and the labels in addition to role, stage and node.
type Sample = (u64, Vec<KeyValue>);

/// Registers the instruments that are labelled with a node. Their values are read from the nodes at each scrape. The
/// series of a removed node therefore end, and changing addresses do not accumulate.
fn observe_nodes(role: &'static str, registry: &Arc<Registry>) {
    let meter = metrics::meter();
    let gauge = |name, help, read: fn(&Node) -> Vec<Sample>| {
        let gauge = meter.u64_observable_gauge(name).with_description(help);
        gauge.with_callback(observer(role, Arc::downgrade(registry), read)).build();
    };
    gauge("c3_node_ready", "1 if the node takes calls, else 0", |node| vec![(node.is_ready().into(), vec![])]);
    gauge("c3_node_calls_in_flight", "Calls of this gateway in flight on the node", |node| {
        vec![(node.load().calls as u64, vec![])]
    });
    gauge("c3_node_breaker_state", "1 for the state of the node's circuit breaker, 0 for other states", |node| {
        let now = node.breaker_state();
        let states =
            [("closed", BreakerState::Closed), ("open", BreakerState::Open), ("half_open", BreakerState::HalfOpen)];
        Vec::from(states.map(|(name, state)| (u64::from(state == now), vec![KeyValue::new("state", name)])))
    });
    meter
        .u64_observable_counter("c3_node_calls")
        .with_description("Attempts of stage calls on the node, by method and outcome (ok, or the error kind)")
        .with_callback(observer(role, Arc::downgrade(registry), |node| {
            let labels = |method, error: Option<_>| {
                vec![KeyValue::new("method", method), KeyValue::new("outcome", error.unwrap_or("ok"))]
            };
            let counts = node.ended_calls().into_iter();
            counts.map(|((method, error), calls)| (calls, labels(method, error))).collect()
        }))
        .build();
}

/// A sample of a stage: the value, and the label in addition to role, stage and cascade.
type StageSample = (f64, Option<KeyValue>);

/// Registers the gauges of each stage of each cascade. Their values are computed at each scrape.
fn observe_stages(role: &'static str, registry: &Arc<Registry>, waiting: &WaitingTokens) {
    let gauge = |name, help, read: fn(&StageLoad) -> Vec<StageSample>| {
        let (registry, waiting, meter) = (Arc::downgrade(registry), waiting.clone(), metrics::meter());
        let gauge = meter.f64_observable_gauge(name).with_description(help);
        gauge
            .with_callback(move |instrument| {
                let nodes = registry.upgrade().map(|registry| registry.nodes()).unwrap_or_default();
                for load in StageLoad::of_all(&nodes, &waiting) {
                    let labels = [
                        KeyValue::new("role", role),
                        KeyValue::new("stage", load.stage.to_string()),
                        KeyValue::new("cascade", load.cascade.clone()),
                    ];
                    for (value, label) in read(&load) {
                        instrument.observe(value, &Vec::from_iter(labels.iter().cloned().chain(label)));
                    }
                }
            })
            .build();
    };
    let help = "Seconds that one node would need for the work that waits, by place (nodes, gateway, upcoming)";
    gauge("c3_stage_backlog_seconds", help, |load| {
        let at = |queue| Some(KeyValue::new("queue", queue));
        vec![
            (load.node_seconds, at("nodes")),
            (load.gateway_seconds, at("gateway")),
            (load.upcoming_seconds, at("upcoming")),
        ]
    });
    let help = "Sum of the shares of time in which the ready nodes compute";
    gauge("c3_stage_busy_nodes", help, |load| vec![(load.busy_nodes, None)]);
    gauge("c3_stage_ready_nodes", "Ready nodes", |load| vec![(load.ready_nodes as f64, None)]);
    let help = "Age of the oldest job that waits at a node";
    gauge("c3_stage_oldest_job_age_seconds", help, |load| vec![(load.oldest_job_seconds, None)]);
}

fn observer(
    role: &'static str,
    registry: Weak<Registry>,
    read: fn(&Node) -> Vec<Sample>,
) -> impl Fn(&dyn AsyncInstrument<u64>) {
    move |instrument| {
        let nodes = registry.upgrade().map(|registry| registry.nodes()).unwrap_or_default();
        for node in nodes {
            for (value, mut labels) in read(&node) {
                labels.push(KeyValue::new("role", role));
                labels.push(KeyValue::new("stage", node.stage.to_string()));
                labels.push(KeyValue::new("node", node.address.clone()));
                instrument.observe(value, &labels);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use c3_tls::Credentials;

    use super::*;

    #[tokio::test]
    async fn the_series_of_a_node_show_its_state_and_end_when_it_leaves() {
        let registry = Arc::new(Registry::new(&[], &["127.0.0.1:1".to_owned()], Credentials::default()).unwrap());
        let metrics = Metrics::new("routing-test", &registry, &WaitingTokens::default());
        let node = registry.nodes().remove(0);
        let (duration, error) = (Duration::from_millis(3), Some(ErrorKind::Unavailable));
        metrics.node_call(EndedCall { node: &node, method: "Decode", duration, code: None, error });
        node.eject("its answers are wrong");
        let page = || metrics::render().unwrap();
        let labels = r#"role="routing-test",stage="decoder""#;
        for expected in [
            format!(r#"c3_node_ready{{node="127.0.0.1:1",{labels}}} 0"#),
            format!(r#"c3_node_breaker_state{{node="127.0.0.1:1",{labels},state="open"}} 1"#),
            format!(r#"c3_node_breaker_state{{node="127.0.0.1:1",{labels},state="closed"}} 0"#),
            format!(r#"c3_node_calls_total{{method="Decode",node="127.0.0.1:1",outcome="unavailable",{labels}}} 1"#),
        ] {
            assert!(page().contains(&expected), "{expected} in\n{}", page());
        }
        drop((node, registry));
        assert!(!page().contains(labels));
    }
}
