//! Where nodes come from beside a fixed list: names in DNS that are resolved again and again, and nodes that announce
//! themselves for as long as a lease.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use c3_proto::{Fingerprint, Invalid, Stage, pb};
use tokio::time::{Instant, sleep, timeout};

use super::node::{Condition, Node};
use super::probe::describe;
use super::registry::{Origin, Registry};
use crate::error::Failure;

/// What an address begins with that is a name of several nodes.
pub(super) const DNS: &str = "dns://";
/// How often a name is resolved.
const RESOLVE_EVERY: Duration = Duration::from_secs(5);
/// How long an announcement holds.
const LEASE: Duration = Duration::from_secs(15);
/// How often leases are looked at.
const LAPSE_EVERY: Duration = Duration::from_secs(1);
/// How long a node that announces itself has to be reached.
const CALL_BACK: Duration = Duration::from_secs(3);

/// Keeps the nodes of a name in step with what DNS says of it. Where DNS says nothing they stay: their probes tell
/// whether they live.
pub(super) async fn follow_name(registry: Weak<Registry>, stage: Stage, name: String) {
    let mut said_so = false;
    loop {
        let found = tokio::net::lookup_host(&name).await;
        let Some(registry) = registry.upgrade() else { return };
        match found {
            Ok(addresses) => {
                said_so = false;
                let addresses: BTreeSet<_> = addresses.map(|address| format!("http://{address}")).collect();
                registry.set_resolved(stage, &name, &addresses);
            }
            Err(error) if !said_so => {
                said_so = true;
                tracing::warn!(%stage, name, %error, "the name is not resolved; its nodes stay as they were");
            }
            Err(_) => {}
        }
        drop(registry);
        sleep(RESOLVE_EVERY).await;
    }
}

/// Lets nodes go whose lease lapsed.
pub(super) async fn let_lapse(registry: Weak<Registry>) {
    loop {
        sleep(LAPSE_EVERY).await;
        let Some(registry) = registry.upgrade() else { return };
        registry.drop_lapsed(Instant::now());
    }
}

/// A node as it announces itself.
#[derive(Clone, Debug)]
pub(crate) struct Announcement {
    stage: Stage,
    address: String,
    fingerprint: Fingerprint,
}

impl Announcement {
    /// Checks what arrived.
    pub(crate) fn from_wire(wire: pb::AnnounceRequest) -> Result<Self, Invalid> {
        let stage = match wire.stage() {
            pb::Stage::Compressor => Stage::Compressor,
            pb::Stage::Decoder => Stage::Decoder,
            pb::Stage::Unspecified => return Err(Invalid::new("stage", "must be given")),
        };
        let fingerprint = Fingerprint::try_from(wire.fingerprint.as_ref())?;
        Ok(Self { stage, address: wire.address, fingerprint })
    }

    /// Takes the node in, or renews its lease. Errors: it cannot be reached back, or is not what it says.
    pub(super) async fn accept(self, registry: &Arc<Registry>) -> Result<Duration, Failure> {
        let Self { stage, address, fingerprint } = self;
        if registry.renew(stage, &address, Instant::now() + LEASE) {
            return Ok(LEASE);
        }
        let refused = |why: String| {
            tracing::warn!(%stage, address, why, "a node that announced itself is refused");
            Failure::Unsupported(format!("{stage} at `{address}` is refused: {why}"))
        };
        let node = registry.node(stage, &address).map_err(|error| refused(error.to_string()))?;
        let answer = timeout(CALL_BACK, describe(stage, &node.connection_for_probes())).await;
        let known = match answer {
            Ok(Ok(known)) => known,
            Ok(Err(Condition::Ready)) => return Err(refused("it says nothing of itself".to_owned())),
            Ok(Err(Condition::Unreachable(why) | Condition::NotServing(why) | Condition::Refused(why))) => {
                return Err(refused(format!("calling it back fails: {why}")));
            }
            Err(_) => return Err(refused("it does not answer when it is called back".to_owned())),
        };
        let served = known.cascade().fingerprint(stage);
        if known.description.stage != stage || served != fingerprint {
            let what = known.description.stage;
            return Err(refused(format!("what answers there is a {what} with fingerprint {served}")));
        }
        let node: Arc<Node> = Arc::new(node);
        let condition = registry.judge(&node, &known.description);
        node.described(known, condition);
        tracing::info!(%stage, address, "a node announced itself");
        registry.add(node, Origin::Lease(Instant::now() + LEASE));
        Ok(LEASE)
    }
}
