//! When a call is over, streams included: tonic's own time-out only covers the time to the headers.
//!
//! The deadline travels: what a call asks of other servers is to end with it ([`crate::propagation`]).

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::HeaderMap;
use tokio::{
    task::futures::TaskLocalFuture,
    task_local,
    time::{Instant, Sleep},
};
use tonic::Status;

use crate::Kind;

task_local! {
    /// When the call that the current task works for is over, where it has a deadline.
    static UNTIL: Option<Instant>;
}

/// `work` with the current call's deadline: for what is spawned for this call alone. What is shared with other calls is
/// not to end with one of them.
pub fn carried<W: Future>(work: W) -> TaskLocalFuture<Option<Instant>, W> {
    UNTIL.scope(current(), work)
}

/// How long the current call has left, where it has a deadline.
pub(crate) fn left() -> Option<Duration> {
    current().map(|until| until.saturating_duration_since(Instant::now()))
}

fn current() -> Option<Instant> {
    UNTIL.try_get().ok().flatten()
}

/// Ends a call with DEADLINE_EXCEEDED.
pub(crate) struct Deadline {
    after: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Deadline {
    /// After the shorter of the caller's `grpc-timeout` and the server's own bound, where there is either.
    pub(crate) fn of(headers: &HeaderMap, most: Option<Duration>) -> Option<Self> {
        let after = grpc_timeout(headers).into_iter().chain(most).min()?;
        Some(Self { after, sleep: Box::pin(tokio::time::sleep(after)) })
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let late =
            || Kind::Late.status(format!("the call took longer than its {} ms", self.after.as_millis()));
        self.sleep.as_mut().poll(cx).map(|()| late())
    }

    /// `work` done under this deadline, or under none.
    pub(crate) fn within<T>(deadline: Option<&Self>, work: impl FnOnce() -> T) -> T {
        UNTIL.sync_scope(deadline.map(|deadline| deadline.sleep.deadline()), work)
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
    use tonic::{Request, service::Interceptor};

    use super::*;
    use crate::propagation::Propagate;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_goes_along_with_calls_and_with_tasks_of_the_call_alone() {
        let sent = || {
            let request = Propagate.call(Request::new(())).unwrap();
            grpc_timeout(request.metadata().as_ref())
        };
        assert_eq!(sent(), None);
        let most = Some(Duration::from_secs(3));
        let deadline = Deadline::of(&HeaderMap::new(), most);
        let (own, shared) = Deadline::within(deadline.as_ref(), || {
            (tokio::spawn(carried(async move { sent() })), tokio::spawn(async move { sent() }))
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(Deadline::within(deadline.as_ref(), sent) < most);
        let own = own.await.unwrap();
        assert!(own >= most && own < Some(Duration::from_secs(4)), "{own:?}");
        assert_eq!(shared.await.unwrap(), None);
    }

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
