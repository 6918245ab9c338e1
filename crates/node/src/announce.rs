//! A node that announces itself to gateways, again and again before its lease lapses.

use std::time::Duration;

use c3_proto::pb::{self, registry_client::RegistryClient};
use c3_server::Kind;
use tonic::transport::Endpoint;

use crate::{Node, queue::Job};

/// How long a gateway has to answer: it calls back meanwhile.
const ANSWER: Duration = Duration::from_secs(10);
/// How long to wait after a refusal, or where no gateway answers.
const AGAIN: Duration = Duration::from_secs(2);
/// Of a lease, one over this passes before it is renewed.
const RENEW_PART: u32 = 3;

/// Announces the node to one gateway for as long as it is polled.
pub(crate) async fn announce<J: Job, M>(node: Node<J, M>, gateway: String, address: String) {
    let mut told = None;
    loop {
        let result = once(&node, &gateway, &address).await;
        let wait = match &result {
            Ok(lease) => *lease / RENEW_PART,
            Err(_) => AGAIN,
        };
        let said = result.err();
        // Each news once, not every two seconds.
        if said != told {
            match &said {
                None => tracing::info!(gateway, address, "announced"),
                Some(why) => tracing::warn!(gateway, address, why, "the gateway does not take this node"),
            }
            told = said;
        }
        tokio::time::sleep(wait).await;
    }
}

async fn once<J: Job, M>(node: &Node<J, M>, gateway: &str, address: &str) -> Result<Duration, String> {
    let served = node.served().map_err(|status| status.message().to_owned())?;
    let endpoint = Endpoint::from_shared(gateway.to_owned()).map_err(|error| error.to_string())?;
    let request = pb::AnnounceRequest {
        address: address.to_owned(),
        stage: node.stage().to_wire(),
        fingerprint: served.facts.cascade.fingerprint(node.stage()).to_wire(),
    };
    let mut registry = RegistryClient::new(endpoint.connect_timeout(ANSWER).timeout(ANSWER).connect_lazy());
    let answer = registry.announce(request).await.map_err(|status| match Kind::of(&status) {
        Kind::InvalidInput if status.code() == tonic::Code::Unimplemented => {
            "it takes no announcements: start it with --accept-nodes".to_owned()
        }
        _ => status.message().to_owned(),
    })?;
    Ok(Duration::from_millis(answer.into_inner().lease_ms))
}
