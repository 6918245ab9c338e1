//! Access files with tenants and keys, and an issuer of JSON web tokens.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Result, anyhow};
use c3_access::{AccessFile, ApiKey, KeyRecord, TenantRecord};
use c3_server::access::{Scope, Scopes};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Seconds for which a token is valid.
const TOKEN_SECONDS: u64 = 300;

/// An access file in a temporary folder.
#[derive(Debug)]
pub struct Access {
    folder: TempDir,
}

impl Access {
    /// Creates a file with these tenants, which have no quotas.
    pub fn with_tenants(tenants: &[&str]) -> Result<Self> {
        let access = Self { folder: TempDir::with_prefix("c3-access-")? };
        for tenant in tenants {
            access.set_tenant(tenant, TenantRecord::default())?;
        }
        Ok(access)
    }

    /// Returns the path of the file.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("access.json")
    }

    /// Creates a tenant, or changes its quotas.
    pub fn set_tenant(&self, tenant: &str, record: TenantRecord) -> Result<()> {
        let tenant = tenant.parse()?;
        AccessFile::edit(&self.path(), |file| {
            file.tenants.insert(tenant, record);
            Ok(())
        })?;
        Ok(())
    }

    /// Creates a key with these scopes.
    pub fn key(&self, tenant: &str, scopes: &[Scope]) -> Result<String> {
        self.key_with(tenant, scopes, |_| ())
    }

    /// Creates a key, and changes its record in the file.
    pub fn key_with(&self, tenant: &str, scopes: &[Scope], change: impl FnOnce(&mut KeyRecord)) -> Result<String> {
        let key = ApiKey::random().map_err(|error| anyhow!("{error}"))?;
        let scopes = Scopes::from_iter(scopes.iter().copied());
        let mut record = KeyRecord::new(&key, tenant.parse()?, scopes, None);
        change(&mut record);
        AccessFile::edit(&self.path(), |file| {
            file.keys.push(record);
            Ok(())
        })?;
        Ok(key.expose().to_owned())
    }

    /// Revokes a key.
    pub fn revoke(&self, key: &str) -> Result<()> {
        AccessFile::edit(&self.path(), |file| {
            let id = key.split('_').nth(1).unwrap_or_default();
            for record in file.keys.iter_mut().filter(|record| record.id.as_str() == id) {
                record.revoked = Some(SystemTime::now());
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// An issuer of tokens on this machine, whose key can be rotated.
#[derive(Debug)]
pub struct Issuer {
    /// URL of the issuer.
    pub url: String,
    keys: Arc<Mutex<Vec<(String, EncodingKey)>>>,
}

impl Issuer {
    /// Starts an issuer with one key.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let issuer = Self { url: format!("http://{}", listener.local_addr()?), keys: Arc::default() };
        issuer.rotate()?;
        let (url, keys) = (issuer.url.clone(), Arc::clone(&issuer.keys));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let read = socket.read(&mut request).await.unwrap_or(0);
                let body = match request[..read].starts_with(b"GET /.well-known/openid-configuration ") {
                    true => json!({ "issuer": url, "jwks_uri": format!("{url}/keys") }).to_string(),
                    false => published(&keys.lock().unwrap_or_else(PoisonError::into_inner)),
                };
                let length = body.len();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
                // A caller that is gone gets no answer.
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        Ok(issuer)
    }

    /// Signs later tokens with a new key. The last two keys stay published.
    pub fn rotate(&self) -> Result<()> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let document = document.map_err(|_| anyhow!("no key"))?;
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let id = format!("{:032x}", fastrand::u128(..));
        keys.insert(0, (id, EncodingKey::from_ec_der(document.as_ref())));
        keys.truncate(2);
        Ok(())
    }

    /// Returns a token with these scopes, separated by spaces.
    pub fn token(&self, audience: &str, tenant: &str, scopes: &str) -> Result<String> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, key) = &keys[0];
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(id.clone());
        let expires = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() + TOKEN_SECONDS;
        let claims = json!({
            "iss": self.url, "aud": audience, "sub": "robot", "exp": expires, "tenant": tenant, "scope": scopes,
        });
        Ok(encode(&header, &claims, key)?)
    }
}

fn published(keys: &[(String, EncodingKey)]) -> String {
    let keys = keys.iter().filter_map(|(id, key)| {
        let mut jwk = Jwk::from_encoding_key(key, Algorithm::ES256).ok()?;
        jwk.common.key_id = Some(id.clone());
        Some(jwk)
    });
    serde_json::to_string(&JwkSet { keys: keys.collect() }).unwrap_or_default()
}
