//! Health of a server: the gRPC health service, and `/livez` and `/readyz` for probes over HTTP.

use std::collections::BTreeMap;
use std::future::pending;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use c3_types::Stage;
use serde::Serialize;
use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::Readiness;
use crate::readiness::Phase;

/// Health of the stages whose nodes a server calls.
#[derive(Clone, Debug)]
pub struct StageHealth {
    /// Stages that have no ready node.
    pub unready: watch::Receiver<Vec<Stage>>,
    /// gRPC health services, each with the stages that it needs.
    pub services: &'static [(&'static str, &'static [Stage])],
}

impl StageHealth {
    /// Waits until the unready stages change.
    async fn changed(&mut self) {
        if self.unready.changed().await.is_err() {
            // The sender is gone, so nothing changes any more.
            pending().await
        }
    }
}

/// gRPC health of the server as a whole (the empty name), of the server's own service, and of the services that need
/// stages.
pub(crate) struct Health {
    pub(crate) reporter: HealthReporter,
    names: [&'static str; 2],
    stages: Option<StageHealth>,
}

impl Health {
    pub(crate) async fn new(service_name: &'static str, stages: Option<StageHealth>) -> Self {
        let mut health = Self { reporter: HealthReporter::new(), names: ["", service_name], stages };
        health.set(ServingStatus::NotServing).await;
        health
    }

    /// Reports `status` for the server and its services. A service that needs a stage without a ready node is always
    /// reported as not serving.
    async fn set(&mut self, status: ServingStatus) {
        for name in self.names {
            self.reporter.set_service_status(name, status).await;
        }
        let Some(StageHealth { unready, services }) = &mut self.stages else { return };
        let unready = unready.borrow_and_update().clone();
        for (name, needed) in *services {
            let is_served = !needed.iter().any(|stage| unready.contains(stage));
            let status = if is_served { status } else { ServingStatus::NotServing };
            self.reporter.set_service_status(*name, status).await;
        }
    }

    /// Reports each change of the server's phase and of its stages, until the server shuts down.
    pub(crate) async fn follow(&mut self, readiness: &Readiness) {
        let mut phases = readiness.subscribe();
        loop {
            let phase = *phases.borrow_and_update();
            match phase {
                Phase::Loading | Phase::Stalled => self.set(ServingStatus::NotServing).await,
                Phase::Ready => self.set(ServingStatus::Serving).await,
                Phase::ShutdownAnnounced | Phase::Draining | Phase::Ended => return,
            }
            let stages_changed = async {
                match &mut self.stages {
                    Some(stages) => stages.changed().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                changed = phases.changed() => if changed.is_err() { return },
                () = stages_changed => {}
            }
        }
    }

    /// Reports that the server no longer serves, and ends health watch streams, which would delay the drain.
    pub(crate) async fn close(&mut self) {
        self.set(ServingStatus::NotServing).await;
        for name in self.names {
            self.reporter.clear_service_status(name).await;
        }
        for (name, _) in self.stages.as_ref().map_or(&[][..], |stages| stages.services) {
            self.reporter.clear_service_status(name).await;
        }
    }
}

/// Body of `/readyz`.
#[derive(Serialize)]
struct ReadyReport {
    ready: bool,
    /// Reason that the server itself does not serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// For each stage that the server calls, whether one of its nodes is ready.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    stages: BTreeMap<String, bool>,
}

/// Returns the routes of the probes. `/livez` always answers 200. `/readyz` answers 200 or 503, with a [`ReadyReport`].
pub(crate) fn routes(readiness: Readiness, stages: Option<StageHealth>) -> Router {
    let ready = Router::new().route("/readyz", get(readyz)).with_state((readiness, stages));
    ready.route("/livez", get(async || "ok\n"))
}

async fn readyz(State((readiness, stages)): State<(Readiness, Option<StageHealth>)>) -> impl IntoResponse {
    let problem = readiness.check_probe().err().map(|rejection| rejection.to_string());
    let stages = stages.map(|stages| {
        let unready = stages.unready.borrow();
        Stage::ALL.map(|stage| (stage.to_string(), !unready.contains(&stage)))
    });
    let stages = BTreeMap::from_iter(stages.into_iter().flatten());
    let ready = problem.is_none() && stages.values().all(|&ready| ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let report = serde_json::to_string(&ReadyReport { ready, problem, stages });
    let report = report.expect("booleans, strings and maps with string keys are valid JSON");
    (status, [(CONTENT_TYPE, "application/json")], report + "\n")
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, HttpBody};
    use axum::extract::Request;
    use tower::ServiceExt;

    use super::*;

    async fn probe(routes: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = routes.clone().oneshot(request).await.unwrap();
        let (status, mut body) = (response.status(), response.into_body());
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await;
        let bytes = frame.map(|frame| frame.unwrap().into_data().unwrap()).unwrap_or_default();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_over_http_names_the_stage_that_is_missing() {
        let (unready, receiver) = watch::channel(Vec::new());
        let (readiness, stages) = (Readiness::default(), StageHealth { unready: receiver, services: &[] });
        let (gateway, node) = (routes(readiness.clone(), Some(stages)), routes(readiness.clone(), None));
        assert_eq!(probe(&node, "/livez").await.0, StatusCode::OK);
        let (status, report) = probe(&node, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(report.contains("loading"), "{report}");
        readiness.set_ready();
        assert_eq!(probe(&node, "/readyz").await, (StatusCode::OK, "{\"ready\":true}\n".to_owned()));
        assert_eq!(probe(&gateway, "/readyz").await.0, StatusCode::OK);
        unready.send_replace(vec![Stage::Decoder]);
        let (status, report) = probe(&gateway, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(report, "{\"ready\":false,\"stages\":{\"compressor\":true,\"decoder\":false}}\n");
    }
}
