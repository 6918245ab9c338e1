//! Access control: who makes a call, and whether the caller may make it.
//!
//! A server without access control serves every caller as the tenant `default`. With it, the call layer authenticates
//! every call, compares the caller's scopes with those that the method requires, and counts the call against the
//! tenant's quotas. The tenant always comes from the credentials, never from the request.

use std::fmt;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::extract::{Request as AxumRequest, State};
use axum::middleware::Next;
use axum::response::Response;
use c3_types::{Invalid, TenantId};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::audit::AuditLog;
use crate::call::Protocol;
use crate::error::ErrorKind;

/// Group of methods that a key may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Read documents, names, labels and lists.
    Read,
    /// Store texts and latents, and set names and labels.
    Write,
    /// Delete documents and names.
    Delete,
    /// Maintain the tenant's store, and read metrics and descriptions of the server.
    Admin,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Delete, Self::Admin];

    /// Returns the name in key files and tokens.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = Invalid;

    fn from_str(typed: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == typed);
        found.ok_or_else(|| Invalid::new("scope", format!("`{typed}` is none of read, write, delete and admin")))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Set of scopes. No scope includes another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Returns the set of all scopes.
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Returns whether the set contains a scope.
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// Returns whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Iterates over the scopes of the set.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | 1 << scope as u8))
    }
}

/// Credentials that a method requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// None.
    Open,
    /// Valid credentials with any scope.
    Key,
    /// Valid credentials with this scope.
    Scope(Scope),
}

/// Identity that credentials prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Owner of the documents that the caller sees.
    pub tenant: TenantId,
    /// Scopes of the credentials.
    pub scopes: Scopes,
    /// Id of the API key, or subject of the token. Safe to log.
    pub name: String,
}

impl Identity {
    /// Returns the identity of every caller of a server without access control.
    pub fn anonymous() -> Self {
        Self { tenant: TenantId::default(), scopes: Scopes::all(), name: "anonymous".to_owned() }
    }
}

/// The caller of a call, in the extensions of the request.
#[derive(Debug)]
pub struct Caller {
    /// Identity of the caller.
    pub identity: Identity,
    subject: OnceLock<String>,
}

impl Caller {
    /// Creates the caller of one call.
    pub fn new(identity: Identity) -> Self {
        Self { identity, subject: OnceLock::new() }
    }

    /// Names the document, name or other object that the call is about, for the audit log. Only the first name counts.
    pub fn about(&self, subject: impl Into<String>) {
        let _ = self.subject.set(subject.into());
    }

    /// Returns the object that the call is about.
    pub(crate) fn subject(&self) -> Option<&str> {
        self.subject.get().map(String::as_str)
    }
}

/// Refusal of a call by access control.
#[derive(Clone, Debug)]
pub struct Denied {
    /// Kind, which decides the status code.
    pub kind: ErrorKind,
    /// Message for the caller. It depends neither on the reason why credentials are invalid nor on stored documents.
    pub message: String,
    /// Headers of the response, or metadata in gRPC.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Denied {
    /// Returns the response in a protocol.
    pub(crate) fn response(self, protocol: Protocol) -> Response {
        let mut response: Response = match protocol {
            Protocol::Grpc => self.kind.status(self.message).into_http(),
            Protocol::Http => self.kind.problem(self.message).into_response().map(Body::from),
        };
        response.headers_mut().extend(self.headers);
        response
    }
}

/// Share of the tenant's quotas that a call holds until it is dropped.
pub struct Lease {
    /// Headers that tell the caller what is left of the quotas.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Released when the call ends.
    pub guard: Box<dyn Send + Sync>,
}

/// Authenticates callers and applies quotas.
pub trait AccessControl: fmt::Debug + Send + Sync {
    /// Returns a future to await before [`Self::authenticate`], if the credentials need keys that must be fetched
    /// first.
    fn prepare(&self, headers: &HeaderMap) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>>;

    /// Returns the identity that the headers of a request prove. Takes the same time for unknown and for wrong API keys.
    fn authenticate(&self, method: &Method, headers: &HeaderMap) -> Result<Identity, Denied>;

    /// Counts a call against the quotas of the caller's tenant.
    fn begin(&self, identity: &Identity) -> Result<Lease, Denied>;

    /// Returns the value of `WWW-Authenticate` for an error, such as `invalid_token`, and a missing scope.
    fn challenge(&self, headers: &HeaderMap, error: Option<&str>, scope: Option<Scope>) -> HeaderValue;
}

/// Access control of a server.
#[derive(Clone)]
pub struct Access {
    /// Authenticates callers.
    pub control: Arc<dyn AccessControl>,
    /// Returns the requirement of a method, such as `c3.v1.Gateway/Stat` or `GET /v1/documents/{ref}`. `None` for a
    /// method without an entry, which is refused.
    pub requirement: fn(&str) -> Option<Requirement>,
    /// Log of administrative and destructive calls.
    pub audit: Option<Arc<AuditLog>>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.control.fmt(f)
    }
}

impl Access {
    /// Fails unless an identity meets a requirement. `None`, that of a method without an entry, is met by nobody.
    pub(crate) fn check_scope(
        &self,
        identity: &Identity,
        requirement: Option<Requirement>,
        headers: &HeaderMap,
    ) -> Result<(), Denied> {
        let (scope, message) = match requirement {
            Some(Requirement::Open | Requirement::Key) => return Ok(()),
            Some(Requirement::Scope(scope)) if identity.scopes.contains(scope) => return Ok(()),
            Some(Requirement::Scope(scope)) => {
                (Some(scope), format!("this call needs the scope {scope}: use a key that has it"))
            }
            None => (None, "this call is open to no key: see /docs for the calls that are".to_owned()),
        };
        let challenge = self.control.challenge(headers, Some("insufficient_scope"), scope);
        let headers = vec![(header::WWW_AUTHENTICATE, challenge)];
        Err(Denied { kind: ErrorKind::PermissionDenied, message, headers })
    }
}

/// Middleware for routes outside the call layer: refuses callers that do not meet the requirement.
pub(crate) async fn require(
    State((access, requirement)): State<(Option<Access>, Requirement)>,
    request: AxumRequest,
    next: Next,
) -> Response {
    let Some(access) = access else { return next.run(request).await };
    if let Some(prepared) = access.control.prepare(request.headers()) {
        prepared.await;
    }
    let checked = access.control.authenticate(request.method(), request.headers());
    let checked = checked.and_then(|identity| access.check_scope(&identity, Some(requirement), request.headers()));
    match checked {
        Ok(()) => next.run(request).await,
        Err(denied) => denied.response(Protocol::of(request.headers())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_include_no_other_scope() {
        for scope in Scope::ALL {
            let only = Scopes::from_iter([scope]);
            assert_eq!(Vec::from_iter(only.iter()), [scope]);
            assert_eq!(scope.as_str().parse(), Ok(scope));
        }
        assert_eq!(Scopes::all().iter().count(), 4);
        assert!(Scopes::default().is_empty() && "root".parse::<Scope>().is_err());
    }
}
