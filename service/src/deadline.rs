//! The layer that ends calls at their time-out, streams included: tonic's own only covers the time to the headers.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::HeaderMap;
use tokio::time::Sleep;
use tonic::Status;

use crate::{
    Kind,
    body::{Watch, watched},
};

/// Ends a call with DEADLINE_EXCEEDED after the shorter of the caller's `grpc-timeout` and the server's own bound.
pub(crate) async fn bound(State(most): State<Option<Duration>>, request: Request, next: Next) -> Response {
    let asked = grpc_timeout(request.headers());
    let Some(after) = asked.into_iter().chain(most).min() else {
        return next.run(request).await;
    };
    let mut deadline = Deadline { after, sleep: Box::pin(tokio::time::sleep(after)) };
    tokio::select! {
        // An answer that is there in time wins.
        biased;
        response = next.run(request) => watched(response, deadline),
        () = &mut deadline.sleep => deadline.status().into_http(),
    }
}

struct Deadline {
    after: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Deadline {
    fn status(&self) -> Status {
        Kind::Late.status(format!("the call took longer than its {} ms", self.after.as_millis()))
    }
}

impl Watch for Deadline {
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        self.sleep.as_mut().poll(cx).map(|()| self.status())
    }
}

/// The caller's time-out: at most 8 digits and a unit. What is not that is no time-out.
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
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
    fn time_outs_are_read_as_grpc_writes_them() {
        let read = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", http::HeaderValue::from_static(value));
            grpc_timeout(&headers)
        };
        assert_eq!(read("3S"), Some(Duration::from_secs(3)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("1H"), Some(Duration::from_secs(3600)));
        for wrong in ["", "S", "3", "-3S", "123456789S", "3x"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
