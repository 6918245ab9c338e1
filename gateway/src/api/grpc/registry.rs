//! The `c3.v1.Registry` service, which nodes call to announce themselves.

use c3_proto::{FromWire, pb};
use c3_routing::Announcement;
use c3_server::{PeerIdentity, ServiceError};
use tonic::{Request, Response, Status};

use crate::tenants::SharedTenants;

pub(super) struct RegistryService {
    tenants: SharedTenants,
}

impl RegistryService {
    pub(super) fn new(tenants: SharedTenants) -> Self {
        Self { tenants }
    }
}

#[tonic::async_trait]
impl pb::registry_server::Registry for RegistryService {
    async fn announce(&self, request: Request<pb::AnnounceRequest>) -> Result<Response<pb::AnnounceResponse>, Status> {
        let peer = request.extensions().get::<PeerIdentity>().cloned();
        let announcement = Announcement::from_wire(request.into_inner()).map_err(|invalid| invalid.status())?;
        let announced = self.tenants.router.announce(announcement, peer.as_ref()).await;
        let lease = announced.map_err(|error| error.status())?;
        Ok(Response::new(pb::AnnounceResponse { lease_ms: lease.as_millis() as u64 }))
    }
}
