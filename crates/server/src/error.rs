//! Error kinds and their maps to gRPC and HTTP status codes.
//!
//! Each crate has its own error type and implements [`ServiceError`] for it. No other code chooses a status code.

use std::error::Error;
use std::hash::{BuildHasher, Hasher, RandomState};

use c3_types::Invalid;
use http::StatusCode;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::problem::{Problem, ProblemKind};

/// Metadata key of a RESOURCE_EXHAUSTED status: milliseconds after which the caller may retry.
pub const RETRY_AFTER_MS: &str = "retry-after-ms";
/// Metadata key that, with the value -1, tells the caller not to retry (gRFC A6, retry pushback).
pub const RETRY_PUSHBACK_MS: &str = "grpc-retry-pushback-ms";

/// Maximum length of an error message, in bytes. gRPC sends the message in a header, where a byte may take three
/// characters. Common clients lose the status of a response whose headers exceed 8 KiB.
const MESSAGE_BYTES_MAX: usize = 2048;

/// Retry delay in milliseconds when the server is at capacity, or when a received status names no delay.
pub(crate) const RETRY_AFTER_DEFAULT_MS: u64 = 1000;

/// Seconds after which a caller may retry while the server is loading, draining, or without nodes.
const UNAVAILABLE_RETRY_AFTER_SECONDS: u64 = 1;

/// Category of an error. It decides the status code, which tells a caller how to react.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is wrong and a retry would not help.
    InvalidArgument,
    /// The requested range lies outside the document.
    OutOfRange,
    /// The request exceeds a size limit.
    TooLarge,
    /// The caller did not prove its identity.
    Unauthenticated,
    /// The caller may not do this.
    PermissionDenied,
    /// The document, name or upload does not exist.
    NotFound,
    /// A concurrent writer won.
    Conflict,
    /// A precondition of the request does not hold.
    PreconditionFailed,
    /// The format of the request's body is not supported. Only HTTP requests can have this fault.
    UnsupportedMediaType,
    /// The path does not support the request's method. Only HTTP requests can have this fault.
    MethodNotAllowed,
    /// A queue or another bounded resource is full.
    Overloaded {
        /// Milliseconds after which a retry is likely to succeed.
        retry_after_ms: u64,
    },
    /// The request or its latents are for another model.
    WrongModel,
    /// The server is loading or draining, or no node is reachable.
    Unavailable,
    /// The call exceeded its deadline.
    DeadlineExceeded,
    /// The caller cancelled the call.
    Cancelled,
    /// Stored data do not match their checksum or hash.
    DataLoss,
    /// A fault of the server. Callers see an id; the log contains the message with that id.
    Internal,
}

impl ErrorKind {
    /// Returns the gRPC status code of this kind.
    pub fn grpc_code(self) -> Code {
        match self {
            Self::InvalidArgument | Self::TooLarge | Self::UnsupportedMediaType => Code::InvalidArgument,
            Self::MethodNotAllowed => Code::Unimplemented,
            Self::OutOfRange => Code::OutOfRange,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::PermissionDenied => Code::PermissionDenied,
            Self::NotFound => Code::NotFound,
            Self::Conflict | Self::PreconditionFailed => Code::Aborted,
            Self::Overloaded { .. } => Code::ResourceExhausted,
            Self::WrongModel => Code::FailedPrecondition,
            Self::Unavailable => Code::Unavailable,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Cancelled => Code::Cancelled,
            Self::DataLoss => Code::DataLoss,
            Self::Internal => Code::Internal,
        }
    }

    /// Returns the HTTP status code of this kind.
    pub fn http_status(self) -> StatusCode {
        match self {
            Self::InvalidArgument => StatusCode::BAD_REQUEST,
            Self::OutOfRange => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Conflict | Self::WrongModel => StatusCode::CONFLICT,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Overloaded { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::Cancelled => client_closed_request(),
            Self::DataLoss | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the kind of a gRPC status code that a server sent.
    pub fn from_code(code: Code) -> Self {
        match code {
            Code::InvalidArgument | Code::Unimplemented | Code::AlreadyExists => Self::InvalidArgument,
            Code::OutOfRange => Self::OutOfRange,
            Code::Unauthenticated => Self::Unauthenticated,
            Code::PermissionDenied => Self::PermissionDenied,
            Code::NotFound => Self::NotFound,
            Code::Aborted => Self::Conflict,
            Code::ResourceExhausted => Self::Overloaded { retry_after_ms: RETRY_AFTER_DEFAULT_MS },
            Code::FailedPrecondition => Self::WrongModel,
            // Our servers never send UNKNOWN. tonic reports it if the connection breaks during a call.
            Code::Unavailable | Code::Unknown => Self::Unavailable,
            Code::DeadlineExceeded => Self::DeadlineExceeded,
            Code::Cancelled => Self::Cancelled,
            Code::DataLoss => Self::DataLoss,
            Code::Ok | Code::Internal => Self::Internal,
        }
    }

    /// Returns the kind of an HTTP status code of 400 or more that a server sent.
    pub fn from_http_status(status: StatusCode) -> Self {
        match status {
            StatusCode::RANGE_NOT_SATISFIABLE => Self::OutOfRange,
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            StatusCode::UNAUTHORIZED => Self::Unauthenticated,
            StatusCode::FORBIDDEN => Self::PermissionDenied,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::CONFLICT => Self::Conflict,
            StatusCode::PRECONDITION_FAILED => Self::PreconditionFailed,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::TOO_MANY_REQUESTS => Self::Overloaded { retry_after_ms: RETRY_AFTER_DEFAULT_MS },
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable,
            StatusCode::GATEWAY_TIMEOUT => Self::DeadlineExceeded,
            status if status == client_closed_request() => Self::Cancelled,
            status if status.is_client_error() => Self::InvalidArgument,
            _ => Self::Internal,
        }
    }

    /// Returns the kind of a status that a gRPC call returned, whether the server or the transport made it.
    pub fn from_status(status: &Status) -> Self {
        match status.code() {
            Code::ResourceExhausted => Self::Overloaded { retry_after_ms: retry_after_ms(status) },
            // Only a status made by the client's transport has a source. INTERNAL with a source means that the
            // connection closed during the call.
            Code::Internal if status.source().is_some() => Self::Unavailable,
            code => Self::from_code(code),
        }
    }

    /// Returns a gRPC status of this kind. An [`ErrorKind::Internal`] message is logged and replaced by an id.
    pub fn status(self, message: impl Into<String>) -> Status {
        let mut status = Status::new(self.grpc_code(), self.public_message(message.into()));
        if let Self::Overloaded { retry_after_ms } = self {
            status.metadata_mut().insert(RETRY_AFTER_MS, MetadataValue::from(retry_after_ms));
        }
        status
    }

    /// Returns the problem details of this kind. An [`ErrorKind::Internal`] message is logged and replaced by an id.
    pub fn problem(self, message: impl Into<String>) -> Problem {
        let retry_after = match self {
            // `Retry-After` takes whole seconds only.
            Self::Overloaded { retry_after_ms } => Some(retry_after_ms.div_ceil(1000)),
            Self::Unavailable => Some(UNAVAILABLE_RETRY_AFTER_SECONDS),
            _ => None,
        };
        let kind = ProblemKind { name: self.as_str(), title: self.title(), status: self.http_status() };
        Problem::new(kind, retry_after, self.public_message(message.into()))
    }

    /// Returns the name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::OutOfRange => "out_of_range",
            Self::TooLarge => "too_large",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::PreconditionFailed => "precondition_failed",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Overloaded { .. } => "overloaded",
            Self::WrongModel => "wrong_model",
            Self::Unavailable => "unavailable",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Cancelled => "cancelled",
            Self::DataLoss => "data_loss",
            Self::Internal => "internal",
        }
    }

    /// Returns the title of problem details.
    fn title(self) -> &'static str {
        match self {
            Self::InvalidArgument => "Invalid request",
            Self::OutOfRange => "Range outside the document",
            Self::TooLarge => "Request too large",
            Self::Unauthenticated => "Not authenticated",
            Self::PermissionDenied => "Not allowed",
            Self::NotFound => "Not found",
            Self::Conflict => "Changed by another request",
            Self::PreconditionFailed => "Precondition does not hold",
            Self::UnsupportedMediaType => "Unsupported media type",
            Self::MethodNotAllowed => "Method not allowed",
            Self::Overloaded { .. } => "Overloaded",
            Self::WrongModel => "Not supported by this model",
            Self::Unavailable => "Unavailable at the moment",
            Self::DeadlineExceeded => "Timeout exceeded",
            Self::Cancelled => "Cancelled by the caller",
            Self::DataLoss => "Stored data are damaged",
            Self::Internal => "Internal error",
        }
    }

    fn public_message(self, message: String) -> String {
        if self != Self::Internal {
            return shortened(message);
        }
        let id = format!("{:016x}", RandomState::new().build_hasher().finish());
        tracing::error!(error.id = %id, "{message}");
        format!("internal error {id}: see the server's log")
    }
}

/// An error that a call can fail with.
pub trait ServiceError: Error {
    /// Returns the kind, which decides the status code.
    fn kind(&self) -> ErrorKind;

    /// Returns whether the server has already waited and retried for as long as its settings allow. The status then
    /// asks the caller not to retry, because the caller's retries would multiply the server's retries.
    fn is_final(&self) -> bool {
        false
    }

    /// Returns the gRPC status that the caller sees.
    fn status(&self) -> Status {
        let mut status = self.kind().status(self.to_string());
        if self.is_final() {
            status.metadata_mut().insert(RETRY_PUSHBACK_MS, MetadataValue::from_static("-1"));
        }
        status
    }

    /// Adds members to the problem details that an HTTP caller sees, so that programs need not parse the message.
    fn describe(&self, problem: Problem) -> Problem {
        problem
    }

    /// Returns the problem details that an HTTP caller sees.
    fn problem(&self) -> Problem {
        let problem = self.describe(self.kind().problem(self.to_string()));
        if self.is_final() { problem.without_retry() } else { problem }
    }
}

impl ServiceError for Invalid {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }

    fn describe(&self, problem: Problem) -> Problem {
        problem.with("field", self.field)
    }
}

/// Cuts the middle out of a message that is too long. The beginning says what is wrong, and the end says what to do.
fn shortened(mut message: String) -> String {
    const CUT: &str = " … ";
    if message.len() > MESSAGE_BYTES_MAX {
        let half = (MESSAGE_BYTES_MAX - CUT.len()) / 2;
        let (start, end) = (message.floor_char_boundary(half), message.ceil_char_boundary(message.len() - half));
        message.replace_range(start..end, CUT);
    }
    message
}

/// Returns 499, nginx's status for a client that closed the connection. HTTP has no standard status for this.
fn client_closed_request() -> StatusCode {
    StatusCode::from_u16(499).expect("499 lies between 100 and 999")
}

/// Returns the name of a code as the gRPC specification spells it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn retry_after_ms(status: &Status) -> u64 {
    let value = status.metadata().get(RETRY_AFTER_MS).and_then(|value| value.to_str().ok());
    value.and_then(|digits| digits.parse().ok()).unwrap_or(RETRY_AFTER_DEFAULT_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ErrorKind; 17] = [
        ErrorKind::InvalidArgument,
        ErrorKind::OutOfRange,
        ErrorKind::TooLarge,
        ErrorKind::Unauthenticated,
        ErrorKind::PermissionDenied,
        ErrorKind::NotFound,
        ErrorKind::Conflict,
        ErrorKind::PreconditionFailed,
        ErrorKind::UnsupportedMediaType,
        ErrorKind::MethodNotAllowed,
        ErrorKind::Overloaded { retry_after_ms: 250 },
        ErrorKind::WrongModel,
        ErrorKind::Unavailable,
        ErrorKind::DeadlineExceeded,
        ErrorKind::Cancelled,
        ErrorKind::DataLoss,
        ErrorKind::Internal,
    ];

    #[test]
    fn every_kind_survives_grpc() {
        for kind in ALL {
            // gRPC has fewer codes than HTTP.
            let expected = match kind {
                ErrorKind::TooLarge | ErrorKind::UnsupportedMediaType | ErrorKind::MethodNotAllowed => {
                    ErrorKind::InvalidArgument
                }
                ErrorKind::PreconditionFailed => ErrorKind::Conflict,
                kind => kind,
            };
            assert_eq!(ErrorKind::from_status(&kind.status("reason")), expected);
        }
    }

    #[test]
    fn every_kind_survives_http_where_http_has_a_status_for_it() {
        for kind in ALL {
            let expected = match kind {
                ErrorKind::WrongModel => ErrorKind::Conflict,
                ErrorKind::DataLoss => ErrorKind::Internal,
                ErrorKind::Overloaded { .. } => ErrorKind::Overloaded { retry_after_ms: RETRY_AFTER_DEFAULT_MS },
                kind => kind,
            };
            assert_eq!(ErrorKind::from_http_status(kind.http_status()), expected);
        }
    }

    #[test]
    fn overload_names_the_time_to_retry_in_both_protocols() {
        let kind = ErrorKind::Overloaded { retry_after_ms: 1250 };
        let status = kind.status("queue is full");
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.metadata().get(RETRY_AFTER_MS).unwrap(), "1250");
        let response = kind.problem("queue is full").into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[http::header::RETRY_AFTER], "2");
    }

    #[test]
    fn long_messages_keep_their_beginning_and_end() {
        let message = format!("`{}` is not served: choose another", "ä".repeat(20_000));
        let status = ErrorKind::InvalidArgument.status(message.clone());
        let headers = status.into_http::<()>().into_parts().0.headers;
        assert!(headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>() < 8 << 10);
        let problem = ErrorKind::InvalidArgument.problem(message);
        let shortened = problem.detail();
        assert!(shortened.starts_with("`ää") && shortened.ends_with("ä` is not served: choose another"));
        assert_eq!(ErrorKind::NotFound.problem("short").detail(), "short");
    }

    #[test]
    fn internal_errors_are_opaque_and_have_ids_of_their_own() {
        let [one, other] = [(); 2].map(|()| ErrorKind::Internal.status("password"));
        assert!(!one.message().contains("password"));
        assert!(!ErrorKind::Internal.problem("password").detail().contains("password"));
        assert_ne!(one.message(), other.message());
    }

    #[test]
    fn a_broken_connection_counts_as_unavailable() {
        assert_eq!(ErrorKind::from_status(&Status::unknown("h2 protocol error")), ErrorKind::Unavailable);
    }

    #[test]
    fn an_invalid_field_is_an_invalid_argument() {
        let status = Invalid::new("ratio", "must be 8 to 80").status();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "ratio: must be 8 to 80"));
    }
}
