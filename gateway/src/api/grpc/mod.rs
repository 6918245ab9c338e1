//! The gRPC transport: the services `c3.v1.Gateway` and `c3.v1.Registry`.

mod gateway;
mod inbound;
mod registry;

use std::sync::Arc;

use c3_proto::pb::gateway_server::GatewayServer;
use c3_proto::pb::registry_server::RegistryServer;
use c3_types::limits::MESSAGE_BYTES_MAX;
use tonic::service::Routes;

pub(crate) use c3_proto::pb::gateway_server::SERVICE_NAME;
pub(crate) use c3_proto::pb::registry_server::SERVICE_NAME as REGISTRY_NAME;

use self::gateway::GatewayService;
use self::registry::RegistryService;
use crate::tenants::SharedTenants;

/// Returns the routes of the gateway service and, if nodes may announce themselves, of the registry service.
pub(crate) fn routes(tenants: SharedTenants) -> axum::Router {
    let service = GatewayServer::new(GatewayService::new(Arc::clone(&tenants)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let mut routes = Routes::new(service);
    if tenants.config.accept_nodes {
        routes = routes.add_service(RegistryServer::new(RegistryService::new(tenants)));
    }
    routes.into_axum_router()
}
