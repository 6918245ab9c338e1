//! Floods of cancelled calls. A caller that opens and cancels calls all the time (HTTP/2 rapid reset, CVE-2023-44487)
//! makes the server work without ever exceeding the maximum of concurrent calls.
//!
//! Each connection has a budget of cancellations, and is closed when it exceeds it. New connections of the same address
//! are then on probation for a while: their limits are small, because an attacker connects again at once. Others behind
//! that address, which hardly cancel, do not notice.

use std::collections::HashMap;
use std::error::Error;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Time for which connections of an address are on probation.
const PROBATION: Duration = Duration::from_secs(60);
/// Cancellations at once of a connection on probation.
pub(crate) const PROBATION_BURST: u32 = 8;
/// Maximum concurrent calls of a connection on probation.
pub(crate) const PROBATION_STREAMS: u32 = 100;
/// Maximum number of addresses on probation. An attacker with more addresses has other means.
const OFFENDERS_MAX: usize = 4096;

/// Budget of cancelled calls of one connection: a token bucket, which completed calls fill too.
#[derive(Debug)]
pub(crate) struct CancellationBudget {
    /// Maximum of tokens.
    burst: f64,
    /// Tokens that are added each second.
    rate: f64,
    /// Tokens left, and the time of the last change.
    left: Mutex<(f64, Instant)>,
    exceeded: Notify,
}

impl CancellationBudget {
    /// Allows a quarter of `burst` cancellations at once, and up to `burst` after as many completed calls. An eighth of
    /// `burst` is added each second.
    pub(crate) fn new(burst: u32) -> Self {
        let burst = f64::from(burst);
        let left = Mutex::new((burst / 4.0, Instant::now()));
        Self { burst, rate: burst / 8.0, left, exceeded: Notify::new() }
    }

    /// Returns the budget of a connection on probation.
    pub(crate) fn on_probation() -> Self {
        Self::new(4 * PROBATION_BURST)
    }

    /// Counts a call that ended by itself.
    pub(crate) fn completed(&self) {
        self.add(1.0);
    }

    /// Counts a cancelled call.
    pub(crate) fn cancelled(&self) {
        if self.add(-1.0) < 0.0 {
            self.exceeded.notify_one();
        }
    }

    /// Adds tokens. Returns the tokens left.
    fn add(&self, tokens: f64) -> f64 {
        // No code that holds this lock panics.
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let refilled = left.0 + now.saturating_duration_since(left.1).as_secs_f64() * self.rate;
        *left = ((refilled + tokens).min(self.burst), now);
        left.0
    }

    /// Waits until the connection has cancelled too many calls.
    pub(crate) async fn exceeded(&self) {
        self.exceeded.notified().await;
    }
}

/// Addresses on probation, with the time when it ends.
#[derive(Debug, Default)]
pub(crate) struct Offenders(Mutex<HashMap<IpAddr, Instant>>);

impl Offenders {
    /// Puts an address on probation.
    pub(crate) fn add(&self, address: IpAddr) {
        let now = Instant::now();
        let mut offenders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if offenders.len() >= OFFENDERS_MAX {
            offenders.retain(|_, end| *end > now);
        }
        if offenders.len() < OFFENDERS_MAX {
            offenders.insert(network(address), now + PROBATION);
        }
    }

    /// Returns whether an address is on probation.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let offenders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        offenders.get(&network(address)).is_some_and(|end| *end > Instant::now())
    }
}

/// Returns the address by which a peer is known: for IPv6 that of its /64 network, of which one host has all addresses.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// Returns whether a connection ended because h2 found a flood of frames, such as resets or CONTINUATION.
pub(crate) fn is_flood(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
    causes.any(|cause| {
        let error = cause.downcast_ref::<h2::Error>();
        error.is_some_and(|error| error.is_library() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM))
    })
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_allowed_and_a_flood_is_not() {
        let budget = CancellationBudget::new(80);
        let is_exceeded = async || timeout(Duration::ZERO, budget.exceeded()).await.is_ok();
        (0..20).for_each(|_| budget.cancelled());
        assert!(!is_exceeded().await);
        // The long-term rate is 10 a second.
        for _ in 0..50 {
            sleep(Duration::from_secs(1)).await;
            (0..10).for_each(|_| budget.cancelled());
        }
        assert!(!is_exceeded().await);
        (0..100).for_each(|_| budget.completed());
        (0..80).for_each(|_| budget.cancelled());
        assert!(!is_exceeded().await);
        budget.cancelled();
        assert!(is_exceeded().await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_on_probation_for_a_while() {
        let offenders = Offenders::default();
        let [offender, neighbour, other] =
            ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|ip| ip.parse().unwrap());
        offenders.add(offender);
        assert!(offenders.contains(offender) && offenders.contains(neighbour) && !offenders.contains(other));
        sleep(PROBATION).await;
        assert!(!offenders.contains(offender));
        // Their number is bounded.
        for number in 0..2 * OFFENDERS_MAX as u32 {
            offenders.add(std::net::Ipv4Addr::from_bits(number).into());
        }
        assert_eq!(offenders.0.lock().unwrap().len(), OFFENDERS_MAX);
    }
}
