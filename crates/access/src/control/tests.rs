use std::sync::Mutex;

use c3_server::access::Scopes;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::file::whole_seconds;
use crate::key::ApiKey;

const AUDIENCE: &str = "https://c3.example";

fn with(credentials: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(credentials).unwrap())])
}

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn add_key(path: &Path, change: impl FnOnce(&mut KeyRecord)) -> String {
    let key = ApiKey::random().unwrap();
    AccessFile::edit(path, |file| {
        file.tenants.entry(tenant("acme")).or_default();
        let mut record = KeyRecord::new(&key, tenant("acme"), Scopes::from_iter([Scope::Read]), None);
        change(&mut record);
        file.keys.push(record);
        Ok(())
    })
    .unwrap();
    key.expose().to_owned()
}

#[tokio::test]
async fn only_valid_keys_are_accepted_and_all_refusals_are_equal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.json");
    let good = add_key(&path, |_| {});
    let expired = add_key(&path, |key| key.expires = Some(whole_seconds() - Duration::from_secs(1)));
    let later = add_key(&path, |key| key.expires = Some(whole_seconds() + Duration::from_secs(60)));
    let revoked = add_key(&path, |key| key.revoked = Some(whole_seconds()));
    let control = Control::start(Settings { file: Some(path), jwt: None }).unwrap();
    for key in [&good, &later] {
        let identity = control.authenticate(&Method::POST, &with(&format!("bearer {key}"))).unwrap();
        assert_eq!((identity.tenant, identity.scopes), (tenant("acme"), Scopes::from_iter([Scope::Read])));
        assert!(key.starts_with(&format!("c3_{}_", identity.name)));
    }
    let wrong = format!("{}0", &good[..good.len() - 1]);
    let wrong = if wrong == good { format!("{}1", &good[..good.len() - 1]) } else { wrong };
    let unknown = ApiKey::random().unwrap().expose().to_owned();
    let refused = [expired, revoked, wrong, unknown, "c3_".to_owned(), "x".to_owned()];
    let refused = Vec::from_iter(
        refused.map(|key| control.authenticate(&Method::POST, &with(&format!("Bearer {key}"))).unwrap_err()),
    );
    for denied in &refused {
        assert_eq!((denied.kind, &denied.message), (ErrorKind::Unauthenticated, &refused[0].message));
        assert_eq!(denied.headers[0].1, "Bearer realm=\"c3\", error=\"invalid_token\"");
    }
    for malformed in [HeaderMap::new(), with("Basic YTpi"), with("Bearer "), with(&good)] {
        let denied = control.authenticate(&Method::POST, &malformed).unwrap_err();
        assert_eq!((denied.kind, &denied.message), (ErrorKind::Unauthenticated, &refused[0].message));
    }
    let mut twice = with(&format!("Bearer {good}"));
    twice.append(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {good}")).unwrap());
    assert!(control.authenticate(&Method::POST, &twice).is_err());
}

#[tokio::test]
async fn a_session_proves_the_identity_of_its_key_and_needs_its_token_for_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.json");
    let (key, revoked) = (add_key(&path, |_| {}), add_key(&path, |key| key.revoked = Some(whole_seconds())));
    let control = Control::start(Settings { file: Some(path), jwt: None }).unwrap();
    let session = |key: &str| {
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(&format!("c3_session={key}")).unwrap())])
    };
    let kind = |method, headers: &HeaderMap| control.authenticate(&method, headers).map_err(|denied| denied.kind);
    assert_eq!(kind(Method::GET, &session(&key)).unwrap().tenant, tenant("acme"));
    assert_eq!(kind(Method::GET, &session(&revoked)), Err(ErrorKind::Unauthenticated));
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        assert_eq!(kind(method.clone(), &session(&key)), Err(ErrorKind::PermissionDenied));
        let mut headers = session(&key);
        headers.insert(session::CSRF_HEADER, session::csrf_token(&key).parse().unwrap());
        assert!(kind(method.clone(), &headers).is_ok());
        // A key in the header needs no token, and counts instead of the session.
        let mut both = session(&revoked);
        both.extend(with(&format!("Bearer {key}")));
        assert!(kind(method, &both).is_ok());
    }
}

#[tokio::test]
async fn a_change_of_the_file_is_followed_unless_it_is_invalid() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.json");
    let first = add_key(&path, |_| {});
    let control = Control::start(Settings { file: Some(path.clone()), jwt: None }).unwrap();
    let is_valid = |key: &str| control.authenticate(&Method::POST, &with(&format!("Bearer {key}"))).is_ok();
    let second = add_key(&path, |_| {});
    while !is_valid(&second) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(is_valid(&first));
    std::fs::write(&path, b"{").unwrap();
    tokio::time::sleep(2 * POLL_INTERVAL).await;
    assert!(is_valid(&first));
    std::fs::remove_file(&path).unwrap();
    let third = add_key(&path, |_| {});
    while !is_valid(&third) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!is_valid(&first));
}

#[tokio::test]
async fn caches_are_divided_by_weight() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.json");
    AccessFile::edit(&path, |file| {
        file.tenants.insert(tenant("acme"), TenantRecord { cache_weight: 3, ..TenantRecord::default() });
        Ok(())
    })
    .unwrap();
    let control = Control::start(Settings { file: Some(path), jwt: None }).unwrap();
    let share = |name| control.cache_share(&tenant(name), 100);
    assert_eq!((share("acme"), share("default"), share("unknown")), (75, 25, 0));
}

/// Issuer of tokens, whose keys can be changed.
struct Issuer {
    url: String,
    keys: Arc<Mutex<Vec<(String, EncodingKey)>>>,
    fetches: Arc<std::sync::atomic::AtomicUsize>,
}

impl Issuer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let issuer = Self { url: url.clone(), keys: Arc::default(), fetches: Arc::default() };
        let (keys, fetches) = (Arc::clone(&issuer.keys), Arc::clone(&issuer.fetches));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let read = socket.read(&mut request).await.unwrap_or(0);
                let body = if request[..read].starts_with(b"GET /.well-known/openid-configuration ") {
                    json!({ "issuer": url, "jwks_uri": format!("{url}/keys") }).to_string()
                } else {
                    fetches.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    let jwk = |(id, key): &(String, EncodingKey)| {
                        let mut jwk = Jwk::from_encoding_key(key, Algorithm::ES256).unwrap();
                        jwk.common.key_id = Some(id.clone());
                        jwk
                    };
                    let keys = keys.lock().unwrap().iter().map(jwk).collect();
                    serde_json::to_string(&JwkSet { keys }).unwrap()
                };
                let answer =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        issuer
    }

    /// Publishes a new key in place of the old ones.
    fn rotate(&self, id: &str) {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        *self.keys.lock().unwrap() = vec![(id.to_owned(), EncodingKey::from_ec_der(document.as_ref()))];
    }

    fn token(&self, change: impl FnOnce(&mut Header, &mut Value)) -> HeaderMap {
        let keys = self.keys.lock().unwrap();
        let (id, key) = &keys[0];
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(id.clone());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({
            "iss": self.url, "aud": AUDIENCE, "sub": "robot", "exp": now + 300, "tenant": "default",
            "scope": "openid read write",
        });
        change(&mut header, &mut claims);
        with(&format!("Bearer {}", encode(&header, &claims, key).unwrap()))
    }

    fn control(&self) -> Arc<Control> {
        let jwt = JwtSettings {
            issuer: self.url.clone(),
            audience: AUDIENCE.to_owned(),
            jwks_url: None,
            tenant_claim: "tenant".to_owned(),
        };
        Control::start(Settings { file: None, jwt: Some(jwt) }).unwrap()
    }
}

async fn check(control: &Control, headers: &HeaderMap) -> Result<Identity, Denied> {
    if let Some(prepared) = control.prepare(headers) {
        prepared.await;
    }
    control.authenticate(&Method::POST, headers)
}

/// Changes a valid token. The number is the current time in seconds since 1970.
type Change = fn(&mut Header, &mut Value, u64);

#[tokio::test]
async fn tokens_are_checked_in_every_respect() {
    let issuer = Issuer::start().await;
    issuer.rotate("one");
    let control = issuer.control();
    let identity = check(&control, &issuer.token(|_, _| {})).await.unwrap();
    assert_eq!((identity.tenant.as_str(), identity.name.as_str()), ("default", "robot"));
    assert_eq!(identity.scopes, Scopes::from_iter([Scope::Read, Scope::Write]));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    // Within the tolerated clock skew.
    check(&control, &issuer.token(|_, claims| claims["exp"] = (now - 30).into())).await.unwrap();
    let wrong: [(&str, Change); 11] = [
        ("expired", |_, claims, now| claims["exp"] = (now - 90).into()),
        ("not valid yet", |_, claims, now| claims["nbf"] = (now + 90).into()),
        ("other audience", |_, claims, _| claims["aud"] = "other".into()),
        ("other issuer", |_, claims, _| claims["iss"] = "https://evil.example".into()),
        ("no expiry", |_, claims, _| drop(claims.as_object_mut().unwrap().remove("exp"))),
        ("no audience", |_, claims, _| drop(claims.as_object_mut().unwrap().remove("aud"))),
        ("no tenant", |_, claims, _| drop(claims.as_object_mut().unwrap().remove("tenant"))),
        ("unlisted tenant", |_, claims, _| claims["tenant"] = "acme".into()),
        ("path as tenant", |_, claims, _| claims["tenant"] = "../default".into()),
        ("no subject", |_, claims, _| drop(claims.as_object_mut().unwrap().remove("sub"))),
        ("critical header", |header, _, _| header.crit = Some(vec!["x".to_owned()])),
    ];
    for (name, change) in wrong {
        let denied = check(&control, &issuer.token(|header, claims| change(header, claims, now))).await;
        assert_eq!(denied.unwrap_err().kind, ErrorKind::Unauthenticated, "{name}");
    }
    let denied = check(&control, &HeaderMap::new()).await.unwrap_err();
    let challenge = denied.headers[0].1.to_str().unwrap().to_owned();
    assert!(challenge.contains("resource_metadata=\"https://c3.example/.well-known/"), "{challenge}");
    assert_eq!(control.resource_metadata(&HeaderMap::new()).unwrap()["authorization_servers"][0], issuer.url.as_str());
}

#[tokio::test]
async fn forged_algorithms_and_signatures_are_refused() {
    let issuer = Issuer::start().await;
    issuer.rotate("one");
    let control = issuer.control();
    let good = issuer.token(|_, _| {});
    check(&control, &good).await.unwrap();
    let token = good[header::AUTHORIZATION].to_str().unwrap()["Bearer ".len()..].to_owned();
    let (head, signature) = token.rsplit_once('.').unwrap();
    let (_, claims) = head.split_once('.').unwrap();
    // {"alg":"none","kid":"one"}
    let none = format!("eyJhbGciOiJub25lIiwia2lkIjoib25lIn0.{claims}.");
    let flipped = format!("{head}.A{}", &signature[1..]);
    let flipped = if flipped == token { format!("{head}.B{}", &signature[1..]) } else { flipped };
    // The public key as the secret of a symmetric signature.
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("one".to_owned());
    let symmetric = encode(&header, &json!({}), &EncodingKey::from_secret(b"public").unwrap()).unwrap();
    for forged in [none, flipped, symmetric, format!("{head}."), "a.b.c".to_owned()] {
        let denied = check(&control, &with(&format!("Bearer {forged}"))).await.unwrap_err();
        assert_eq!(denied.kind, ErrorKind::Unauthenticated, "{forged}");
    }
}

#[tokio::test]
async fn a_new_key_is_fetched_once_for_all_waiting_calls() {
    let issuer = Issuer::start().await;
    issuer.rotate("one");
    let control = issuer.control();
    check(&control, &issuer.token(|_, _| {})).await.unwrap();
    issuer.rotate("two");
    let before = issuer.fetches.load(std::sync::atomic::Ordering::SeqCst);
    let token = issuer.token(|_, _| {});
    let calls = (0..50).map(|_| check(&control, &token));
    assert!(futures::future::join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!(issuer.fetches.load(std::sync::atomic::Ordering::SeqCst), before + 1);
}

#[tokio::test]
async fn the_settings_are_checked() {
    let settings = |issuer: &str| JwtSettings {
        issuer: issuer.to_owned(),
        audience: AUDIENCE.to_owned(),
        jwks_url: None,
        tenant_claim: "tenant".to_owned(),
    };
    for wrong in ["http://issuer.example", "issuer", "ftp://localhost"] {
        let started = Control::start(Settings { file: None, jwt: Some(settings(wrong)) });
        assert!(matches!(started, Err(StartError::Jwt(_))), "{wrong}");
    }
    // Nothing listens on port 9: the gateway starts, and tokens are refused until the issuer answers.
    let control = Control::start(Settings { file: None, jwt: Some(settings("http://127.0.0.1:9")) }).unwrap();
    let issuer = Issuer::start().await;
    issuer.rotate("one");
    assert_eq!(check(&control, &issuer.token(|_, _| {})).await.unwrap_err().kind, ErrorKind::Unavailable);
}
