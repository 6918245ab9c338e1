//! Connections of a server: accepts them, bounds their number, closes idle ones, and closes all of them at the end.
//!
//! tonic's accept loop does none of this. It spins while no file descriptor is free, keeps idle connections for ever,
//! and waits at shutdown for peers that acknowledge nothing.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use c3_tls::PeerIdentity;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep};
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tower::Service;

use crate::activity::{Activity, InFlight};
use crate::admission::Permit;
use crate::cancellations::{self, CancellationBudget, Offenders};
use crate::descriptors;
use crate::handshake::Handshakes;
use crate::in_process::InProcessListener;
use crate::server::ServerArgs;
use crate::stall::{self, StallGuard, StreamExecutor};

/// Interval of HTTP/2 keepalive pings on an idle connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// Time to answer a keepalive ping, after which the connection closes and releases its permits.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Minimum of the HTTP/2 limits on reset streams. A server with a low `--calls-max` needs it, because health checks are
/// streams too, although they need no permit.
const RESETS_MIN: u32 = 1024;
/// Number of streams of a connection that may end because the peer broke the protocol, as a multiple of the streams
/// that the connection may have at once.
const FAULTS_FACTOR: usize = 16;
/// A connection that was asked to close is cut off after this time without a call. Peers that acknowledge nothing, or
/// that sent half a request, would otherwise delay a shutdown.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// While connections or file descriptors are short, a connection is closed after this time without a call.
const SHORTAGE_IDLE: Duration = Duration::from_secs(1);
/// Pause before the next attempt to accept a connection after a shortage.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time in which a connection must begin its first call. Peers that connect and send nothing would otherwise hold
/// connections as long as idle callers may.
const FIRST_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum size of the head of a request over HTTP/1, and of the buffer in which it arrives.
const HTTP1_HEAD_BYTES_MAX: usize = 64 << 10;
/// Maximum size of the headers of a request over HTTP/2. h2 derives from it how many CONTINUATION frames it accepts.
const HTTP2_HEAD_BYTES_MAX: u32 = 16 << 10;
/// Minimum interval between two warnings about a shortage.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Accepts and serves the connections of a server.
pub(crate) struct Connections {
    routes: Routes,
    /// Handshakes of TLS connections; `None` if connections are in plain text.
    handshakes: Option<Handshakes>,
    http: Builder<StreamExecutor>,
    /// HTTP settings of connections on probation.
    strict_http: Builder<StreamExecutor>,
    /// Addresses that flooded the server.
    offenders: Offenders,
    stall_timeout: Duration,
    idle_max: Duration,
    /// Cancelled calls that a connection may have at once.
    cancellations_max: u32,
    /// Slots: one permit for each connection that may still be accepted.
    slots: Arc<Semaphore>,
    /// Sends a message whenever a connection cannot be accepted because no slot or file descriptor is free.
    shortages: watch::Sender<()>,
    /// Connections that are open.
    open: TaskTracker,
    /// Once cancelled, connections close as soon as they have no calls in flight.
    closing: CancellationToken,
}

impl Connections {
    /// Returns the connections of a server with these routes. No further ones are accepted once `closing` is cancelled.
    pub(crate) fn new(
        routes: Routes,
        handshakes: Option<Handshakes>,
        args: &ServerArgs,
        closing: CancellationToken,
    ) -> Arc<Self> {
        let stall_timeout = args.response_stall.0;
        Arc::new(Self {
            routes,
            handshakes,
            http: http(args, stall_timeout),
            strict_http: strict_http(args, stall_timeout),
            offenders: Offenders::default(),
            stall_timeout,
            idle_max: args.connection_idle.0,
            cancellations_max: args.calls_max.max(RESETS_MIN),
            // Half of the descriptors are for connections, the others for files, nodes and the other servers of the
            // process.
            slots: Arc::new(Semaphore::new((descriptors::raise_limit() / 2).max(1))),
            shortages: watch::Sender::new(()),
            open: TaskTracker::new(),
            closing,
        })
    }

    /// Returns the number of open connections.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    /// Serves connections until `closing` is cancelled and all of them have closed. If this future is dropped,
    /// connections that are still open are cut off.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, in_process: Option<InProcessListener>) {
        let cut_off = CancellationToken::new();
        let _cut_off = cut_off.clone().drop_guard();
        // The listeners are dropped when accepting ends. Callers are then refused immediately instead of waiting for an
        // answer.
        let accepting = async {
            tokio::join!(self.accept_all(listener, &cut_off), self.accept_in_process(in_process, &cut_off));
        };
        self.closing.run_until_cancelled(accepting).await;
        self.open.close();
        self.open.wait().await;
    }

    async fn accept_all(self: &Arc<Self>, listener: TcpListener, cut_off: &CancellationToken) {
        let mut warned: Option<Instant> = None;
        loop {
            match self.accept(&listener).await {
                Ok((stream, slot)) => {
                    let connection = Arc::clone(self).run(stream, slot);
                    self.open.spawn(cut_off.clone().run_until_cancelled_owned(connection));
                }
                Err(error) => {
                    self.shortages.send_replace(());
                    if warned.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) {
                        warned = Some(Instant::now());
                        let open = self.open();
                        tracing::warn!(%error, open, "cannot accept connections: closing idle ones; raise `ulimit -n`");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Accepts connections from this process. They need no slot, because they take no file descriptor.
    async fn accept_in_process(self: &Arc<Self>, listener: Option<InProcessListener>, cut_off: &CancellationToken) {
        let Some(mut listener) = listener else { return };
        while let Some(stream) = listener.accept().await {
            let connections = Arc::clone(self);
            let connection = async move { connections.run_http(stream, None, None, &Arc::default()).await };
            self.open.spawn(cut_off.clone().run_until_cancelled_owned(connection));
        }
    }

    /// Accepts the next connection. Fails if there are too many connections, or no file descriptor is free.
    async fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        let slot = slot.map_err(|_| io::Error::other("half of the file descriptors are connections"))?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Ok((stream, slot)),
                // The peer gave up before its connection was accepted.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn run(self: Arc<Self>, stream: TcpStream, _slot: OwnedSemaphorePermit) {
        // Fails only if the peer has gone already.
        let _ = stream.set_nodelay(true);
        let (peer, activity) = (stream.connect_info(), Arc::new(Activity::default()));
        let (stream, identity) = match &self.handshakes {
            None => (Either::Left(stream), None),
            Some(handshakes) => {
                // Boxed, because it would enlarge the future of each connection by its tens of kilobytes.
                let handshake = Box::pin(handshakes.accept(stream));
                let accepted = tokio::select! {
                    accepted = handshake => accepted,
                    () = self.needed_for_others(&activity) => None,
                    () = self.closing.cancelled() => None,
                };
                let Some((stream, identity)) = accepted else { return };
                (Either::Right(Box::new(stream)), identity)
            }
        };
        self.run_http(stream, Some(peer), identity, &activity).await;
    }

    /// Serves a connection. `peer` is `None` if it comes from this process.
    async fn run_http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        peer: Option<TcpConnectInfo>,
        identity: Option<PeerIdentity>,
        activity: &Arc<Activity>,
    ) {
        let address = peer.as_ref().and_then(TcpConnectInfo::remote_addr).map(|address| address.ip());
        let (http, budget) = match address.is_some_and(|address| self.offenders.contains(address)) {
            true => (&self.strict_http, CancellationBudget::on_probation()),
            false => (&self.http, CancellationBudget::new(self.cancellations_max)),
        };
        let budget = Arc::new(budget);
        let service = service_fn(|mut request: Request<Incoming>| {
            let mut in_flight = activity.begin(&budget);
            if let Some(peer) = &peer {
                request.extensions_mut().insert(peer.clone());
            }
            if let Some(identity) = &identity {
                request.extensions_mut().insert(identity.clone());
            }
            let response = self.routes.clone().call(request);
            // Boxed, because HTTP/1 keeps the space of a call's future while the connection is idle.
            Box::pin(async move {
                let mut response = response.await?;
                let permit = response.extensions_mut().remove();
                if response.body().is_end_stream() {
                    in_flight.complete();
                }
                Ok::<_, Infallible>(response.map(|inner| ResponseBody { inner, permit, in_flight }))
            })
        });
        // Boxed, because two allocations of these sizes waste less memory than one.
        let mut connection = Box::pin(http.serve_connection(TokioIo::new(stream), service));
        // HTTP/1 has no streams: the connection itself drives its response, so it has its own guard.
        let mut guard = StallGuard::new(self.stall_timeout);
        tokio::select! {
            // An error means that the peer broke the protocol or the connection.
            ended = poll_fn(|cx| guard.poll(connection.as_mut(), cx)) => {
                if let (Some(Err(error)), Some(address)) = (ended, address) && cancellations::is_flood(&*error) {
                    self.offenders.add(address);
                }
                return;
            }
            () = budget.exceeded() => {
                tracing::debug!(?peer, "closed a connection that cancels calls all the time");
                address.inspect(|address| self.offenders.add(*address));
                return;
            }
            () = activity.without_first_call(self.idle_max.min(FIRST_CALL_TIMEOUT)) => {}
            () = activity.idle_for(self.idle_max) => {}
            () = self.needed_for_others(activity) => {}
            () = self.closing.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = poll_fn(|cx| guard.poll(connection.as_mut(), cx)) => {}
            () = async { sleep(CLOSE_TIMEOUT).await; activity.idle_for(CLOSE_TIMEOUT).await } => {}
        }
    }

    /// Waits for a shortage of connections or file descriptors at a time when this connection is idle.
    async fn needed_for_others(&self, activity: &Activity) {
        let mut shortages = self.shortages.subscribe();
        while shortages.changed().await.is_ok() {
            if activity.idle() >= SHORTAGE_IDLE {
                return;
            }
        }
    }
}

/// Returns the HTTP settings of all connections.
fn http(args: &ServerArgs, stall_timeout: Duration) -> Builder<StreamExecutor> {
    let resets = args.calls_max.max(RESETS_MIN) as usize;
    let mut http = Builder::new(StreamExecutor { stall_timeout });
    // Prometheus scrapes over HTTP/1.1. The timer bounds the time in which a request's head must arrive.
    http.http1().timer(TokioTimer::new()).max_buf_size(HTTP1_HEAD_BYTES_MAX);
    http.http2()
        .timer(TokioTimer::new())
        // Without keepalive, a caller whose machine died would keep its permits for ever.
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        // More streams than permits would only be refused.
        .max_concurrent_streams(args.calls_max)
        .max_header_list_size(HTTP2_HEAD_BYTES_MAX)
        // A caller may cancel all its calls at once. By default, h2 closes the connection after more than 20 of them.
        .max_pending_accept_reset_streams(resets)
        // This limit counts resets over the life of a connection. It also counts streams above the maximum of
        // concurrent streams, which a caller may open before it knows the maximum. The limit is therefore a multiple of
        // the maximum.
        .max_local_error_reset_streams(resets * FAULTS_FACTOR);
    http
}

/// Returns the HTTP settings of connections on probation.
fn strict_http(args: &ServerArgs, stall_timeout: Duration) -> Builder<StreamExecutor> {
    let mut http = http(args, stall_timeout);
    let resets = cancellations::PROBATION_BURST as usize;
    http.http2()
        .max_concurrent_streams(args.calls_max.min(cancellations::PROBATION_STREAMS))
        .max_pending_accept_reset_streams(resets)
        .max_local_error_reset_streams(resets * FAULTS_FACTOR);
    http
}

/// Body of a response. It reports its events to the stall guard. Its call counts as in flight until the body is
/// dropped.
struct ResponseBody<B> {
    inner: B,
    /// The call's permit, if it needs one.
    permit: Option<Arc<Permit>>,
    in_flight: InFlight,
}

impl<B: Body + Unpin> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(_)) => stall::body_gave_frame(self.permit.clone()),
            Poll::Ready(None) | Poll::Pending => stall::body_is_idle(),
        }
        // hyper does not poll a body again that says that it has ended.
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) || self.inner.is_end_stream() {
            self.in_flight.complete();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Drop for ResponseBody<B> {
    fn drop(&mut self) {
        stall::body_is_idle();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;

    /// Well below hyper's timeout for half a request, which is 30 seconds.
    const LIMIT: Duration = Duration::from_secs(10);

    /// Starts a server without routes. Returns its address and the task that serves.
    async fn start(args: &ServerArgs, closing: &CancellationToken) -> (SocketAddr, JoinHandle<()>) {
        serve(Routes::default(), args, closing).await
    }

    /// Starts a server with these routes. Returns its address and the task that serves.
    async fn serve(routes: Routes, args: &ServerArgs, closing: &CancellationToken) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Connections::new(routes, None, args, closing.clone());
        (address, tokio::spawn(connections.serve(listener, None)))
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed() {
        let args = ServerArgs { connection_idle: crate::units::TimeSpan::from_millis(50), ..Default::default() };
        let (address, _) = start(&args, &CancellationToken::new()).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        assert_eq!(timeout(LIMIT, idle.read(&mut [0])).await.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn half_a_request_does_not_delay_the_end() {
        let closing = CancellationToken::new();
        let (address, serving) = start(&ServerArgs::default(), &closing).await;
        let mut peer = TcpStream::connect(address).await.unwrap();
        peer.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\nGET / HTT").await.unwrap();
        assert_eq!(peer.read(&mut [0]).await.unwrap(), 1);
        closing.cancel();
        timeout(LIMIT, serving).await.unwrap().unwrap();
    }

    /// Opens and cancels calls on a new connection until the server closes it. Returns the number of calls, in
    /// hundreds.
    async fn rapid_reset(address: SocketAddr) -> usize {
        let frame = |kind: u8, flags: u8, id: u32, payload: &[u8]| {
            [&[0, 0, payload.len() as u8, kind, flags], &id.to_be_bytes()[..], payload].concat()
        };
        let mut peer = TcpStream::connect(address).await.unwrap();
        let mut out = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, 0, &[])[..]].concat();
        let mut ids = (1..).step_by(2);
        for hundreds in 0..1000 {
            for id in ids.by_ref().take(100) {
                // GET / of the host `a`, which ends at once, and its cancellation.
                out.extend(frame(1, 5, id, &[0x82, 0x86, 0x84, 0x41, 1, b'a']));
                out.extend(frame(3, 0, id, &[0, 0, 0, 8]));
            }
            if peer.write_all(&std::mem::take(&mut out)).await.is_err() {
                return hundreds;
            }
            // Reads what the server answers; 0 bytes mean that it has closed the connection.
            loop {
                match timeout(Duration::from_millis(20), peer.read(&mut [0; 4096])).await {
                    Ok(Ok(1..)) => {}
                    Ok(_) => return hundreds,
                    Err(_) => break,
                }
            }
        }
        panic!("the server accepts a flood of cancelled calls");
    }

    #[tokio::test]
    async fn a_flood_of_cancelled_calls_closes_the_connection_and_puts_its_address_on_probation() {
        // Calls that ended at once would count as completed.
        let routes = Routes::from(axum::Router::new().fallback(pending::<()>));
        let (address, _) = serve(routes, &ServerArgs::default(), &CancellationToken::new()).await;
        let first = rapid_reset(address).await;
        assert!((1..=20).contains(&first), "{first}");
        // One write has more cancellations than a connection on probation may make.
        assert_eq!(rapid_reset(address).await, 0);
    }
}
