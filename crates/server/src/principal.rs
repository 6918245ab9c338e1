//! For whom a call is made. Callers share a model's time, and to a node a gateway's calls are those of its callers: it
//! says whose each is.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tokio::{task::futures::TaskLocalFuture, task_local};
use tonic::transport::server::TcpConnectInfo;

/// Names the caller in a gateway's calls.
const HEADER: HeaderName = HeaderName::from_static("c3-caller");

task_local! {
    /// For whom the current task works.
    static CURRENT: Caller;
}

/// Who calls: a connection, by a number that no other gateway's callers have, near enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Caller(pub u64);

/// Whom a server takes for its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Each connection.
    Connections,
    /// Whom gateways name, and each connection that names nobody.
    Named,
}

/// Calls in flight, by caller.
#[derive(Debug, Default)]
pub struct InFlight(HashMap<Caller, usize>);

impl InFlight {
    /// Callers who have some.
    pub fn callers(&self) -> usize {
        self.0.len()
    }

    /// Those of one caller.
    pub fn of(&self, caller: Caller) -> usize {
        self.0.get(&caller).copied().unwrap_or(0)
    }

    /// A call of his begins.
    pub fn begin(&mut self, caller: Caller) {
        *self.0.entry(caller).or_default() += 1;
    }

    /// One ended.
    pub fn end(&mut self, caller: Caller) {
        if let Some(calls) = self.0.get_mut(&caller) {
            *calls -= 1;
            if *calls == 0 {
                self.0.remove(&caller);
            }
        }
    }
}

/// For whom the current task works; the same one wherever that is not known.
pub fn current() -> Caller {
    CURRENT.try_get().unwrap_or_default()
}

/// `work` for the current caller, in a task of its own.
pub fn carried<W: Future>(work: W) -> TaskLocalFuture<Caller, W> {
    CURRENT.scope(current(), work)
}

impl Caller {
    /// Who makes a call.
    pub(crate) fn of<B>(request: &Request<B>, callers: Callers) -> Self {
        let named = || request.headers().get(HEADER)?.to_str().ok()?.parse().ok().map(Self);
        let named = (callers == Callers::Named).then(named).flatten();
        named.unwrap_or_else(|| Self::connection(request))
    }

    /// The connection that a call came by.
    pub(crate) fn connection<B>(request: &Request<B>) -> Self {
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let address = request.extensions().get().and_then(TcpConnectInfo::remote_addr);
        Self(HASHER.hash_one(address))
    }

    /// `work` done for this caller.
    pub fn within<T>(self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, work)
    }

    /// Names the current caller in a call on a node.
    pub(crate) fn name(headers: &mut HeaderMap) {
        if let Ok(Self(number)) = CURRENT.try_get() {
            headers.insert(HEADER, HeaderValue::from(number));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use tonic::service::Interceptor;

    use super::*;
    use crate::propagation::Propagate;

    fn from(port: u16, headers: HeaderMap) -> Request<()> {
        let mut request = Request::new(());
        *request.headers_mut() = headers;
        let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        request.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr: Some(remote) });
        request
    }

    #[tokio::test]
    async fn a_node_knows_a_gateways_callers_and_a_gateway_believes_no_name() {
        let ours = Caller::of(&from(1, HeaderMap::new()), Callers::Connections);
        let sent = || Propagate.call(tonic::Request::new(())).unwrap().into_parts().0.into_headers();
        let task = ours.within(|| tokio::spawn(carried(async move { sent() })));
        let sent = task.await.unwrap();
        assert_eq!(Caller::of(&from(2, sent.clone()), Callers::Named), ours);
        let two = Caller::of(&from(2, HeaderMap::new()), Callers::Connections);
        assert_ne!(two, ours);
        assert_eq!(Caller::of(&from(2, sent), Callers::Connections), two);
        // Who names nobody is himself.
        assert_eq!(Caller::of(&from(2, HeaderMap::new()), Callers::Named), two);
    }
}
