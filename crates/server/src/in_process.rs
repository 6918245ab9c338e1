//! Connections of a program to its own server, through memory. Calls over them pass through the same layers as calls
//! from other machines: access control, admission, audit log and metrics.

use std::io;

use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// Bytes that each direction of a connection holds.
const BUFFER_BYTES: usize = 64 << 10;
/// Connections that wait until the server accepts them. A channel makes one at a time.
const CONNECTIONS_WAITING_MAX: usize = 1;
/// Address in the requests of such a connection. It resolves to nothing.
const ADDRESS: &str = "http://in-process.invalid";

/// Server side of the connections.
#[derive(Debug)]
pub struct InProcessListener(Receiver<DuplexStream>);

impl InProcessListener {
    /// Returns the next connection; `None` once the client side is dropped.
    pub(crate) async fn accept(&mut self) -> Option<DuplexStream> {
        self.0.recv().await
    }
}

/// Returns a channel to the server that will get the listener. It connects with the first call, and again whenever its
/// connection was closed. Calls wait until the server accepts connections, and fail once it has stopped.
pub fn in_process() -> (Channel, InProcessListener) {
    let (connections, accepted) = mpsc::channel(CONNECTIONS_WAITING_MAX);
    let connect = move |_| {
        let connections: Sender<DuplexStream> = connections.clone();
        async move {
            let (client, server) = tokio::io::duplex(BUFFER_BYTES);
            let sent = connections.send(server).await;
            sent.map(|()| TokioIo::new(client)).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))
        }
    };
    let channel = Endpoint::from_static(ADDRESS).connect_with_connector_lazy(service_fn(connect));
    (channel, InProcessListener(accepted))
}
