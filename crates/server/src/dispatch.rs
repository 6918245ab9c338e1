//! What answers a call: the role's own service, straight behind the layer of calls, or else a router with the rest.
//!
//! The own service has nearly all calls, and a router would box each of them several times.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{body::Body, server::NamedService, service::Routes};
use tower::{Layer, Service};

use crate::calls::{Calls, Watching};

/// A generated gRPC server.
pub trait GrpcServer:
    NamedService
    + Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> GrpcServer for S where
    S: NamedService
        + Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// All that a server answers.
#[derive(Clone, Debug)]
pub(crate) struct Dispatch<S> {
    own: Watching<S>,
    rest: Routes,
}

impl<S: GrpcServer> Dispatch<S> {
    /// The role's own service behind the layer of calls, and the rest as it is.
    pub(crate) fn new(own: S, calls: &Calls, rest: Routes) -> Self {
        Self { own: calls.layer(own), rest: rest.prepare() }
    }

    fn is_own(path: &str) -> bool {
        let method = path.strip_prefix('/').and_then(|path| path.strip_prefix(S::NAME));
        method.is_some_and(|method| method.starts_with('/'))
    }
}

impl<S: GrpcServer> Service<Request<Body>> for Dispatch<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // As all that is generated.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if Self::is_own(request.uri().path()) {
            self.own.call(request)
        } else {
            Box::pin(self.rest.call(request))
        }
    }
}
