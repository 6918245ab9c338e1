//! The principal of a call: the caller that the call is made for. A node divides the model's time fairly among
//! principals. It sees all calls of a gateway on one connection, so the gateway names each call's principal in a
//! header.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, RandomState};
use std::sync::LazyLock;

use c3_types::TenantId;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tokio::task::futures::TaskLocalFuture;
use tokio::task_local;
use tonic::transport::server::TcpConnectInfo;

/// Header in which a gateway names the principal to a node.
const HEADER: HeaderName = HeaderName::from_static("c3-caller");

task_local! {
    /// Principal that the current task works for.
    static CURRENT: Principal;
}

/// A caller: a tenant or, without access control, a connection to a gateway, or to a node if there is no gateway. The
/// number of a connection is a keyed hash of the peer's address, so numbers of different gateways practically never
/// collide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Principal(pub u64);

/// Source of a call's principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalSource {
    /// The connection.
    Connection,
    /// The header that gateways set; the connection if the header is missing or malformed.
    Header,
}

/// Number of calls in flight of each principal.
#[derive(Debug, Default)]
pub struct InFlightCounts(HashMap<Principal, usize>);

impl InFlightCounts {
    /// Returns the number of principals that have calls in flight.
    pub fn principals(&self) -> usize {
        self.0.len()
    }

    /// Returns the number of calls in flight of one principal.
    pub fn count(&self, principal: Principal) -> usize {
        self.0.get(&principal).copied().unwrap_or(0)
    }

    /// Counts a call that begins.
    pub fn add(&mut self, principal: Principal) {
        *self.0.entry(principal).or_default() += 1;
    }

    /// Counts a call that ended.
    pub fn remove(&mut self, principal: Principal) {
        if let Some(calls) = self.0.get_mut(&principal) {
            *calls -= 1;
            if *calls == 0 {
                self.0.remove(&principal);
            }
        }
    }
}

/// Returns the principal that the current task works for. Tasks without a principal share the default principal.
pub fn current() -> Principal {
    CURRENT.try_get().unwrap_or_default()
}

/// Runs `work` for the current principal. Use it for spawned tasks, which otherwise have no principal.
pub fn inherit<W: Future>(work: W) -> TaskLocalFuture<Principal, W> {
    CURRENT.scope(current(), work)
}

impl Principal {
    /// Returns the principal of a call.
    pub(crate) fn from_request<B>(request: &Request<B>, source: PrincipalSource) -> Self {
        let named = || request.headers().get(HEADER)?.to_str().ok()?.parse().ok().map(Self);
        let named = (source == PrincipalSource::Header).then(named).flatten();
        named.unwrap_or_else(|| Self::connection(request))
    }

    /// Returns the principal of a tenant. It is the same in all gateways of one version.
    pub(crate) fn of_tenant(tenant: &TenantId) -> Self {
        Self(BuildHasherDefault::<DefaultHasher>::default().hash_one(tenant))
    }

    /// Returns the principal that identifies a call's connection.
    pub(crate) fn connection<B>(request: &Request<B>) -> Self {
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let address = request.extensions().get().and_then(TcpConnectInfo::remote_addr);
        Self(HASHER.hash_one(address))
    }

    /// Runs `work` for this principal.
    pub fn scope<T>(self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, work)
    }

    /// Names the current principal, if any, in the headers of an outgoing call.
    pub(crate) fn inject(headers: &mut HeaderMap) {
        if let Ok(Self(number)) = CURRENT.try_get() {
            headers.insert(HEADER, HeaderValue::from(number));
        }
    }
}
