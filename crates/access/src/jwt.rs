//! JSON web tokens of one issuer, checked with the keys that the issuer publishes (JWKS).
//!
//! Keys are fetched at the start, every few minutes, and when a token names an unknown key. While the issuer is
//! unreachable, the last keys stay valid. Only signatures with public keys are accepted: whoever can check a symmetric
//! signature can also forge it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use c3_server::access::Scopes;
use c3_types::TenantId;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use url::{Host, Url};

/// Difference between the clocks of issuer and gateway that is tolerated.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// Interval at which the keys are fetched.
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);
/// Interval at which the keys are fetched while fetching fails.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// Minimum time between two fetches, however many tokens name unknown keys.
const FETCH_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Timeout of one request to the issuer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of an answer of the issuer, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Maximum calls that wait for a fetch because of an unknown key. Further calls are refused at once.
const WAITING_MAX: usize = 256;
/// Maximum characters of a subject in logs.
const SUBJECT_CHARS_MAX: usize = 128;

/// Settings for tokens.
#[derive(Clone, Debug)]
pub struct JwtSettings {
    /// Issuer, as in the claim `iss`.
    pub issuer: String,
    /// Audience that a token must have, which names this service.
    pub audience: String,
    /// URL of the issuer's keys. `None`: the one in the issuer's discovery document.
    pub jwks_url: Option<String>,
    /// Claim that has the tenant.
    pub tenant_claim: String,
}

impl JwtSettings {
    /// Fails if a URL is neither `https` nor on this machine.
    pub(crate) fn check(&self) -> Result<(), String> {
        checked_url(&self.issuer).map_err(|problem| format!("--jwt-issuer: {problem}"))?;
        let jwks = self.jwks_url.as_deref().map(checked_url).transpose();
        jwks.map_err(|problem| format!("--jwks-url: {problem}"))?;
        if self.audience.is_empty() {
            return Err("--jwt-audience: must not be empty".to_owned());
        }
        Ok(())
    }
}

fn checked_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{text}: {error}"))?;
    let is_local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_local => Ok(url),
        _ => Err(format!("{text} must be an https URL")),
    }
}

/// Reason why a token is not accepted. Only the log contains it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the issuer's keys were never fetched")]
    NoKeys,
    #[error("no key of the issuer has the id of the token")]
    UnknownKey,
    #[error("the token has critical headers, which are not supported")]
    CriticalHeader,
    #[error("the claim {0} is missing or malformed")]
    Claim(String),
    #[error(transparent)]
    Invalid(#[from] jsonwebtoken::errors::Error),
}

/// Identity that a token proves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TokenIdentity {
    pub(crate) subject: String,
    pub(crate) tenant: TenantId,
    pub(crate) scopes: Scopes,
}

struct PublicKey {
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
}

type Keys = HashMap<String, PublicKey>;

/// Checks tokens of one issuer.
pub(crate) struct Verifier {
    settings: JwtSettings,
    http: reqwest::Client,
    /// `None` until the keys were fetched for the first time.
    keys: RwLock<Option<Arc<Keys>>>,
    /// Start of the last fetch. Locked during a fetch.
    fetched: Mutex<Option<Instant>>,
    waiting: Semaphore,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(f)
    }
}

impl Verifier {
    /// Creates a verifier without keys. Fails if a setting is wrong.
    pub(crate) fn new(settings: JwtSettings) -> Result<Self, String> {
        settings.check()?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| format!("--jwt-issuer: {error}"))?;
        let waiting = Semaphore::new(WAITING_MAX);
        Ok(Self { settings, http, keys: RwLock::default(), fetched: Mutex::default(), waiting })
    }

    /// Returns the settings.
    pub(crate) fn settings(&self) -> &JwtSettings {
        &self.settings
    }

    /// Returns the identity that a token proves.
    pub(crate) fn verify(&self, token: &str) -> Result<TokenIdentity, TokenError> {
        let header = decode_header(token)?;
        if header.crit.is_some() {
            return Err(TokenError::CriticalHeader);
        }
        let keys = self.keys().ok_or(TokenError::NoKeys)?;
        let key = find(&keys, header.kid.as_deref()).ok_or(TokenError::UnknownKey)?;
        let mut validation = Validation::new(header.alg);
        validation.algorithms.clone_from(&key.algorithms);
        validation.leeway = CLOCK_SKEW.as_secs();
        validation.validate_nbf = true;
        validation.set_audience(&[&self.settings.audience]);
        validation.set_issuer(&[&self.settings.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let claims = decode::<Map<String, Value>>(token, &key.key, &validation)?.claims;
        self.identity(&claims)
    }

    fn identity(&self, claims: &Map<String, Value>) -> Result<TokenIdentity, TokenError> {
        let claim = |name: &str| {
            let text = claims.get(name).and_then(Value::as_str);
            text.ok_or_else(|| TokenError::Claim(name.to_owned()))
        };
        let tenant_claim = &self.settings.tenant_claim;
        let tenant = claim(tenant_claim)?.parse().map_err(|_| TokenError::Claim(tenant_claim.clone()))?;
        // Issuers also grant scopes of other services; those are no scopes here.
        let scopes = claims.get("scope").and_then(Value::as_str).unwrap_or_default();
        let scopes = scopes.split_whitespace().filter_map(|scope| scope.parse().ok()).collect();
        let subject = claim("sub")?.chars().filter(|c| !c.is_control()).take(SUBJECT_CHARS_MAX).collect();
        Ok(TokenIdentity { subject, tenant, scopes })
    }

    /// Returns whether a token names a key that is not known, so that fetching the keys may help.
    pub(crate) fn needs_keys(&self, token: &str) -> bool {
        let Ok(header) = decode_header(token) else { return false };
        self.keys().is_none_or(|keys| find(&keys, header.kid.as_deref()).is_none())
    }

    /// Fetches the keys for a call with an unknown key. Concurrent calls share a fetch. Waits at most
    /// [`FETCH_INTERVAL_MIN`] and the time of a fetch.
    pub(crate) async fn fetch_for_call(&self) {
        let (Ok(_waiting), arrived) = (self.waiting.try_acquire(), Instant::now()) else { return };
        let mut fetched = self.fetched.lock().await;
        // A fetch that began after the call arrived has every key that the issuer had used for it.
        if fetched.is_some_and(|fetched| fetched >= arrived) {
            return;
        }
        if let Some(fetched) = *fetched {
            tokio::time::sleep_until(fetched + FETCH_INTERVAL_MIN).await;
        }
        *fetched = Some(Instant::now());
        self.fetch_logged().await;
    }

    /// Fetches the keys now and at regular intervals, for ever.
    pub(crate) async fn keep_fresh(&self) {
        loop {
            let is_fresh = {
                let mut fetched = self.fetched.lock().await;
                *fetched = Some(Instant::now());
                self.fetch_logged().await
            };
            tokio::time::sleep(if is_fresh { REFRESH_INTERVAL } else { RETRY_INTERVAL }).await;
        }
    }

    /// Fetches the keys. Returns false, and keeps the old keys, if this fails.
    async fn fetch_logged(&self) -> bool {
        match self.fetch().await {
            Ok(keys) => {
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
                true
            }
            Err(problem) => {
                let issuer = &self.settings.issuer;
                tracing::warn!(issuer, problem, "cannot fetch the issuer's keys: the last ones stay valid");
                false
            }
        }
    }

    async fn fetch(&self) -> Result<Keys, String> {
        let url = match &self.settings.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let set: JwkSet = self.get(&url).await?;
        let keys = Keys::from_iter(set.keys.iter().filter_map(public_key));
        if keys.is_empty() { Err(format!("{url} has no supported key for signatures")) } else { Ok(keys) }
    }

    /// Returns the URL of the keys in the issuer's discovery document.
    async fn discover(&self) -> Result<String, String> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
            jwks_uri: String,
        }
        let issuer = &self.settings.issuer;
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let found: Discovery = self.get(&url).await?;
        if found.issuer != *issuer {
            return Err(format!("{url} describes another issuer, {}", found.issuer));
        }
        checked_url(&found.jwks_uri)?;
        Ok(found.jwks_uri)
    }

    async fn get<T: for<'de> Deserialize<'de>>(&self, url: &str) -> Result<T, String> {
        let failed = |error: reqwest::Error| format!("{url}: {error}");
        let mut answer =
            self.http.get(url).send().await.and_then(|answer| answer.error_for_status()).map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(format!("{url}: the answer exceeds {ANSWER_BYTES_MAX} bytes"));
            }
        }
        serde_json::from_slice(&body).map_err(|error| format!("{url}: {error}"))
    }

    fn keys(&self) -> Option<Arc<Keys>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Returns the key with an id. A token without an id means the only key.
fn find<'a>(keys: &'a Keys, id: Option<&str>) -> Option<&'a PublicKey> {
    match id {
        Some(id) => keys.get(id),
        None if keys.len() == 1 => keys.values().next(),
        None => None,
    }
}

/// Returns a key for signatures with its id; `None` for keys of other kinds.
fn public_key(jwk: &Jwk) -> Option<(String, PublicKey)> {
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    let rsa =
        [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];
    let possible: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &rsa,
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => &[Algorithm::ES256],
            EllipticCurve::P384 => &[Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(_) => &[Algorithm::EdDSA],
        _ => return None,
    };
    let named = |algorithm: &&Algorithm| {
        jwk.common.key_algorithm.as_ref().is_none_or(|named| KeyAlgorithm::from(**algorithm) == *named)
    };
    let algorithms = Vec::from_iter(possible.iter().filter(named).copied());
    let key = DecodingKey::from_jwk(jwk).ok()?;
    let id = jwk.common.key_id.clone().unwrap_or_default();
    (!algorithms.is_empty()).then_some((id, PublicKey { key, algorithms }))
}
