//! Deadlines of calls. A deadline covers the response stream too; tonic's own timeout covers only the time to the
//! response headers.
//!
//! Deadlines propagate: a call that a server makes to serve another call ends soon after the deadline of that call
//! ([`crate::propagation`]).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderMap;
use tokio::task::futures::TaskLocalFuture;
use tokio::task_local;
use tokio::time::{Instant, Sleep};

use crate::rejection::Rejection;
use crate::units::TimeSpan;

task_local! {
    /// Deadline of the call that the current task works for, if it has one.
    static CURRENT: Option<Instant>;
}

/// Runs `work` under the current call's deadline. Use it only for tasks that serve this call alone: work that several
/// calls share must not end with one of them.
pub fn inherit<W: Future>(work: W) -> TaskLocalFuture<Option<Instant>, W> {
    CURRENT.scope(current(), work)
}

/// Returns the time until the current call's deadline, or `None` if the call has no deadline.
pub(crate) fn remaining() -> Option<Duration> {
    current().map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

fn current() -> Option<Instant> {
    CURRENT.try_get().ok().flatten()
}

/// Deadline of one call.
pub(crate) struct Deadline {
    timeout: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Deadline {
    /// Returns the earlier of the caller's timeout and the server's own limit, or `None` without either.
    pub(crate) fn earlier(requested: Option<Duration>, limit: Option<Duration>) -> Option<Self> {
        let timeout = requested.into_iter().chain(limit).min()?;
        Some(Self { timeout, sleep: Box::pin(tokio::time::sleep(timeout)) })
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Rejection> {
        let rejection = Rejection::DeadlineExceeded { timeout: self.timeout };
        self.sleep.as_mut().poll(cx).map(|()| rejection)
    }

    /// Runs `work` under `deadline`, or under no deadline if it is `None`.
    pub(crate) fn scope<T>(deadline: Option<&Self>, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(deadline.map(|deadline| deadline.sleep.deadline()), work)
    }
}

/// Parses `Request-Timeout`, the timeout of an HTTP request: seconds, such as `2` or `0.5`, or a number with a unit,
/// such as `250ms`. Fails if the header is malformed, since the caller would otherwise wait longer than it asked for.
pub(crate) fn request_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Rejection> {
    let Some(value) = headers.get("request-timeout") else { return Ok(None) };
    let typed = value.to_str().unwrap_or_default().trim();
    let fraction = || Duration::try_from_secs_f64(typed.parse().ok()?).ok();
    let timeout = typed.parse::<TimeSpan>().ok().map(|span| span.0).or_else(fraction);
    timeout.filter(|timeout| *timeout <= TimeSpan::MAX.0).map(Some).ok_or(Rejection::MalformedTimeout)
}

/// Parses `grpc-timeout`: at most 8 digits and a unit. A malformed header is ignored.
pub(crate) fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    const DIGITS_MAX: usize = 8;
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok().filter(|_| digits.len() <= DIGITS_MAX)?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_parsed_as_grpc_specifies() {
        let parse = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", http::HeaderValue::from_static(value));
            grpc_timeout(&headers)
        };
        assert_eq!(parse("3S"), Some(Duration::from_secs(3)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("1H"), Some(Duration::from_secs(3600)));
        for malformed in ["", "S", "3", "-3S", "123456789S", "3x"] {
            assert_eq!(parse(malformed), None, "{malformed}");
        }
    }
}
