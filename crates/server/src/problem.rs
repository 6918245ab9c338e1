//! Problem details (RFC 9457), which are the bodies of error responses over HTTP.

use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};

/// Media type of problem details.
pub const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Prefix of the `type` of a problem. The name of the error kind follows, as in metrics and logs.
const TYPE_PREFIX: &str = "urn:c3serve:problem:";

/// The part of problem details that depends on the error kind alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProblemKind {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) status: StatusCode,
}

/// Problem details of a failed request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    /// URI of the error kind: `urn:c3serve:problem:KIND`. Programs compare it.
    #[serde(rename = "type")]
    type_uri: String,
    title: &'static str,
    status: u16,
    detail: String,
    /// Seconds after which a retry may succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    /// Members of this kind of problem, such as the size of a document whose range does not exist.
    #[serde(flatten)]
    members: Map<String, Value>,
}

impl Problem {
    /// Creates the details of an error kind. `detail` must be fit for callers. `retry_after` is in seconds.
    pub(crate) fn new(kind: ProblemKind, retry_after: Option<u64>, detail: String) -> Self {
        let ProblemKind { name, title, status } = kind;
        let type_uri = format!("{TYPE_PREFIX}{name}");
        Self { type_uri, title, status: status.as_u16(), detail, retry_after, members: Map::new() }
    }

    /// Adds a member.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Removes the time to retry, because the server has already retried for as long as its settings allow.
    pub(crate) fn without_retry(mut self) -> Self {
        self.retry_after = None;
        self
    }

    /// Returns the status code.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).expect("the status comes from the map of error kinds")
    }

    /// Returns the explanation for the caller.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Returns the details as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and JSON values are valid JSON")
    }

    /// Returns the response, with `Retry-After` if a retry may succeed.
    pub fn into_response(self) -> Response<String> {
        let mut response = Response::new(self.to_json() + "\n");
        *response.status_mut() = self.status();
        response.headers_mut().insert(header::CONTENT_TYPE, PROBLEM_JSON);
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn details_say_kind_status_and_time_to_retry() {
        let problem = ErrorKind::Overloaded { retry_after_ms: 1250 }.problem("queue is full").with("waiting", 3);
        let json: Value = serde_json::from_str(&problem.to_json()).unwrap();
        assert_eq!(json["type"], "urn:c3serve:problem:overloaded");
        assert_eq!((&json["status"], &json["detail"]), (&429.into(), &"queue is full".into()));
        assert_eq!((&json["retry_after"], &json["waiting"]), (&2.into(), &3.into()));
        let response = problem.into_response();
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    }

    #[test]
    fn a_problem_that_a_retry_cannot_solve_names_no_time() {
        let lost = ErrorKind::DataLoss.problem("window 3").into_response();
        let final_refusal = ErrorKind::Unavailable.problem("no node").without_retry().into_response();
        for response in [lost, final_refusal] {
            assert!(!response.headers().contains_key(header::RETRY_AFTER) && !response.body().contains("retry"));
        }
        assert_eq!(ErrorKind::Unavailable.problem("loading").into_response().headers()[header::RETRY_AFTER], "1");
    }
}
