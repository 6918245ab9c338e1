//! Connections to servers.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::net::TcpStream;
use tower::Service;

use crate::ByTurns;

type ConnectError = <HttpConnector as Service<Uri>>::Error;

/// Connects by TCP as tonic does: to whichever of a name's addresses answers first, without waiting for full packets.
#[derive(Clone, Debug)]
pub struct Connector(HttpConnector);

impl Default for Connector {
    fn default() -> Self {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        Self(http)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<ByTurns<TcpStream>>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = self.0.call(to);
        Box::pin(async move { Ok(TokioIo::new(ByTurns::new(connecting.await?.into_inner()))) })
    }
}
