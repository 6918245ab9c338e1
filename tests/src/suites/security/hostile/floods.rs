//! Floods: attackers that open, cancel and abandon connections and calls. Other callers must hardly notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use c3_proto::pb;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::bombs::closes_endless_head;
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::fixtures::Corpus;
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::quantity::Quantity;
use crate::harness::raw_http2::RawHttp2;
use crate::harness::wait::until;

const STAT: &str = "/c3.v1.Gateway/Stat";
/// Maximum ratio of the p99 during an attack to that without it.
const P99_RATIO_MAX: f64 = 2.0;
/// A p99 below this does not count as slower: at a fraction of a millisecond, the scheduler decides.
const P99_FLOOR: Duration = Duration::from_millis(2);
/// Maximum growth of the gateway's peak memory during all attacks: some 10 KiB for each of the 10,000 connections, and
/// as much again for calls.
const GROWTH_MAX_MIB: f64 = 384.0;
/// Time for an attack to take effect before calls are measured.
const BUILD_UP: Duration = Duration::from_secs(3);
/// Connections that send nothing or half a request.
const HALF_OPEN: usize = 10_000;
/// Uploads of 1 byte a second: more than the gateway may have concurrent calls.
const SLOW_UPLOADS: usize = 1_500;
/// Streams that one connection opens at once.
const STREAMS: usize = 5_000;

/// Attacks a gateway in several ways, one after another, while another client makes cheap calls.
pub(super) async fn floods(corpus: Corpus) -> Result<Vec<Quantity>> {
    let calls = if corpus.full { 5_000 } else { 1_000 };
    let cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let text = "Nothing in the world is as soft as water. ".repeat(100);
    let id = id_of(&api.put_at(text.as_bytes(), 20).await?.document.context("no document")?);
    let victim = Victim { api, id, calls };
    victim.p99().await?;
    let before = cluster.gateway.peak_bytes()?;
    let mut quantities = Vec::new();
    for attack in [Attack::RapidReset, Attack::Continuation, Attack::Streams, Attack::HalfOpen, Attack::SlowUploads] {
        quantities.extend(attacked(&cluster, &victim, attack).await?);
    }
    let growth = cluster.gateway.peak_bytes()?.saturating_sub(before) as f64 / f64::from(1 << 20);
    quantities.push(Quantity::at_most("floods-memory-growth-mib", growth, GROWTH_MAX_MIB));
    let closes = closes_endless_head(cluster.gateway.address(), Duration::from_secs(45)).await?;
    quantities.push(Quantity::holds("floods-endless-head", closes, "is closed within 45 seconds"));
    Ok(quantities)
}

#[derive(Clone, Copy, Debug)]
enum Attack {
    /// Opens and cancels calls as fast as it can, on new connections when the server closes one.
    RapidReset,
    /// Sends headers that never end, in CONTINUATION frames.
    Continuation,
    /// Opens far more streams than a connection may have.
    Streams,
    /// Opens connections and sends nothing, or half a request.
    HalfOpen,
    /// Begins uploads and sends a byte a second.
    SlowUploads,
}

impl Attack {
    fn name(self) -> &'static str {
        match self {
            Self::RapidReset => "rapid-reset",
            Self::Continuation => "continuation",
            Self::Streams => "streams",
            Self::HalfOpen => "half-open",
            Self::SlowUploads => "slow-uploads",
        }
    }

    /// Number of events after which the attack has its full strength.
    fn events_min(self) -> u64 {
        match self {
            Self::RapidReset | Self::Continuation | Self::Streams => 1,
            Self::HalfOpen => HALF_OPEN as u64,
            Self::SlowUploads => SLOW_UPLOADS as u64,
        }
    }

    /// Attacks until cancelled. Counts in `events`: cancelled calls, frames, connections or uploads.
    async fn run(self, address: &str, events: &AtomicU64) -> Result<()> {
        match self {
            Self::RapidReset => rapid_reset(address, events).await,
            Self::Continuation => continuation(address, events).await,
            Self::Streams => streams(address, events).await,
            Self::HalfOpen => half_open(address, events).await,
            Self::SlowUploads => slow_uploads(address, events).await,
        }
    }
}

/// A well-behaved client.
struct Victim {
    api: GatewayApi,
    id: String,
    calls: usize,
}

impl Victim {
    /// Returns the p99 of cheap calls, and the number of calls that failed. A call that is refused for overload is
    /// repeated, as clients do; its latency includes the repetitions.
    async fn p99(&self) -> Result<(Duration, usize)> {
        let (mut durations, mut failures) = (Vec::new(), 0);
        for _ in 0..self.calls {
            let begun = Instant::now();
            loop {
                match timeout(Duration::from_secs(10), self.api.stat(&self.id)).await {
                    Ok(Ok(_)) => break,
                    Ok(Err(status)) if status.code() == Code::ResourceExhausted && begun.elapsed().as_secs() < 10 => {
                        sleep(Duration::from_millis(10)).await;
                    }
                    _ => {
                        failures += 1;
                        break;
                    }
                }
            }
            durations.push(begun.elapsed());
            sleep(Duration::from_millis(1)).await;
        }
        durations.sort();
        Ok((durations[durations.len() * 99 / 100], failures))
    }
}

/// Measures the victim's calls without and with the attack.
async fn attacked(cluster: &Cluster, victim: &Victim, attack: Attack) -> Result<Vec<Quantity>> {
    let (without, _) = victim.p99().await?;
    let attacker = Attacker::start(attack, cluster.gateway.address());
    let built_up = async || (attacker.events.load(Ordering::Relaxed) >= attack.events_min()).then_some(());
    until("the attack to build up", Duration::from_secs(60), built_up).await?;
    sleep(BUILD_UP).await;
    let (with, failures) = victim.p99().await?;
    let events = attacker.stop();
    let ratio = with.max(P99_FLOOR).as_secs_f64() / without.max(P99_FLOOR).as_secs_f64();
    let name = |what: &str| format!("floods-{}-{what}", attack.name());
    Ok(vec![
        Quantity::reported(name("events"), events),
        Quantity::reported(name("p99-ms"), [without, with].map(|p99| p99.as_secs_f64() * 1000.0)),
        Quantity::at_most(name("p99-ratio"), ratio, P99_RATIO_MAX),
        Quantity::equal(name("failed-calls"), failures, 0),
    ])
}

/// An attacker on its own thread. Its priority is the lowest, because a real attacker has a computer of its own.
struct Attacker {
    events: Arc<AtomicU64>,
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

impl Attacker {
    fn start(attack: Attack, address: &str) -> Self {
        let (events, stop, address) = (Arc::new(AtomicU64::new(0)), CancellationToken::new(), address.to_owned());
        let (counted, stopped) = (Arc::clone(&events), stop.clone());
        let thread = std::thread::spawn(move || {
            // Without the lower priority, the measurement is only stricter.
            let _ = rustix::process::nice(19);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime needs only a few descriptors");
            let attack = async {
                loop {
                    // The server closes connections of attackers: then the attack goes on with another one.
                    let _ = attack.run(&address, &counted).await;
                    sleep(Duration::from_millis(1)).await;
                }
            };
            runtime.block_on(stopped.run_until_cancelled(attack));
        });
        Self { events, stop, thread }
    }

    /// Ends the attack. Returns the number of events.
    fn stop(self) -> u64 {
        self.stop.cancel();
        // A panic of the attacker is printed; the events then show that it did not attack.
        let _ = self.thread.join();
        self.events.load(Ordering::Relaxed)
    }
}

async fn rapid_reset(address: &str, events: &AtomicU64) -> Result<()> {
    let mut connection = RawHttp2::connect(address).await?;
    loop {
        for _ in 0..100 {
            let call = connection.begin(STAT, &pb::StatRequest { id: "abcd".to_owned() });
            connection.cancel(call);
        }
        connection.send().await?;
        events.fetch_add(100, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

async fn continuation(address: &str, events: &AtomicU64) -> Result<()> {
    let mut connection = RawHttp2::connect(address).await?;
    connection.begin_endless_headers(STAT);
    loop {
        connection.continue_headers();
        connection.send().await?;
        events.fetch_add(1, Ordering::Relaxed);
    }
}

async fn streams(address: &str, events: &AtomicU64) -> Result<()> {
    let mut connection = RawHttp2::connect(address).await?;
    for _ in 0..STREAMS {
        connection.begin_open(STAT);
    }
    connection.send().await?;
    events.fetch_add(STREAMS as u64, Ordering::Relaxed);
    // Reads what the server answers, until it closes the connection.
    timeout(Duration::from_secs(5), connection.receive(|_| false)).await?
}

async fn half_open(address: &str, events: &AtomicU64) -> Result<()> {
    let mut open = Vec::new();
    for number in 0..HALF_OPEN {
        let mut stream = TcpStream::connect(address).await?;
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"GET /v1/documents HTTP/1.1\r\nhost: loc").await?,
            _ => stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?,
        }
        open.push(stream);
        events.fetch_add(1, Ordering::Relaxed);
    }
    std::future::pending().await
}

async fn slow_uploads(address: &str, events: &AtomicU64) -> Result<()> {
    let mut uploads = Vec::new();
    for _ in 0..SLOW_UPLOADS {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"POST /v1/documents HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n").await?;
        uploads.push(stream);
        events.fetch_add(1, Ordering::Relaxed);
    }
    loop {
        sleep(Duration::from_secs(1)).await;
        for upload in &mut uploads {
            if upload.write_all(b"x").await.is_err() || upload.try_read(&mut [0; 512]).is_ok() {
                // The server refused the upload or ended it.
                let stream = TcpStream::connect(address).await?;
                *upload = stream;
                let head = b"POST /v1/documents HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n";
                upload.write_all(head).await?;
                events.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
