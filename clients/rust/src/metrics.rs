//! The metrics of a gateway, as `/metrics` serves them.

use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::BodyExt;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Code, Status};

use crate::client::Client;
use crate::error::{Error, RetryRequest};

/// Path of the metrics on every server's port.
const PATH: &str = "/metrics";

/// Metrics of a gateway at one moment.
#[derive(Clone, Debug)]
pub struct MetricsPage {
    /// Samples in Prometheus' text format.
    pub text: String,
    /// Clock of the gateway when it answered, in whole seconds; `None` if the answer has no date.
    pub date: Option<SystemTime>,
}

impl Client {
    /// Returns the metrics of the gateway that calls currently go to. With access control, the API key needs the scope
    /// `admin`. Does not retry.
    pub async fn metrics(&self) -> Result<MetricsPage, Error> {
        let page = tokio::time::timeout(self.gateways.timeouts.response, self.fetch_metrics());
        page.await.unwrap_or_else(|_| Err(refusal(Code::DeadlineExceeded, "the gateway does not answer".to_owned())))
    }

    async fn fetch_metrics(&self) -> Result<MetricsPage, Error> {
        let mut connection = self.gateways.connection();
        let broken = |error: tonic::transport::Error| Error::from(Status::from_error(Box::new(error)));
        std::future::poll_fn(|context| connection.poll_ready(context)).await.map_err(broken)?;
        let request = http::Request::get(PATH).body(Body::empty()).expect("the path is valid");
        let (head, body) = connection.call(request).await.map_err(broken)?.into_parts();
        let body: Bytes = body.collect().await.map_err(|error| Status::from_error(error.into()))?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        if head.status != http::StatusCode::OK {
            let code = match head.status {
                http::StatusCode::UNAUTHORIZED => Code::Unauthenticated,
                http::StatusCode::FORBIDDEN => Code::PermissionDenied,
                _ => Code::Unknown,
            };
            let problem = format!("{PATH} answers {}: use an API key with the scope admin", head.status);
            return Err(refusal(code, problem));
        }
        let date = head.headers.get(http::header::DATE);
        let date = date.and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        Ok(MetricsPage { text, date })
    }
}

fn refusal(code: Code, message: String) -> Error {
    Error::Call { code, message, retry: RetryRequest::None }
}
