//! The `c3.v1.Registry` service, which nodes call to announce themselves.

use c3_proto::{FromWire, pb};
use c3_routing::Announcement;
use c3_server::ServiceError;
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
        let announcement = Announcement::from_wire(request.into_inner()).map_err(|invalid| invalid.status())?;
        let lease = self.tenants.router.announce(announcement).await.map_err(|error| error.status())?;
        Ok(Response::new(pb::AnnounceResponse { lease_ms: lease.as_millis() as u64 }))
    }
}
