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

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    dealt: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Stands before the server at `target`.
    pub async fn before(target: String, faults: Faults, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (dealt, draws) = (Arc::<AtomicU64>::default(), Arc::new(AtomicU64::new(0)));
        let dealer = Dealer { faults, seed, draws, dealt: Arc::clone(&dealt) };
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (dealer, target) = (dealer.clone(), target.clone());
                // Errors are ends of connections.
                tokio::spawn(async move { pass(client, &target, &dealer).await });
            }
        });
        Ok(Self { address, dealt, task })
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
}

impl Dealer {
    fn draw(&self) -> Option<Fault> {
        let number = self.draws.fetch_add(1, Ordering::Relaxed);
        let hash = blake3::hash(&[self.seed.to_le_bytes(), number.to_le_bytes()].concat());
        let drawn = u32::from_le_bytes([0, 1, 2, 3].map(|i| hash.as_bytes()[i]));
        let fault = self.faults.at(f64::from(drawn) / f64::from(u32::MAX));
        self.dealt.fetch_add(u64::from(fault.is_some()), Ordering::Relaxed);
        fault
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

async fn pass(mut client: TcpStream, target: &str, dealer: &Dealer) -> std::io::Result<()> {
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
                    _ => server.write_all(&up[..read]).await?,
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
                client.write_all(&down[..read]).await?;
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
        let dealer = Dealer { faults, seed: 7, draws, dealt };
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
