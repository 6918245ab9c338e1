//! Quotas of a tenant. They hold in one gateway: with several gateways, a tenant gets them in each.

use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use c3_server::ErrorKind;
use c3_server::access::{Denied, Lease};
use http::{HeaderName, HeaderValue};

use crate::bucket::{Bucket, WINDOW};
use crate::file::TenantRecord;

/// Quotas, in the form of the IETF draft "RateLimit header fields for HTTP".
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// Remaining amounts of the quotas.
const LEFT: HeaderName = HeaderName::from_static("ratelimit");
/// Retry delay when a call is refused because too many are in flight.
const STREAM_RETRY: Duration = Duration::from_secs(1);
/// Retry delay when the store is full: the tenant has to delete something, and garbage collection has to run.
const STORED_RETRY: Duration = Duration::from_secs(60);

/// A quota is used up. The message says which one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QuotaExceeded {
    /// Description for the caller.
    pub message: String,
    /// Time after which a retry is likely to succeed.
    pub retry_after: Duration,
}

impl QuotaExceeded {
    /// Returns the kind of error, with the time to retry.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Overloaded { retry_after_ms: u64::try_from(self.retry_after.as_millis()).unwrap_or(u64::MAX).max(1) }
    }
}

/// Usage of one tenant, compared with its quotas.
#[derive(Debug)]
pub struct TenantQuotas(Mutex<Usage>);

#[derive(Debug)]
struct Usage {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    streams_max: Option<u64>,
    streams: u64,
    stored_max: Option<u64>,
    /// Bytes at the last measurement; `None` before the first one.
    stored: Option<u64>,
    written_since: u64,
}

impl TenantQuotas {
    /// Creates the usage of a tenant that has used nothing yet.
    pub fn new(record: &TenantRecord) -> Self {
        let usage = Usage {
            requests: None,
            tokens: None,
            streams_max: None,
            streams: 0,
            stored_max: None,
            stored: None,
            written_since: 0,
        };
        let quotas = Self(Mutex::new(usage));
        quotas.set(record);
        quotas
    }

    /// Changes the quotas. What was used so far stays used.
    pub fn set(&self, record: &TenantRecord) {
        let (mut usage, now) = (self.lock(), Instant::now());
        let set = |bucket: &mut Option<Bucket>, quota: Option<u64>| match (bucket.as_mut(), quota) {
            (Some(bucket), Some(quota)) => bucket.set_quota(quota, now),
            (_, quota) => *bucket = quota.map(|quota| Bucket::new(quota, now)),
        };
        set(&mut usage.requests, record.requests_per_minute);
        set(&mut usage.tokens, record.tokens_per_minute);
        usage.streams_max = record.streams_max;
        usage.stored_max = record.stored_bytes_max;
    }

    /// Counts a call as in flight until the lease is dropped.
    pub fn begin(self: &Arc<Self>) -> Result<Lease, Denied> {
        let (mut usage, now) = (self.lock(), Instant::now());
        let denied = |usage: &mut Usage, exceeded: QuotaExceeded| Denied {
            kind: exceeded.kind(),
            message: exceeded.message,
            headers: usage.headers(now),
        };
        if let Some(most) = usage.streams_max.filter(|most| usage.streams >= *most) {
            let message = format!("the tenant has {most} calls in flight, which is its quota: wait for one of them");
            return Err(denied(&mut usage, QuotaExceeded { message, retry_after: STREAM_RETRY }));
        }
        let wait = usage.requests.as_mut().map_or(Duration::ZERO, |requests| requests.wait_for(1, now));
        if !wait.is_zero() {
            let message = "the tenant's requests per minute are used up: try again later".to_owned();
            return Err(denied(&mut usage, QuotaExceeded { message, retry_after: wait }));
        }
        if let Some(requests) = &mut usage.requests {
            requests.charge(1, now);
        }
        usage.streams += 1;
        let headers = usage.headers(now);
        Ok(Lease { headers, guard: Box::new(Stream(Arc::clone(self))) })
    }

    /// Fails if the tokens of this minute are used up. Call it before work whose tokens are charged later.
    pub fn check_tokens(&self) -> Result<(), QuotaExceeded> {
        self.check_tokens_left(|_| 1)
    }

    /// Fails if more than half of the tokens of this minute are used up: background work leaves the rest to callers.
    pub fn check_spare_tokens(&self) -> Result<(), QuotaExceeded> {
        self.check_tokens_left(|quota| quota.div_ceil(2))
    }

    fn check_tokens_left(&self, amount: impl Fn(u64) -> u64) -> Result<(), QuotaExceeded> {
        let wait = |tokens: &mut Bucket| tokens.wait_for(amount(tokens.quota()), Instant::now());
        let wait = self.lock().tokens.as_mut().map_or(Duration::ZERO, wait);
        let message = || "the tenant's text tokens per minute are used up: try again later".to_owned();
        if wait.is_zero() { Ok(()) } else { Err(QuotaExceeded { message: message(), retry_after: wait }) }
    }

    /// Charges tokens of text that was processed. More than the quota may be charged; later calls then wait longer.
    pub fn charge_tokens(&self, tokens: u64) {
        if let Some(bucket) = &mut self.lock().tokens {
            bucket.charge(tokens, Instant::now());
        }
    }

    /// Fails if the tenant's store is full. Call it before a write.
    pub fn check_stored(&self) -> Result<(), QuotaExceeded> {
        let usage = self.lock();
        let stored = usage.stored.unwrap_or(0).saturating_add(usage.written_since);
        match usage.stored_max {
            Some(most) if stored >= most => {
                let message = format!("the tenant stores {stored} bytes, and its quota is {most}: delete documents");
                Err(QuotaExceeded { message, retry_after: STORED_RETRY })
            }
            _ => Ok(()),
        }
    }

    /// Counts bytes that were written since the last measurement of the store.
    pub fn wrote(&self, bytes: u64) {
        let mut usage = self.lock();
        usage.written_since = usage.written_since.saturating_add(bytes);
    }

    /// Returns whether stored bytes are limited, so that the store has to be measured.
    pub fn limits_stored(&self) -> bool {
        self.lock().stored_max.is_some()
    }

    /// Begins a measurement of the store. Returns the bytes written so far, for [`Self::measured`].
    pub fn begin_measurement(&self) -> u64 {
        self.lock().written_since
    }

    /// Sets the bytes in the store, as measured. `written_before` is the result of [`Self::begin_measurement`].
    pub fn measured(&self, bytes: u64, written_before: u64) {
        let mut usage = self.lock();
        usage.stored = Some(bytes);
        usage.written_since = usage.written_since.saturating_sub(written_before);
    }

    fn lock(&self) -> MutexGuard<'_, Usage> {
        // The lock is never poisoned: no code panics while it holds it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Usage {
    fn headers(&mut self, now: Instant) -> Vec<(HeaderName, HeaderValue)> {
        let (mut policy, mut left) = (String::new(), String::new());
        let window = WINDOW.as_secs();
        for (name, bucket) in [("requests", &mut self.requests), ("tokens", &mut self.tokens)] {
            let Some(bucket) = bucket else { continue };
            let (rest, full) = bucket.left(now);
            let _ = write!(policy, ", \"{name}\";q={};w={window};qu=\"{name}\"", bucket.quota());
            let _ = write!(left, ", \"{name}\";r={rest};t={}", full.as_secs_f64().ceil());
        }
        if let Some(most) = self.streams_max {
            let _ = write!(policy, ", \"streams\";q={most};qu=\"concurrent-requests\"");
            let _ = write!(left, ", \"streams\";r={}", most.saturating_sub(self.streams));
        }
        let value = |text: &str| HeaderValue::from_str(text.strip_prefix(", ")?).ok();
        [(POLICY, value(&policy)), (LEFT, value(&left))]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }
}

/// A call in flight.
struct Stream(Arc<TenantQuotas>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.lock().streams -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas(record: TenantRecord) -> Arc<TenantQuotas> {
        Arc::new(TenantQuotas::new(&record))
    }

    #[test]
    fn calls_over_a_quota_are_refused_with_a_time_to_retry() {
        let limited = quotas(TenantRecord { requests_per_minute: Some(2), ..TenantRecord::default() });
        let lease = limited.begin().unwrap();
        assert_eq!(lease.headers[0].1, r#""requests";q=2;w=60;qu="requests""#);
        assert_eq!(lease.headers[1].1, r#""requests";r=1;t=30"#);
        assert!(limited.begin().is_ok());
        let denied = limited.begin().err().unwrap();
        let ErrorKind::Overloaded { retry_after_ms } = denied.kind else { panic!("{denied:?}") };
        assert!((25_000..=30_000).contains(&retry_after_ms), "{retry_after_ms}");
        limited.set(&TenantRecord::default());
        assert!(limited.begin().is_ok_and(|lease| lease.headers.is_empty()));
    }

    #[test]
    fn a_call_in_flight_counts_until_its_lease_is_dropped() {
        let limited = quotas(TenantRecord { streams_max: Some(1), ..TenantRecord::default() });
        let lease = limited.begin().unwrap();
        assert_eq!(lease.headers[1].1, r#""streams";r=0"#);
        assert!(limited.begin().is_err());
        drop(lease);
        assert!(limited.begin().is_ok());
    }

    #[test]
    fn tokens_are_charged_after_the_work() {
        let limited = quotas(TenantRecord { tokens_per_minute: Some(100), ..TenantRecord::default() });
        limited.charge_tokens(40);
        limited.check_spare_tokens().unwrap();
        limited.charge_tokens(20);
        assert!(limited.check_spare_tokens().is_err());
        limited.check_tokens().unwrap();
        limited.charge_tokens(190);
        let retry_after = limited.check_tokens().unwrap_err().retry_after;
        assert!((Duration::from_secs(89)..=Duration::from_secs(91)).contains(&retry_after), "{retry_after:?}");
    }

    #[test]
    fn stored_bytes_are_the_measurement_and_later_writes() {
        let limited = quotas(TenantRecord { stored_bytes_max: Some(100), ..TenantRecord::default() });
        assert!(limited.limits_stored());
        limited.wrote(60);
        limited.check_stored().unwrap();
        let before = limited.begin_measurement();
        limited.wrote(30);
        limited.measured(70, before);
        assert!(limited.check_stored().unwrap_err().message.contains("100 bytes"));
        limited.measured(10, limited.begin_measurement());
        limited.check_stored().unwrap();
    }
}
