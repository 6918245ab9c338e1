//! Access control of a gateway: checks keys and tokens, and applies quotas. Follows changes of the access file.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime};

use c3_server::ErrorKind;
use c3_server::access::{AccessControl, Denied, Identity, Lease, Scope};
use c3_types::TenantId;
use http::{HeaderMap, HeaderValue, Method, header};
use url::Url;

use crate::file::{AccessFile, FileError, KeyRecord, TenantRecord};
use crate::jwt::{JwtSettings, TokenError, Verifier};
use crate::key::{self, SecretHash};
use crate::quota::TenantQuotas;
use crate::session;

/// Interval at which the access file is compared with the one that was read.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Path of the metadata of RFC 9728.
pub const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";
/// Message for all callers without valid credentials. It does not say what is wrong with them.
const UNAUTHENTICATED: &str = "no valid API key or token: send the header `authorization: Bearer KEY` with a key that \
                               is neither mistyped, expired nor revoked";

/// Message for a request that has a session, but not its token.
const NO_CSRF_TOKEN: &str = "the request has a session, but not its token: send the header x-csrf-token with the token \
                             from GET /console/session";

/// Sources of credentials. At least one must be set.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// File with API keys and tenants.
    pub file: Option<PathBuf>,
    /// Issuer of tokens.
    pub jwt: Option<JwtSettings>,
}

/// Error that keeps access control from starting. The message is one line.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The access file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The settings for tokens are wrong.
    #[error("{0}")]
    Jwt(String),
}

/// Access control that serves keys of a file and tokens of an issuer.
#[derive(Debug)]
pub struct Control {
    current: RwLock<Arc<Snapshot>>,
    quotas: RwLock<HashMap<TenantId, Arc<TenantQuotas>>>,
    jwt: Option<Arc<Verifier>>,
}

/// Content of the access file, indexed.
#[derive(Debug)]
struct Snapshot {
    keys: HashMap<String, KeyRecord>,
    tenants: HashMap<TenantId, TenantRecord>,
    cache_weights: u64,
}

impl Snapshot {
    fn new(file: AccessFile) -> Self {
        let tenants = HashMap::<_, _>::from_iter(file.all_tenants());
        let cache_weights = tenants.values().map(|tenant| u64::from(tenant.cache_weight)).sum();
        let keys = file.keys.into_iter().map(|key| (key.id.as_str().to_owned(), key)).collect();
        Self { keys, tenants, cache_weights }
    }
}

impl Control {
    /// Reads the access file, and starts to follow it and to fetch the issuer's keys. Both end when the last handle is
    /// dropped. Fails if the file or a setting is wrong, but not if the issuer is unreachable.
    pub fn start(settings: Settings) -> Result<Arc<Self>, StartError> {
        let signature = settings.file.as_deref().and_then(signature);
        let file = settings.file.as_deref().map(AccessFile::read).transpose()?.unwrap_or_default();
        let jwt = settings.jwt.map(Verifier::new).transpose().map_err(StartError::Jwt)?.map(Arc::new);
        let current = RwLock::new(Arc::new(Snapshot::new(file)));
        let control = Arc::new(Self { current, quotas: RwLock::default(), jwt });
        if let Some(path) = settings.file {
            tokio::spawn(follow(Arc::downgrade(&control), path, signature));
        }
        if let Some(jwt) = &control.jwt {
            let (jwt, control) = (Arc::clone(jwt), Arc::downgrade(&control));
            tokio::spawn(async move {
                tokio::select! {
                    () = jwt.keep_fresh() => {}
                    () = dropped(control) => {}
                }
            });
        }
        Ok(control)
    }

    /// Returns the settings of a tenant; `None` if it does not exist.
    pub fn tenant(&self, tenant: &TenantId) -> Option<TenantRecord> {
        self.snapshot().tenants.get(tenant).cloned()
    }

    /// Returns a tenant's share of a cache of this size. A tenant that does not exist gets the share of weight 0.
    pub fn cache_share(&self, tenant: &TenantId, bytes: u64) -> u64 {
        let snapshot = self.snapshot();
        let weight = snapshot.tenants.get(tenant).map_or(0, |tenant| u64::from(tenant.cache_weight));
        (u128::from(bytes) * u128::from(weight) / u128::from(snapshot.cache_weights.max(1))) as u64
    }

    /// Returns the usage of a tenant.
    pub fn quotas(&self, tenant: &TenantId) -> Arc<TenantQuotas> {
        // The lock is never poisoned: no code panics while it holds it.
        if let Some(quotas) = self.quotas.read().unwrap_or_else(PoisonError::into_inner).get(tenant) {
            return Arc::clone(quotas);
        }
        let record = self.tenant(tenant).unwrap_or_default();
        let mut all = self.quotas.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(tenant.clone()).or_insert_with(|| Arc::new(TenantQuotas::new(&record))))
    }

    /// Returns the metadata of RFC 9728 for a gateway that was reached under these headers; `None` without an issuer.
    pub fn resource_metadata(&self, headers: &HeaderMap) -> Option<serde_json::Value> {
        let settings = self.jwt.as_ref()?.settings();
        Some(serde_json::json!({
            "resource": resource(settings, headers),
            "authorization_servers": [settings.issuer],
            "scopes_supported": Vec::from_iter(Scope::ALL.map(Scope::as_str)),
            "bearer_methods_supported": ["header"],
        }))
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, file: AccessFile) {
        let snapshot = Snapshot::new(file);
        let mut quotas = self.quotas.write().unwrap_or_else(PoisonError::into_inner);
        quotas.retain(|tenant, quotas| match snapshot.tenants.get(tenant) {
            Some(record) => {
                quotas.set(record);
                true
            }
            None => false,
        });
        drop(quotas);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }

    /// Checks an API key. Hashes and compares once for every key, so the time does not tell unknown from wrong keys.
    fn check_key(&self, typed: &str) -> Result<Identity, &'static str> {
        let snapshot = self.snapshot();
        let (id, hash) = key::parse(typed);
        let record = id.and_then(|id| snapshot.keys.get(id));
        let is_equal = hash == record.map_or_else(SecretHash::of_none, |record| *record.hash());
        match record {
            Some(_) if !is_equal => Err("the secret is wrong"),
            Some(record) if !record.is_valid_at(SystemTime::now()) => Err("the key is expired or revoked"),
            Some(record) => {
                let (tenant, name) = (record.tenant.clone(), record.id.to_string());
                Ok(Identity { tenant, scopes: record.scopes, name })
            }
            None => Err("the key is unknown"),
        }
    }

    fn check_token(&self, jwt: &Verifier, token: &str) -> Result<Identity, TokenError> {
        let token = jwt.verify(token)?;
        if self.tenant(&token.tenant).is_none() {
            return Err(TokenError::Claim(jwt.settings().tenant_claim.clone()));
        }
        Ok(Identity { tenant: token.tenant, scopes: token.scopes, name: token.subject })
    }

    fn unauthenticated(&self, headers: &HeaderMap, credentials: Option<&str>) -> Denied {
        let error = credentials.map(|_| "invalid_token");
        let headers = vec![(header::WWW_AUTHENTICATE, self.challenge(headers, error, None))];
        Denied { kind: ErrorKind::Unauthenticated, message: UNAUTHENTICATED.to_owned(), headers }
    }
}

impl AccessControl for Control {
    fn prepare(&self, headers: &HeaderMap) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let jwt = self.jwt.as_ref()?;
        let is_needed = credentials(headers).is_some_and(|token| !key::is_key(token) && jwt.needs_keys(token));
        if !is_needed {
            return None;
        }
        let jwt = Arc::clone(jwt);
        Some(Box::pin(async move { jwt.fetch_for_call().await }))
    }

    fn authenticate(&self, method: &Method, headers: &HeaderMap) -> Result<Identity, Denied> {
        let credentials = credentials(headers);
        if !method.is_safe()
            && let Some(session) = session::credentials(headers)
            && !headers.contains_key(header::AUTHORIZATION)
            && !session::has_csrf_token(headers, session)
        {
            let message = NO_CSRF_TOKEN.to_owned();
            return Err(Denied { kind: ErrorKind::PermissionDenied, message, headers: Vec::new() });
        }
        let problem = match (credentials, &self.jwt) {
            (Some(token), Some(jwt)) if !key::is_key(token) => match self.check_token(jwt, token) {
                Ok(identity) => return Ok(identity),
                Err(TokenError::NoKeys) => {
                    let message = "the keys of the token's issuer cannot be fetched: try again later".to_owned();
                    return Err(Denied { kind: ErrorKind::Unavailable, message, headers: Vec::new() });
                }
                Err(error) => error.to_string(),
            },
            (Some(typed), _) => match self.check_key(typed) {
                Ok(identity) => return Ok(identity),
                Err(problem) => problem.to_owned(),
            },
            (None, _) => "the header authorization is missing or malformed".to_owned(),
        };
        tracing::debug!(problem, "refused credentials");
        Err(self.unauthenticated(headers, credentials))
    }

    fn begin(&self, identity: &Identity) -> Result<Lease, Denied> {
        self.quotas(&identity.tenant).begin()
    }

    fn challenge(&self, headers: &HeaderMap, error: Option<&str>, scope: Option<Scope>) -> HeaderValue {
        let mut challenge = "Bearer realm=\"c3\"".to_owned();
        if let Some(error) = error {
            challenge += &format!(", error=\"{error}\"");
        }
        if let Some(scope) = scope {
            challenge += &format!(", scope=\"{scope}\"");
        }
        if let Some(jwt) = &self.jwt
            && let Ok(mut url) = Url::parse(&resource(jwt.settings(), headers))
        {
            url.set_path(METADATA_PATH);
            challenge += &format!(", resource_metadata=\"{url}\"");
        }
        HeaderValue::from_str(&challenge).unwrap_or(HeaderValue::from_static("Bearer"))
    }
}

/// Returns the URL that identifies the gateway to the issuer: the audience if it is a URL, else the host of the
/// request.
fn resource(settings: &JwtSettings, headers: &HeaderMap) -> String {
    if Url::parse(&settings.audience).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
        return settings.audience.clone();
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let is_local = host.starts_with("localhost") || host.starts_with("127.") || host.starts_with("[::1]");
    format!("{}://{host}", if is_local { "http" } else { "https" })
}

/// Returns the credentials of a request: those in its header `authorization`, or else those of its session.
fn credentials(headers: &HeaderMap) -> Option<&str> {
    if headers.contains_key(header::AUTHORIZATION) { bearer(headers) } else { session::credentials(headers) }
}

/// Returns the credentials of the only header `authorization`; `None` if it is missing, repeated or of another scheme.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, credentials) = value.to_str().ok()?.split_once(' ')?;
    let credentials = credentials.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !credentials.is_empty()).then_some(credentials)
}

/// Properties of a file that change when its content is written or the file is replaced.
type Signature = (SystemTime, u64, u64);

fn signature(path: &Path) -> Option<Signature> {
    let metadata = fs::metadata(path).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some((metadata.modified().ok()?, metadata.len(), inode))
}

/// Reads the file again whenever it changes. If it cannot be read, the old content stays in use.
async fn follow(control: Weak<Control>, path: PathBuf, mut read: Option<Signature>) {
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let Some(control) = control.upgrade() else { return };
        let (now, file) = (signature(&path), path.clone());
        if now == read {
            continue;
        }
        read = now;
        match tokio::task::spawn_blocking(move || AccessFile::read(&file)).await {
            Ok(Ok(file)) => {
                tracing::info!(keys = file.keys.len(), tenants = file.tenants.len(), "read the access file again");
                control.replace(file);
            }
            Ok(Err(error)) => tracing::error!(%error, "the access file has changed, but the old content stays in use"),
            Err(error) => tracing::error!(%error, "cannot read the access file"),
        }
    }
}

/// Waits until the value is dropped.
async fn dropped<T>(value: Weak<T>) {
    while value.strong_count() > 0 {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests;
