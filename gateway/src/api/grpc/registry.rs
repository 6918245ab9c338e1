//! The `c3.v1.Registry` service: nodes that announce themselves.

use c3_proto::pb;
use c3_server::Fault;
use tonic::{Request, Response, Status};

use crate::error::Failure;
use crate::gateway::SharedGateway;
use crate::nodes::sources::Announcement;

/// The service over a gateway.
pub(crate) struct Announcements {
    gateway: SharedGateway,
}

impl Announcements {
    /// The service over a gateway.
    pub(crate) fn new(gateway: SharedGateway) -> Self {
        Self { gateway }
    }
}

#[tonic::async_trait]
impl pb::registry_server::Registry for Announcements {
    async fn announce(
        &self,
        request: Request<pb::AnnounceRequest>,
    ) -> Result<Response<pb::AnnounceResponse>, Status> {
        let announcement = Announcement::from_wire(request.into_inner()).map_err(Failure::from);
        let lease = match announcement {
            Ok(announcement) => self.gateway.nodes.announce(announcement).await,
            Err(invalid) => Err(invalid),
        };
        let lease_ms = lease.map_err(|failure| failure.status())?.as_millis() as u64;
        Ok(Response::new(pb::AnnounceResponse { lease_ms }))
    }
}
