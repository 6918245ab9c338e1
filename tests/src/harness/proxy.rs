//! A TCP proxy that harms what passes, from a seed: what a network and a busy server do.
//!
//! It speaks no protocol, except that a 503 is written as HTTP has it. Faults are drawn for each piece that a client
//! sends, which for small requests is a request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What HTTP says where a server wants fewer requests.
const THROTTLED: &[u8] =
    b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n";

/// Shares of requests, each from 0 to 1, that meet a fault.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Answered with a 503, never passed on.
    pub throttled: f64,
    /// Passed on; its answer never comes back, the connection is cut.
    pub answer_lost: f64,
    /// Cut before it is passed on.
    pub reset: f64,
    /// Passed on; its answer takes [`Faults::delay`] longer.
    pub slow: f64,
    /// How much longer.
    pub delay: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Throttled,
    AnswerLost,
    Reset,
    Slow,
}

/// What the wire does to all that passes, at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wire {
    /// Packets vanish both ways; connections stay open, and new ones are taken and lead nowhere.
    pub dead: bool,
    /// Each piece takes so much longer.
    pub latency: Duration,
    /// Answers come in drops of a few bytes, with this between them.
    pub drip: Duration,
    /// Share of pieces of answers in which a byte is changed.
    pub corrupt: f64,
    /// Changed to cut every connection.
    pub cuts: u64,
}

/// Bytes of a drop.
const DROP_BYTES: usize = 512;

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    wire: watch::Sender<Wire>,
    dealt: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Stands before the server at `target`.
    pub async fn before(target: String, faults: Faults, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (dealt, draws) = (Arc::<AtomicU64>::default(), Arc::new(AtomicU64::new(0)));
        let wire = watch::Sender::new(Wire::default());
        let dealer = Dealer { faults, seed, draws, dealt: Arc::clone(&dealt), wire: wire.subscribe() };
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut dealer, target) = (dealer.clone(), target.clone());
                // Errors are ends of connections.
                tokio::spawn(async move {
                    let mut wire = dealer.wire.clone();
                    let cuts = wire.borrow().cuts;
                    tokio::select! {
                        ended = pass(client, &target, &mut dealer) => drop(ended),
                        () = async { drop(wire.wait_for(|wire| wire.cuts != cuts).await) } => {}
                    }
                });
            }
        });
        Ok(Self { address, wire, dealt, task })
    }

    /// Changes what the wire does from now on, on connections that are open as well.
    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        self.wire.send_modify(|wire| wire.cuts += 1);
    }

    /// Faults so far.
    pub fn dealt(&self) -> u64 {
        self.dealt.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Dealer {
    faults: Faults,
    seed: u64,
    draws: Arc<AtomicU64>,
    dealt: Arc<AtomicU64>,
    wire: watch::Receiver<Wire>,
}

impl Dealer {
    fn draw(&self) -> Option<Fault> {
        let fault = self.faults.at(self.share());
        self.dealt.fetch_add(u64::from(fault.is_some()), Ordering::Relaxed);
        fault
    }

    /// A number from 0 to 1, the next that the seed gives.
    fn share(&self) -> f64 {
        let number = self.draws.fetch_add(1, Ordering::Relaxed);
        let hash = blake3::hash(&[self.seed.to_le_bytes(), number.to_le_bytes()].concat());
        let drawn = u32::from_le_bytes([0, 1, 2, 3].map(|i| hash.as_bytes()[i]));
        f64::from(drawn) / f64::from(u32::MAX)
    }

    /// The wire, once packets pass it again.
    async fn alive(&mut self) -> Wire {
        // Errs where the proxy is gone, and this with it.
        let wire = self.wire.wait_for(|wire| !wire.dead).await.map(|wire| *wire);
        wire.unwrap_or_default()
    }

    /// Writes a piece of an answer as the wire lets it through.
    async fn answer(&mut self, client: &mut TcpStream, piece: &mut [u8]) -> std::io::Result<()> {
        let wire = self.alive().await;
        if self.share() < wire.corrupt {
            let at = (self.share() * piece.len() as f64) as usize;
            if let Some(byte) = piece.get_mut(at) {
                *byte ^= 0x10;
            }
        }
        tokio::time::sleep(wire.latency).await;
        if wire.drip.is_zero() {
            return client.write_all(piece).await;
        }
        for drop in piece.chunks(DROP_BYTES) {
            client.write_all(drop).await?;
            tokio::time::sleep(wire.drip).await;
        }
        Ok(())
    }
}

impl Faults {
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

async fn pass(mut client: TcpStream, target: &str, dealer: &mut Dealer) -> std::io::Result<()> {
    dealer.alive().await;
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
                fault = fault.or_else(|| dealer.draw());
                match fault {
                    Some(Fault::Reset) => return Ok(()),
                    Some(Fault::Throttled) => {
                        client.write_all(THROTTLED).await?;
                        return client.shutdown().await;
                    }
                    _ => {
                        dealer.alive().await;
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
                    tokio::time::sleep(dealer.faults.delay).await;
                }
                dealer.answer(&mut client, &mut down[..read]).await?;
                (fault, delayed) = (None, false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_in_their_shares() {
        let faults = Faults { throttled: 0.1, answer_lost: 0.2, reset: 0.3, ..Default::default() };
        let (draws, dealt) = Default::default();
        let dealer = Dealer { faults, seed: 7, draws, dealt, wire: watch::Sender::default().subscribe() };
        let drawn = Vec::from_iter((0..10_000).map(|_| dealer.draw()));
        for (fault, share) in [(Fault::Throttled, 0.1), (Fault::AnswerLost, 0.2), (Fault::Reset, 0.3)] {
            let count = drawn.iter().filter(|&&drawn| drawn == Some(fault)).count() as f64;
            assert!((count / 10_000.0 - share).abs() < 0.02, "{fault:?}: {count}");
        }
    }

    #[tokio::test]
    async fn a_lost_answer_was_asked_for() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = server.local_addr().unwrap().to_string();
        let faults = Faults { answer_lost: 1.0, ..Default::default() };
        let proxy = Proxy::before(target, faults, 1).await.unwrap();
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        client.write_all(b"question").await.unwrap();
        let (mut asked, _) = server.accept().await.unwrap();
        let mut question = [0; 8];
        asked.read_exact(&mut question).await.unwrap();
        asked.write_all(b"answer").await.unwrap();
        let mut answer = Vec::new();
        // An end or a reset: either way nothing came.
        let _ = client.read_to_end(&mut answer).await;
        assert_eq!((&question, answer.len(), proxy.dealt()), (b"question", 0, 1));
    }
}
