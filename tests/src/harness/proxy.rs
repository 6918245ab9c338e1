//! TCP proxy that injects network and server faults, chosen pseudo-randomly from a seed.
//!
//! The proxy parses no protocol. The only message that it sends itself is an HTTP 503. It draws a fault, or none, for
//! each chunk of bytes that a client sends. A small request is one chunk.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Response of an HTTP server that sheds load.
const THROTTLED: &[u8] = b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n";

/// Probability of each fault for a request, from 0 to 1. A request has at most one fault.
#[derive(Clone, Copy, Debug, Default)]
pub struct FaultRates {
    /// Probability that the proxy answers the request with a 503 and does not forward it.
    pub throttled: f64,
    /// Probability that the proxy forwards the request, but closes the connection instead of returning the response.
    pub answer_lost: f64,
    /// Probability that the proxy closes the connection instead of forwarding the request.
    pub reset: f64,
    /// Probability that the proxy delays the response by [`FaultRates::delay`].
    pub slow: f64,
    /// Delay of slow responses.
    pub delay: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Throttled,
    AnswerLost,
    Reset,
    Slow,
}

/// Current behaviour of all connections through the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Link {
    /// Delays all data until this is false again. Connections stay open, and new ones are accepted.
    pub dead: bool,
    /// Delay before each chunk of a response.
    pub latency: Duration,
    /// Pause after every [`DRIP_BYTES`] bytes of a response. Zero forwards whole chunks.
    pub drip: Duration,
    /// Probability that a chunk of a response has one bit flipped.
    pub corrupt: f64,
    /// Counter. Every change of its value closes all open connections.
    pub cuts: u64,
}

/// Bytes forwarded between two pauses of a dripping response.
const DRIP_BYTES: usize = 512;

/// A running proxy. Dropping it closes its listener and all connections.
#[derive(Debug)]
pub struct Proxy {
    /// Address that the proxy listens on.
    pub address: SocketAddr,
    link: watch::Sender<Link>,
    injected: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy on a free loopback port that forwards to `target`, a `HOST:PORT`.
    pub async fn before(target: String, faults: FaultRates, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (injected, draws) = (Arc::<AtomicU64>::default(), Arc::new(AtomicU64::new(0)));
        let link = watch::Sender::new(Link::default());
        let injector = FaultInjector { faults, seed, draws, injected: Arc::clone(&injected), link: link.subscribe() };
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut injector, target) = (injector.clone(), target.clone());
                // An error of `pass` means that the client or the server closed its connection.
                tokio::spawn(async move {
                    let mut link = injector.link.clone();
                    let cuts = link.borrow().cuts;
                    tokio::select! {
                        ended = pass(client, &target, &mut injector) => drop(ended),
                        () = async { drop(link.wait_for(|link| link.cuts != cuts).await) } => {}
                    }
                });
            }
        });
        Ok(Self { address, link, injected, task })
    }

    /// Changes the behaviour of open and future connections.
    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }

    /// Closes every open connection.
    pub fn cut(&self) {
        self.link.send_modify(|link| link.cuts += 1);
    }

    /// Returns the number of faults from [`FaultRates`] injected so far.
    pub fn injected(&self) -> u64 {
        self.injected.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct FaultInjector {
    faults: FaultRates,
    seed: u64,
    draws: Arc<AtomicU64>,
    injected: Arc<AtomicU64>,
    link: watch::Receiver<Link>,
}

impl FaultInjector {
    fn draw(&self) -> Option<Fault> {
        let fault = self.faults.at(self.share());
        self.injected.fetch_add(u64::from(fault.is_some()), Ordering::Relaxed);
        fault
    }

    /// Returns the next pseudo-random number from 0 to 1, both inclusive.
    fn share(&self) -> f64 {
        let number = self.draws.fetch_add(1, Ordering::Relaxed);
        let hash = blake3::hash(&[self.seed.to_le_bytes(), number.to_le_bytes()].concat());
        let drawn = u32::from_le_bytes([0, 1, 2, 3].map(|i| hash.as_bytes()[i]));
        f64::from(drawn) / f64::from(u32::MAX)
    }

    /// Waits until the link is not dead and returns its current behaviour.
    async fn alive(&mut self) -> Link {
        // Fails only if the proxy was dropped, which also ends this task.
        let link = self.link.wait_for(|link| !link.dead).await.map(|link| *link);
        link.unwrap_or_default()
    }

    /// Sends a chunk of a response to the client, with the corruption and delays of the link.
    async fn answer(&mut self, client: &mut TcpStream, piece: &mut [u8]) -> std::io::Result<()> {
        let link = self.alive().await;
        if self.share() < link.corrupt {
            let at = (self.share() * piece.len() as f64) as usize;
            if let Some(byte) = piece.get_mut(at) {
                *byte ^= 0x10;
            }
        }
        tokio::time::sleep(link.latency).await;
        if link.drip.is_zero() {
            return client.write_all(piece).await;
        }
        for drip in piece.chunks(DRIP_BYTES) {
            client.write_all(drip).await?;
            tokio::time::sleep(link.drip).await;
        }
        Ok(())
    }
}

impl FaultRates {
    fn at(&self, mut share: f64) -> Option<Fault> {
        let shares = [
            (Fault::Throttled, self.throttled),
            (Fault::AnswerLost, self.answer_lost),
            (Fault::Reset, self.reset),
            (Fault::Slow, self.slow),
        ];
        for (fault, of) in shares {
            if share < of {
                return Some(fault);
            }
            share -= of;
        }
        None
    }
}

async fn pass(mut client: TcpStream, target: &str, injector: &mut FaultInjector) -> std::io::Result<()> {
    injector.alive().await;
    let mut server = TcpStream::connect(target).await?;
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let (mut fault, mut delayed) = (None, false);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                fault = fault.or_else(|| injector.draw());
                match fault {
                    Some(Fault::Reset) => return Ok(()),
                    Some(Fault::Throttled) => {
                        client.write_all(THROTTLED).await?;
                        return client.shutdown().await;
                    }
                    _ => {
                        injector.alive().await;
                        server.write_all(&up[..read]).await?;
                    }
                }
            }
            read = server.read(&mut down) => {
                let read = read?;
                if read == 0 || fault == Some(Fault::AnswerLost) {
                    return Ok(());
                }
                if fault == Some(Fault::Slow) && !std::mem::replace(&mut delayed, true) {
                    tokio::time::sleep(injector.faults.delay).await;
                }
                injector.answer(&mut client, &mut down[..read]).await?;
                (fault, delayed) = (None, false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_occur_at_their_rates() {
        let faults = FaultRates { throttled: 0.1, answer_lost: 0.2, reset: 0.3, ..Default::default() };
        let (draws, injected) = Default::default();
        let injector = FaultInjector { faults, seed: 7, draws, injected, link: watch::Sender::default().subscribe() };
        let drawn = Vec::from_iter((0..10_000).map(|_| injector.draw()));
        for (fault, share) in [(Fault::Throttled, 0.1), (Fault::AnswerLost, 0.2), (Fault::Reset, 0.3)] {
            let count = drawn.iter().filter(|&&drawn| drawn == Some(fault)).count() as f64;
            assert!((count / 10_000.0 - share).abs() < 0.02, "{fault:?}: {count}");
        }
    }

    #[tokio::test]
    async fn a_lost_response_was_forwarded_as_a_request() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = server.local_addr().unwrap().to_string();
        let faults = FaultRates { answer_lost: 1.0, ..Default::default() };
        let proxy = Proxy::before(target, faults, 1).await.unwrap();
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        client.write_all(b"question").await.unwrap();
        let (mut asked, _) = server.accept().await.unwrap();
        let mut question = [0; 8];
        asked.read_exact(&mut question).await.unwrap();
        asked.write_all(b"answer").await.unwrap();
        let mut answer = Vec::new();
        // The connection is closed or reset. In both cases no response arrives.
        let _ = client.read_to_end(&mut answer).await;
        assert_eq!((&question, answer.len(), proxy.injected()), (b"question", 0, 1));
    }
}
