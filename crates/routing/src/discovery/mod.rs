//! Discovery: adds nodes from the configuration, from DNS and from their own announcements to the [`Registry`].

mod dns;
pub(crate) mod registry;

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use c3_proto::{FromWire, pb};
use c3_tls::PeerIdentity;
use c3_types::{Fingerprint, Invalid, Stage};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::codegen::http::Uri;

use crate::error::{Error, StartError};
use crate::health;
use crate::node::Health;

use dns::DnsName;
use registry::Origin;
pub(crate) use registry::Registry;

/// Interval at which DNS names are resolved.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(5);
/// Duration of a lease: a node must announce itself again before the lease ends.
const LEASE: Duration = Duration::from_secs(15);
/// Interval at which expired leases are removed.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);
/// Timeout of the call back to a node that announces itself.
const CALLBACK_TIMEOUT: Duration = Duration::from_secs(3);

/// Starts health checks and discovery. They end when `shutdown` is cancelled.
pub(crate) fn start(registry: &Arc<Registry>, shutdown: &CancellationToken) -> Result<(), StartError> {
    let thread = registry.start_health_checks(shutdown)?;
    for dns in registry.dns_names() {
        thread.spawn(follow_dns(Arc::downgrade(registry), dns.clone()));
    }
    thread.spawn(remove_expired(Arc::downgrade(registry)));
    let followed = Arc::clone(registry);
    thread.spawn(async move { followed.follow_stages().await });
    Ok(())
}

/// Adds and removes the nodes of a DNS name as its addresses change. If the name does not resolve, its nodes stay,
/// because health checks exclude dead nodes.
async fn follow_dns(registry: Weak<Registry>, dns: DnsName) {
    let (mut failing, DnsName { stage, name, .. }) = (false, &dns);
    loop {
        let resolved = tokio::net::lookup_host(name).await;
        let Some(registry) = registry.upgrade() else { return };
        match resolved {
            Ok(addresses) => {
                failing = false;
                let addresses: BTreeSet<_> = addresses.map(|address| dns.url(address)).collect();
                registry.set_resolved(&dns, &addresses);
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%stage, name, %error, "DNS name does not resolve: keeping its nodes");
                }
            }
        }
        drop(registry);
        sleep(RESOLVE_INTERVAL).await;
    }
}

async fn remove_expired(registry: Weak<Registry>) {
    loop {
        sleep(EXPIRY_INTERVAL).await;
        let Some(registry) = registry.upgrade() else { return };
        registry.remove_expired(Instant::now());
    }
}

/// Announcement by which a node asks this gateway for calls.
#[derive(Clone, Debug)]
pub struct Announcement {
    stage: Stage,
    address: String,
    fingerprint: Fingerprint,
}

impl FromWire<pb::AnnounceRequest> for Announcement {
    fn from_wire(wire: pb::AnnounceRequest) -> Result<Self, Invalid> {
        let stage = Stage::from_wire(wire.stage)?;
        let fingerprint = Fingerprint::try_from(wire.fingerprint.as_ref())?;
        Ok(Self { stage, address: wire.address, fingerprint })
    }
}

impl Announcement {
    /// Adds the node, or renews its lease, and returns the lease's duration. A node from the configuration or DNS has
    /// no lease, so its announcement changes nothing. `peer` is the identity of the caller.
    ///
    /// Errors: the address is malformed or unreachable, or a node of another stage or model answers there. If the CAs
    /// of nodes are configured, also: the address is not `https://`, or the caller's certificate does not cover it.
    pub(crate) async fn accept(self, peer: Option<&PeerIdentity>, registry: &Arc<Registry>) -> Result<Duration, Error> {
        let Self { stage, address, fingerprint } = self;
        if registry.has_ca() {
            check_identity(&address, peer).map_err(|reason| {
                if let Some(suppressed) = registry.refusal_lines.permit(stage) {
                    tracing::warn!(%stage, address, reason, suppressed, "refused the announcement of a node");
                }
                Error::AnnouncementForbidden(format!("{stage} at `{address}` is refused: {reason}"))
            })?;
        }
        if registry.renew(stage, &address, Instant::now() + LEASE) {
            return Ok(LEASE);
        }
        let refused = |reason: String| {
            if let Some(suppressed) = registry.refusal_lines.permit(stage) {
                tracing::warn!(%stage, address, reason, suppressed, "refused the announcement of a node");
            }
            Error::AnnouncementRefused(format!("{stage} at `{address}` is refused ({reason}): check --advertise-as"))
        };
        let node = registry.new_node(stage, &address.as_str().into()).map_err(|error| refused(error.to_string()))?;
        let answer = timeout(CALLBACK_TIMEOUT, health::describe(stage, &node.health_channel())).await;
        let info = match answer {
            Ok(Ok(info)) => info,
            Ok(Err(Health::Ready)) => return Err(refused("it gives no description".to_owned())),
            Ok(Err(Health::Unreachable(reason) | Health::NotServing(reason) | Health::Refused(reason))) => {
                return Err(refused(format!("the call back to it failed: {reason}")));
            }
            Err(_) => return Err(refused("it did not answer the call back".to_owned())),
        };
        let served = info.cascade().fingerprint(stage);
        if info.description.stage != stage || served != fingerprint {
            let answering = info.description.stage;
            return Err(refused(format!("a {answering} with fingerprint {served} answers there")));
        }
        let node = Arc::new(node);
        let health = registry.judge(&node, &info.description);
        node.set_info(info, health);
        tracing::info!(%stage, address, "added a node that announced itself");
        registry.add(node, Origin::Lease(Instant::now() + LEASE));
        Ok(LEASE)
    }
}

/// Fails with the reason if the announced address does not belong to the peer: it must be `https://`, and the peer's
/// certificate must be valid for its host.
fn check_identity(address: &str, peer: Option<&PeerIdentity>) -> Result<(), String> {
    let Some(peer) = peer else {
        return Err("it presented no certificate: give the node --tls-cert, --tls-key and --tls-ca".to_owned());
    };
    let uri = address.parse::<Uri>().map_err(|error| error.to_string())?;
    if uri.scheme_str() != Some("https") {
        return Err("nodes here speak TLS: announce an https:// address".to_owned());
    }
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    if peer.covers(host) {
        return Ok(());
    }
    let names = peer.names().join(", ");
    Err(format!("the certificate of the announcing node is for {names}, not for `{host}`: check --advertise-as"))
}
