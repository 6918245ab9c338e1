//! The gateways of a client, and retries of calls on another gateway or after a delay.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use c3_proto::pb::gateway_client::GatewayClient;
use c3_tls::{Credentials, Target};
use c3_types::limits;
use tokio::time::{Instant, sleep};
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::credentials::{ApiKey, CallMetadata};
use crate::error::{Error, RetryRequest};

/// First and maximum backoff. The backoff doubles with each retry. The delay before a retry is a random 50 to 100 % of
/// the backoff.
const BACKOFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// Maximum number of failed attempts of a call that had reached a gateway. After more of them, the call is not retried,
/// since the call itself may crash the gateways.
const BREAKS_MAX: u32 = 10;

/// gRPC stub of a gateway. Adds the trace context and the API key to each call.
pub(crate) type Gateway = GatewayClient<Connection>;

/// Connection to a gateway, which adds the trace context and the API key to each request.
pub(crate) type Connection = InterceptedService<Channel, CallMetadata>;

/// Time limits of a client.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Maximum time to establish a connection.
    pub connect: Duration,
    /// Deadline of calls with one request and one response. `sweep` and `totals` have no deadline.
    pub response: Duration,
    /// Interval of HTTP/2 keep-alive pings during a call, and maximum time until a ping is answered.
    pub keep_alive: Duration,
    /// Maximum time for which a call is retried while no gateway accepts it.
    pub retry: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            response: Duration::from_secs(30),
            keep_alive: Duration::from_secs(20),
            retry: Duration::from_secs(10),
        }
    }
}

/// Settings of a client.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// Time limits.
    pub timeouts: Timeouts,
    /// API key or token that is sent with each call. Connecting fails if it would be sent unencrypted to another
    /// machine.
    pub api_key: Option<ApiKey>,
    /// CAs that gateways are verified with, and the certificate of this client. The default has neither: gateways are
    /// verified with the system's CAs.
    pub credentials: Credentials,
}

/// Gateways over one store. Any gateway can serve any call.
#[derive(Debug)]
pub(crate) struct Gateways {
    connections: Vec<Connection>,
    /// Index, modulo the number of gateways, of the gateway that calls go to.
    current: AtomicUsize,
    pub(crate) timeouts: Timeouts,
}

impl Gateways {
    /// Connects to the gateways at `urls`, separated by commas. Fails if no gateway answers or a URL is invalid.
    pub(crate) async fn connect(urls: &str, options: &ClientOptions) -> Result<Self, Error> {
        let (mut connections, mut first_error) = (Vec::new(), None);
        let mut first_connected = None;
        for (number, url) in urls.split(',').enumerate() {
            let target = target(url, options)?;
            let channel = match target.connect().await {
                Ok(channel) => {
                    first_connected = first_connected.or(Some(number));
                    channel
                }
                Err(error) => {
                    first_error = first_error.or(Some(Error::connect(url, &error)));
                    // The gateway may become reachable later.
                    target.connect_lazy()
                }
            };
            connections.push(Connection::new(channel, CallMetadata::new(options.api_key.clone())));
        }
        match (first_connected, first_error) {
            (Some(first), _) => Ok(Self { connections, current: AtomicUsize::new(first), timeouts: options.timeouts }),
            (None, Some(error)) => Err(error),
            (None, None) => Err(Error::Url { url: urls.to_owned() }),
        }
    }

    /// Returns the gateways at `urls`, separated by commas, without connecting. Fails if a URL is invalid.
    pub(crate) fn connect_lazy(urls: &str, options: &ClientOptions) -> Result<Self, Error> {
        let connections = urls.split(',').map(|url| {
            let target = target(url, options)?;
            Ok(Connection::new(target.connect_lazy(), CallMetadata::new(options.api_key.clone())))
        });
        let connections = connections.collect::<Result<_, Error>>()?;
        Ok(Self { connections, current: AtomicUsize::new(0), timeouts: options.timeouts })
    }

    /// Returns the gateway at the other end of `channel`.
    pub(crate) fn over(channel: Channel, options: &ClientOptions) -> Self {
        let connection = Connection::new(channel, CallMetadata::new(options.api_key.clone()));
        Self { connections: vec![connection], current: AtomicUsize::new(0), timeouts: options.timeouts }
    }

    /// Returns the gateway that calls currently go to.
    pub(crate) fn current(&self) -> Gateway {
        GatewayClient::new(self.connection())
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::MESSAGE_BYTES_MAX)
    }

    /// Returns the connection to that gateway.
    pub(crate) fn connection(&self) -> Connection {
        self.connections[self.current.load(Ordering::Relaxed) % self.connections.len()].clone()
    }

    /// Returns the retry state of a call whose first attempt starts now.
    pub(crate) fn retries(&self) -> Retries {
        Retries::new(self.timeouts)
    }

    /// Makes a call, with retries. The call must be safe to repeat.
    pub(crate) async fn retrying<T, F>(&self, call: impl Fn(Gateway) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut retries = self.retries();
        loop {
            match call(self.current()).await {
                Ok(response) => return Ok(response),
                Err(error) => retries.wait(error, self).await?,
            }
        }
    }

    /// Directs all later calls to the next gateway.
    fn fail_over(&self) {
        self.current.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns the server at `url`. Fails if the URL is invalid, or the API key must not be sent to it.
fn target(url: &str, options: &ClientOptions) -> Result<Target, Error> {
    let target = Target::new(url, &options.credentials).map_err(|_| Error::Url { url: url.to_owned() })?;
    options.api_key.as_ref().map_or(Ok(()), |key| key.check(url))?;
    let Timeouts { connect, keep_alive, .. } = options.timeouts;
    Ok(target.with(|endpoint| {
        endpoint.connect_timeout(connect).http2_keep_alive_interval(keep_alive).keep_alive_timeout(keep_alive)
    }))
}

/// Retry state of one call. The time limit [`Timeouts::retry`] runs from the start of the call. It starts again when an
/// attempt that had reached a gateway fails. An attempt that lasts longer than [`Timeouts::connect`] must have reached
/// one.
#[derive(Debug)]
pub(crate) struct Retries {
    timeouts: Timeouts,
    deadline: Instant,
    attempt_started: Instant,
    /// Failed attempts since the time limit last started. Includes the attempt whose failure restarted it.
    failures: u32,
    /// Failed attempts that had reached a gateway.
    breaks: u32,
}

impl Retries {
    /// Creates the state at the start of the first attempt.
    pub(crate) fn new(timeouts: Timeouts) -> Self {
        let now = Instant::now();
        Self { timeouts, deadline: now + timeouts.retry, attempt_started: now, failures: 0, breaks: 0 }
    }

    /// Waits until the next attempt may start. Directs calls to the next gateway unless `error` is an overload. Returns
    /// `error` if the call must not be retried, or if the delay would exceed the time limit. If the gateway forbids a
    /// retry ([`RetryRequest::Never`]), the call may still go to another gateway, but the time that it spent on the
    /// first one counts towards the limit.
    pub(crate) async fn wait(&mut self, error: Error, gateways: &Gateways) -> Result<(), Error> {
        let now = Instant::now();
        let is_final = matches!(error, Error::Call { retry: RetryRequest::Never, .. });
        if now - self.attempt_started > self.timeouts.connect && !is_final {
            (self.failures, self.breaks) = (0, self.breaks + 1);
            self.deadline = now + self.timeouts.retry;
        }
        let has_gateway = !is_final || gateways.connections.len() > 1;
        let allowed = |&delay: &Duration| has_gateway && now + delay <= self.deadline && self.breaks <= BREAKS_MAX;
        let Some(delay) = self.delay(&error).filter(allowed) else { return Err(error) };
        // An overloaded gateway names the delay after which it accepts calls. Any other error may persist on this
        // gateway, so later calls go to the next one.
        if error.code() != Some(Code::ResourceExhausted) {
            gateways.fail_over();
        }
        self.failures += 1;
        sleep(delay).await;
        self.attempt_started = Instant::now();
        Ok(())
    }

    /// Returns the delay before the next attempt; `None` if another attempt would fail as well.
    fn delay(&self, error: &Error) -> Option<Duration> {
        let Error::Call { code, retry, .. } = error else { return None };
        let backoff = (BACKOFF[0] * (1 << self.failures.min(10))).min(BACKOFF[1]);
        match code {
            Code::ResourceExhausted => match retry {
                RetryRequest::After(delay) => Some(*delay),
                RetryRequest::None | RetryRequest::Never => None,
            },
            // These codes mean that the connection was lost. tonic fails a call with UNKNOWN if its connection breaks,
            // and with CANCELLED if its connection is closing. A gateway never sends UNKNOWN, and sends CANCELLED only
            // to end a response that its caller has not read for a long time.
            Code::Unavailable | Code::Unknown | Code::Cancelled => Some(backoff.mul_f64(0.5 + 0.5 * fastrand::f64())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::transport::Endpoint;

    use super::*;

    fn error(code: Code, retry: RetryRequest) -> Error {
        Error::Call { code, message: String::new(), retry }
    }

    fn gateways(count: usize, timeouts: Timeouts) -> Gateways {
        let endpoint = Endpoint::from_static("http://127.0.0.1:9").connect_lazy();
        let connection = Connection::new(endpoint, CallMetadata::default());
        Gateways { connections: vec![connection; count], current: AtomicUsize::new(0), timeouts }
    }

    #[tokio::test]
    async fn delays_follow_the_gateway_or_double() {
        let mut retries = Retries::new(Timeouts::default());
        let after = Duration::from_millis(250);
        let requested = error(Code::ResourceExhausted, RetryRequest::After(after));
        assert_eq!(retries.delay(&requested), Some(after));
        assert_eq!(retries.delay(&error(Code::ResourceExhausted, RetryRequest::None)), None);
        for code in [Code::NotFound, Code::Internal, Code::DataLoss, Code::DeadlineExceeded] {
            assert_eq!(retries.delay(&error(code, RetryRequest::None)), None);
        }
        for failures in [0, 3, 20] {
            retries.failures = failures;
            let most = (BACKOFF[0] * (1 << failures.min(10))).min(BACKOFF[1]);
            let delay = retries.delay(&error(Code::Unavailable, RetryRequest::None)).unwrap();
            assert!((most / 2..=most).contains(&delay), "{delay:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_on_a_gateway_does_not_count_against_the_retries() {
        let timeouts = Timeouts::default();
        let gateways = gateways(1, timeouts);
        let unreachable = || error(Code::Unavailable, RetryRequest::None);
        let mut retries = Retries::new(timeouts);
        for _ in 0..BREAKS_MAX {
            sleep(2 * timeouts.retry).await;
            retries.wait(unreachable(), &gateways).await.unwrap();
        }
        sleep(2 * timeouts.retry).await;
        assert!(retries.wait(unreachable(), &gateways).await.is_err(), "the call may crash gateways");
        let (mut retries, begun) = (Retries::new(timeouts), Instant::now());
        while retries.wait(unreachable(), &gateways).await.is_ok() {}
        assert!((timeouts.retry / 2..=timeouts.retry).contains(&begun.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_its_gateway_gave_up_is_tried_at_most_at_another_one_within_the_time_limit() {
        let timeouts = Timeouts::default();
        let final_error = || error(Code::Unavailable, RetryRequest::Never);
        let mut retries = Retries::new(timeouts);
        assert!(retries.wait(final_error(), &gateways(1, timeouts)).await.is_err());
        let mut retries = Retries::new(timeouts);
        sleep(timeouts.retry / 2).await;
        retries.wait(final_error(), &gateways(2, timeouts)).await.unwrap();
        sleep(timeouts.retry).await;
        assert!(retries.wait(final_error(), &gateways(2, timeouts)).await.is_err());
    }
}
