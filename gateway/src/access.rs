//! Access control of the gateway: its flags, and the scope that each method requires.

use std::path::PathBuf;
use std::sync::Arc;

use c3_access::{Control, JwtSettings, Settings};
use c3_server::access::{Access, Requirement, Scope};
use c3_server::audit::AuditLog;

use crate::error::StartError;

const READ: Requirement = Requirement::Scope(Scope::Read);
const WRITE: Requirement = Requirement::Scope(Scope::Write);
const DELETE: Requirement = Requirement::Scope(Scope::Delete);
const ADMIN: Requirement = Requirement::Scope(Scope::Admin);

/// Requirement of every method. A method without an entry is refused.
const REQUIREMENTS: &[(&str, Requirement)] = &[
    ("c3.v1.Gateway/PutDocument", WRITE),
    ("c3.v1.Gateway/GetText", READ),
    ("c3.v1.Gateway/GetLatents", READ),
    ("c3.v1.Gateway/PutLatents", WRITE),
    ("c3.v1.Gateway/Stat", READ),
    ("c3.v1.Gateway/List", READ),
    ("c3.v1.Gateway/Delete", DELETE),
    ("c3.v1.Gateway/Search", READ),
    ("c3.v1.Gateway/Reindex", WRITE),
    ("c3.v1.Gateway/StartReindex", WRITE),
    ("c3.v1.Gateway/GetReindex", READ),
    ("c3.v1.Gateway/SetName", WRITE),
    ("c3.v1.Gateway/GetName", READ),
    ("c3.v1.Gateway/RemoveName", DELETE),
    ("c3.v1.Gateway/ListNames", READ),
    ("c3.v1.Gateway/SetLabels", WRITE),
    ("c3.v1.Gateway/Totals", READ),
    ("c3.v1.Gateway/Recode", WRITE),
    ("c3.v1.Gateway/Uploads", READ),
    ("c3.v1.Gateway/Sweep", ADMIN),
    ("c3.v1.Gateway/Check", ADMIN),
    ("c3.v1.Gateway/Compress", WRITE),
    ("c3.v1.Gateway/Decompress", READ),
    // Clients read the ratios of the models from it before they write.
    ("c3.v1.Gateway/Nodes", Requirement::Key),
    // Nodes have no keys: their certificates identify them.
    ("c3.v1.Registry/Announce", Requirement::Open),
    ("PUT /v1/documents", WRITE),
    ("POST /v1/documents", WRITE),
    ("GET /v1/documents", READ),
    ("GET /v1/documents/{ref}", READ),
    ("DELETE /v1/documents/{ref}", DELETE),
    ("POST /v1/documents/{ref}/append", WRITE),
    ("POST /v1/documents/{ref}/recode", WRITE),
    ("GET /v1/documents/{ref}/text", READ),
    ("GET /v1/documents/{ref}/drafts/{window}", READ),
    ("GET /v1/documents/{ref}/latents", READ),
    ("GET /v1/documents/{ref}/labels", READ),
    ("PUT /v1/documents/{ref}/labels", WRITE),
    ("PATCH /v1/documents/{ref}/labels", WRITE),
    ("DELETE /v1/documents/{ref}/labels", WRITE),
    ("POST /v1/search", READ),
    ("POST /v1/documents/{ref}/reindex", WRITE),
    ("POST /v1/reindex", WRITE),
    ("GET /v1/reindex", READ),
    ("GET /v1/names", READ),
    ("GET /v1/names/{namespace}/{name}", READ),
    ("PUT /v1/names/{namespace}/{name}", WRITE),
    ("DELETE /v1/names/{namespace}/{name}", DELETE),
    ("POST /v1/latents", WRITE),
    ("POST /v1/compress", WRITE),
    ("POST /v1/decompress", READ),
    ("GET /v1/uploads", READ),
    ("GET /v1/nodes", Requirement::Key),
    ("GET /v1/totals", READ),
    // The same for every caller.
    ("GET /docs", Requirement::Open),
    ("GET /openapi.json", Requirement::Open),
    ("GET /.well-known/oauth-protected-resource", Requirement::Open),
    ("GET /console", Requirement::Open),
    ("GET /console/", Requirement::Open),
    ("GET /console/{path}", Requirement::Open),
    // Tell a caller only about the credentials that it sends.
    ("GET /console/session", Requirement::Open),
    ("POST /console/session", Requirement::Open),
    ("DELETE /console/session", Requirement::Open),
];

/// Returns the requirement of a method, such as `c3.v1.Gateway/Stat` or `GET /v1/documents/{ref}`; `None` if it has no
/// entry.
pub(crate) fn requirement(method: &str) -> Option<Requirement> {
    // A route that matches the rest of a path has a star in its pattern, which OpenAPI does not know.
    let method = method.replace("{*", "{");
    REQUIREMENTS.iter().find(|(name, _)| *name == method).map(|(_, requirement)| *requirement)
}

/// Settings of access control. Without an access file and an issuer, every caller is the tenant `default`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct AccessArgs {
    /// Access file with API keys and tenants, which `c3 key` and `c3 tenant` edit. Read again when it changes
    #[arg(long = "access", env = "C3_ACCESS", value_name = "FILE")]
    pub access_file: Option<PathBuf>,
    /// Issuer of JSON web tokens, as in their claim `iss`
    #[arg(long, env = "C3_JWT_ISSUER", value_name = "URL", requires = "jwt_audience")]
    pub jwt_issuer: Option<String>,
    /// Audience of JSON web tokens, which names this service. If it is a URL, clients find the issuer there
    #[arg(long, env = "C3_JWT_AUDIENCE", value_name = "AUDIENCE", requires = "jwt_issuer")]
    pub jwt_audience: Option<String>,
    /// URL of the issuer's public keys [default: the one in the issuer's discovery document]
    #[arg(long, env = "C3_JWKS_URL", value_name = "URL", requires = "jwt_issuer")]
    pub jwks_url: Option<String>,
    /// Claim of JSON web tokens that has the tenant [default: tenant]
    #[arg(long, env = "C3_JWT_TENANT_CLAIM", value_name = "CLAIM", requires = "jwt_issuer")]
    pub jwt_tenant_claim: Option<String>,
    /// File to which administrative and destructive calls are appended, as JSON lines
    #[arg(long, env = "C3_AUDIT_LOG", value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
}

impl AccessArgs {
    /// Starts access control. Returns `None` if no credentials are configured.
    pub(crate) fn start(&self) -> Result<Option<(Arc<Control>, Access)>, StartError> {
        let jwt = match (&self.jwt_issuer, &self.jwt_audience) {
            (Some(issuer), Some(audience)) => Some(JwtSettings {
                issuer: issuer.clone(),
                audience: audience.clone(),
                jwks_url: self.jwks_url.clone(),
                tenant_claim: self.jwt_tenant_claim.clone().unwrap_or_else(|| "tenant".to_owned()),
            }),
            _ => None,
        };
        if self.access_file.is_none() && jwt.is_none() {
            return match self.audit_log {
                None => Ok(None),
                Some(_) => Err(StartError::Setting {
                    flag: "--audit-log",
                    problem: "needs --access or --jwt-issuer, since it records who calls".to_owned(),
                }),
            };
        }
        let audit = self.audit_log.as_deref().map(|path| {
            let problem = |error| format!("cannot open {}: {error}", path.display());
            AuditLog::open(path).map_err(|error| StartError::Setting { flag: "--audit-log", problem: problem(error) })
        });
        let audit = audit.transpose()?.map(Arc::new);
        let control = Control::start(Settings { file: self.access_file.clone(), jwt })?;
        let access = Access { control: Arc::clone(&control) as _, requirement, audit };
        Ok(Some((control, access)))
    }
}

#[cfg(test)]
mod tests {
    use c3_proto::pb;
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_rpc_of_the_gateway_has_a_requirement() {
        let files = FileDescriptorSet::decode(pb::FILE_DESCRIPTOR_SET).unwrap();
        let services = files.file.iter().flat_map(|file| file.service.iter().map(|service| (file.package(), service)));
        let mut methods = Vec::new();
        for (package, service) in services.filter(|(_, service)| matches!(service.name(), "Gateway" | "Registry")) {
            let name = |method| format!("{package}.{}/{method}", service.name());
            methods.extend(service.method.iter().map(|method| name(method.name().to_owned())));
        }
        assert!(methods.len() >= 21, "{methods:?}");
        for method in &methods {
            assert!(requirement(method).is_some(), "{method} has no requirement");
        }
        let listed = REQUIREMENTS.iter().filter(|(name, _)| name.starts_with("c3."));
        for (name, _) in listed {
            assert!(methods.iter().any(|method| method == name), "{name} is no method");
        }
    }

    #[test]
    fn only_methods_without_data_are_open() {
        let open = REQUIREMENTS.iter().filter(|(_, requirement)| *requirement == Requirement::Open);
        let open = Vec::from_iter(open.map(|(name, _)| *name));
        let without_data = [
            "c3.v1.Registry/Announce",
            "GET /docs",
            "GET /openapi.json",
            "GET /.well-known/oauth-protected-resource",
            "GET /console",
            "GET /console/",
            "GET /console/{path}",
            "GET /console/session",
            "POST /console/session",
            "DELETE /console/session",
        ];
        assert_eq!(open, without_data);
        assert_eq!(requirement("GET /v1/new"), None);
        assert_eq!(requirement("DELETE /v1/names/{namespace}/{*name}"), Some(DELETE));
    }
}
