//! Connector of gRPC channels: TCP, then the TLS handshake with the credentials of the moment.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service;

use crate::Credentials;
use crate::explain::explain_to_client;

/// Connects to one server over TLS and verifies that its certificate is for a certain name.
#[derive(Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector,
    server: Arc<Server>,
}

struct Server {
    credentials: Credentials,
    name: ServerName<'static>,
    /// The name as displayed.
    label: String,
}

/// Reason why a connection failed, in one line. It has no source, because the line says everything.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The server cannot be reached.
    #[error("{0}")]
    Tcp(String),
    /// The handshake failed, or the server refused this client's certificate after it.
    #[error("{0}")]
    Tls(String),
}

impl Connector {
    /// Returns a connector to a server whose certificate must be valid for `name`, a DNS name or an IP address without
    /// brackets. Returns `None` if `name` is neither.
    pub(crate) fn new(credentials: Credentials, name: &str) -> Option<Self> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        let server_name = ServerName::try_from(name.to_owned()).ok()?;
        let server = Server { credentials, name: server_name, label: name.to_owned() };
        Some(Self { tcp, server: Arc::new(server) })
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.tcp.poll_ready(cx).map_err(|error| ConnectError::Tcp(error.to_string()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connected, server) = (self.tcp.call(uri), Arc::clone(&self.server));
        Box::pin(async move {
            let tcp = connected.await.map_err(|error| ConnectError::Tcp(innermost(&error)))?.into_inner();
            let config = server.credentials.client_config().map_err(|error| ConnectError::Tls(error.to_string()))?;
            let handshake = TlsConnector::from(config).connect(server.name.clone(), tcp);
            let stream = handshake.await.map_err(|error| {
                let explained = explain_to_client(&error, &server.label);
                ConnectError::Tls(explained.unwrap_or_else(|| format!("the TLS handshake failed: {error}")))
            })?;
            Ok(TokioIo::new(Stream { stream, server }))
        })
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// TLS connection to a server. Its read errors are explained, because in TLS 1.3 a server refuses a client's
/// certificate only after the client has completed the handshake.
pub(crate) struct Stream {
    stream: TlsStream<TcpStream>,
    server: Arc<Server>,
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        Poll::Ready(read.map_err(|error| match explain_to_client(&error, &self.server.label) {
            Some(explained) => io::Error::new(error.kind(), ConnectError::Tls(explained)),
            None => error,
        }))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
