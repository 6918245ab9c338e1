//! The gateways that a client knows, and calls that are tried again: on another one, or after a while.
//!
//! Only what changes nothing, or changes the same when done twice, is tried again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use c3_types::limits;
use c3_proto::pb::gateway_client::GatewayClient;
use c3_transport::Connector;
use tokio::time::{Instant, sleep};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::{Client, Error, TimeOuts, trace};

/// Shortest and longest wait before a call is tried again where the gateway names none; doubled each time.
const BACKOFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// Tries that a gateway worked at before they broke off, after which the call is not tried again: it may be what breaks
/// gateways.
const BREAKS_MAX: u32 = 10;

pub(crate) type Injector = fn(Request<()>) -> Result<Request<()>, Status>;
/// A gateway as calls take it.
pub(crate) type Gateway = GatewayClient<InterceptedService<Channel, Injector>>;

/// Gateways over one store: any of them answers any call.
#[derive(Debug)]
pub(crate) struct Gateways {
    all: Vec<Gateway>,
    /// Which one is asked.
    turn: AtomicUsize,
}

impl Gateways {
    /// Connects to those at `urls`, separated by commas. Errors where none of them answers.
    pub(crate) async fn connect(urls: &str, time_outs: TimeOuts) -> Result<Self, Error> {
        let (mut all, mut problem) = (Vec::new(), None);
        let mut answers = None;
        for (number, url) in urls.split(',').enumerate() {
            let endpoint = endpoint(url, time_outs)?;
            let channel = match endpoint.connect_with_connector(Connector::default()).await {
                Ok(channel) => {
                    answers = answers.or(Some(number));
                    channel
                }
                Err(error) => {
                    problem = problem.or(Some(Error::connect(url, &error)));
                    // It may come back.
                    endpoint.connect_with_connector_lazy(Connector::default())
                }
            };
            let gateway = GatewayClient::with_interceptor(channel, trace::inject as Injector)
                .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
                .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
            all.push(gateway);
        }
        match (answers, problem) {
            (Some(first), _) => Ok(Self { all, turn: AtomicUsize::new(first) }),
            (None, Some(problem)) => Err(problem),
            (None, None) => Err(Error::Url { url: urls.to_owned() }),
        }
    }

    /// The one that is asked.
    pub(crate) fn current(&self) -> Gateway {
        self.all[self.turn.load(Ordering::Relaxed) % self.all.len()].clone()
    }

    /// Another one is asked from now on.
    fn move_on(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }
}

fn endpoint(url: &str, time_outs: TimeOuts) -> Result<Endpoint, Error> {
    let wrong = || Error::Url { url: url.to_owned() };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| wrong())?;
    if endpoint.uri().scheme_str() != Some("http") || endpoint.uri().host().is_none() {
        return Err(wrong());
    }
    Ok(endpoint
        .connect_timeout(time_outs.connect)
        .http2_keep_alive_interval(time_outs.alive)
        .keep_alive_timeout(time_outs.alive))
}

/// How long a call may still be tried again. What counts is the time without a gateway: a try that took longer than a
/// connection may take had one, which worked at it until the try broke off.
#[derive(Debug)]
pub(crate) struct Patience {
    time_outs: TimeOuts,
    until: Instant,
    /// When the try that is under way began.
    begun: Instant,
    tries: u32,
    breaks: u32,
}

impl Patience {
    /// From now on.
    pub(crate) fn of(time_outs: TimeOuts) -> Self {
        let begun = Instant::now();
        Self { time_outs, until: begun + time_outs.patience, begun, tries: 0, breaks: 0 }
    }

    /// Waits until the call may be tried again, or gives the error back.
    pub(crate) async fn after(&mut self, error: Error, gateways: &Gateways) -> Result<(), Error> {
        let now = Instant::now();
        if now - self.begun > self.time_outs.connect {
            (self.tries, self.breaks) = (0, self.breaks + 1);
            self.until = now + self.time_outs.patience;
        }
        let wait = self.wait(&error).filter(|&wait| now + wait <= self.until && self.breaks <= BREAKS_MAX);
        let Some(wait) = wait else { return Err(error) };
        // One that is full asks for time; of one that is stopping, or gone, nothing is to be expected.
        if error.code() != Some(Code::ResourceExhausted) {
            gateways.move_on();
        }
        self.tries += 1;
        sleep(wait).await;
        self.begun = Instant::now();
        Ok(())
    }

    /// How long to wait; `None` where another try would not end better.
    fn wait(&self, error: &Error) -> Option<Duration> {
        let Error::Call { code, retry_after, .. } = error else { return None };
        let backoff = (BACKOFF[0] * (1 << self.tries.min(10))).min(BACKOFF[1]);
        match code {
            Code::ResourceExhausted => *retry_after,
            // No gateway answers UNKNOWN or CANCELLED to who is still there: so a broken connection looks to a call in
            // flight, and one that closes to a call that was about to go out.
            Code::Unavailable | Code::Unknown | Code::Cancelled => {
                Some(backoff.mul_f64(0.5 + 0.5 * fastrand::f64()))
            }
            _ => None,
        }
    }
}

impl Client {
    /// What `call` answers, tried again where it is worth it. `call` must be safe to make twice.
    pub(crate) async fn retrying<T, F>(&self, call: impl Fn(Gateway) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut patience = self.patience();
        loop {
            match call(self.gateway()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => patience.after(error, &self.gateways).await?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: Code, retry_after: Option<Duration>) -> Error {
        Error::Call { code, message: String::new(), retry_after }
    }

    #[tokio::test]
    async fn what_is_full_says_when_and_what_is_gone_is_tried_later_and_later() {
        let mut patience = Patience::of(TimeOuts::default());
        let after = Duration::from_millis(250);
        assert_eq!(patience.wait(&error(Code::ResourceExhausted, Some(after))), Some(after));
        assert_eq!(patience.wait(&error(Code::ResourceExhausted, None)), None);
        for code in [Code::NotFound, Code::Internal, Code::DataLoss, Code::DeadlineExceeded] {
            assert_eq!(patience.wait(&error(code, None)), None);
        }
        for tries in [0, 3, 20] {
            patience.tries = tries;
            let most = (BACKOFF[0] * (1 << tries.min(10))).min(BACKOFF[1]);
            let wait = patience.wait(&error(Code::Unavailable, None)).unwrap();
            assert!((most / 2..=most).contains(&wait), "{wait:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_a_gateway_worked_at_a_try_is_no_time_without_one() {
        let endpoint = Endpoint::from_static("http://127.0.0.1:9").connect_lazy();
        let gateway = GatewayClient::with_interceptor(endpoint, trace::inject as Injector);
        let gateways = Gateways { all: vec![gateway], turn: AtomicUsize::new(0) };
        let time_outs = TimeOuts::default();
        let gone = || error(Code::Unavailable, None);
        let mut patience = Patience::of(time_outs);
        for _ in 0..BREAKS_MAX {
            sleep(2 * time_outs.patience).await;
            patience.after(gone(), &gateways).await.unwrap();
        }
        sleep(2 * time_outs.patience).await;
        assert!(patience.after(gone(), &gateways).await.is_err(), "it breaks gateways");
        let (mut patience, begun) = (Patience::of(time_outs), Instant::now());
        while patience.after(gone(), &gateways).await.is_ok() {}
        assert!((time_outs.patience / 2..=time_outs.patience).contains(&begun.elapsed()));
    }
}
