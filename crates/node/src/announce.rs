//! Announcement of a node to gateways. A gateway grants a lease, and the node renews the lease before it expires.

use std::time::Duration;

use c3_proto::ToWire;
use c3_proto::pb;
use c3_proto::pb::registry_client::RegistryClient;
use c3_server::propagation::Unsampled;
use c3_tls::{Credentials, Target, explain_status};
use tonic::Code;

use crate::Node;
use crate::queue::Job;

/// Timeout of an announcement. The gateway calls the node back before it answers.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Delay before the next attempt after a failed announcement.
const RETRY_DELAY: Duration = Duration::from_secs(2);
/// Number of announcements in the duration of a lease: the lease is renewed after a third of its duration.
const RENEWALS_PER_LEASE: u32 = 3;

/// Announces the node to one gateway repeatedly, until the future is dropped.
pub(crate) async fn announce<J: Job, M>(node: Node<J, M>, credentials: Credentials, gateway: String, address: String) {
    // Result of the last attempt that was logged; `None` before the first attempt.
    let mut logged: Option<Result<(), String>> = None;
    loop {
        // A node that is loading has not failed. It is announced once it can describe itself.
        while node.loaded().is_err() {
            tokio::time::sleep(RETRY_DELAY).await;
        }
        let lease = announce_once(&node, &credentials, &gateway, &address).await;
        let delay = lease.as_ref().map_or(RETRY_DELAY, |lease| *lease / RENEWALS_PER_LEASE);
        let result = Some(lease.map(drop));
        // Only a changed result is logged, not every attempt.
        if result != logged {
            match &result {
                Some(Err(reason)) => tracing::warn!(gateway, address, reason, "cannot announce this node"),
                _ => tracing::info!(gateway, address, "announced"),
            }
            logged = result;
        }
        tokio::time::sleep(delay).await;
    }
}

/// Announces the node once. Returns the duration of the lease that the gateway grants, or the reason of the failure.
async fn announce_once<J: Job, M>(
    node: &Node<J, M>,
    credentials: &Credentials,
    gateway: &str,
    address: &str,
) -> Result<Duration, String> {
    let loaded = node.loaded().map_err(|error| error.to_string())?;
    let target = Target::new(gateway, credentials)?;
    let request = pb::AnnounceRequest {
        address: address.to_owned(),
        stage: node.stage().to_wire(),
        fingerprint: loaded.info.cascade.fingerprint(node.stage()).to_wire(),
    };
    let channel = target.with(|endpoint| endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT)).connect_lazy();
    let mut registry = RegistryClient::with_interceptor(channel, Unsampled);
    let response = registry.announce(request).await.map_err(|status| match status.code() {
        Code::Unimplemented => "the gateway accepts no announcements: start it with --accept-nodes".to_owned(),
        _ => explain_status(&status),
    })?;
    Ok(Duration::from_millis(response.into_inner().lease_ms))
}
