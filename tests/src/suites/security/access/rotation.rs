//! API keys and an issuer's keys that are rotated under load.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use c3_server::access::Scope;
use tonic::Code;

use crate::harness::access::{Access, Issuer};
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::fixtures::Corpus;
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;
use crate::suites::store::ops;

const AUDIENCE: &str = "https://c3.example";
const CALLERS: usize = 4;
/// Calls with new credentials before the next rotation.
const CALLS_BETWEEN: u64 = 40;
/// Maximum time until a gateway accepts a new key or refuses a revoked one.
const RELOAD_LIMIT: Duration = Duration::from_secs(10);

/// Calls of several callers that use the current credentials, until they are stopped.
struct Load {
    current: Arc<Mutex<String>>,
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(cluster: &Cluster, credentials: String, id: &str) -> Self {
        let mut load = Self {
            current: Arc::new(Mutex::new(credentials)),
            stop: Arc::default(),
            calls: Arc::default(),
            failed: Arc::default(),
            callers: Vec::new(),
        };
        let url_of = cluster.gateway.channel();
        let Ok(channel) = url_of else { return load };
        for _ in 0..CALLERS {
            let (current, stop, calls) = (Arc::clone(&load.current), Arc::clone(&load.stop), Arc::clone(&load.calls));
            let (failed, id, channel) = (Arc::clone(&load.failed), id.to_owned(), channel.clone());
            load.callers.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let credentials = current.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let read = match GatewayApi::over(channel.clone(), Some(&credentials)) {
                        Ok(api) => api.get(&id).await.map(drop).map_err(|status| status.to_string()),
                        Err(error) => Err(error.to_string()),
                    };
                    calls.fetch_add(1, Ordering::Relaxed);
                    if let Err(problem) = read {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(problem);
                    }
                }
            }));
        }
        load
    }

    /// Lets later calls use other credentials. Waits until the calls with the old ones have ended, and some with the
    /// new ones too.
    async fn switch(&self, credentials: String) -> Result<()> {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = credentials;
        let after = self.calls.load(Ordering::Relaxed) + CALLS_BETWEEN;
        until("calls with the new key", RELOAD_LIMIT, async || {
            (self.calls.load(Ordering::Relaxed) >= after).then_some(())
        })
        .await
    }

    async fn end(self, name: &str) -> Result<Vec<Quantity>> {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await?;
        }
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let shown = Vec::from_iter(failed.iter().take(3).cloned());
        Ok(vec![
            Quantity::at_least(format!("{name}-calls"), self.calls.load(Ordering::Relaxed) as f64, 100.0),
            Quantity::observed(format!("{name}-failed"), (failed.len(), shown), failed.is_empty(), "0 failed calls"),
        ])
    }
}

/// Rotates API keys, then an issuer's keys, while callers read a document; no call may fail.
pub(super) async fn key_rotation(corpus: Corpus) -> Result<Vec<Quantity>> {
    let rotations = if corpus.full { 20 } else { 5 };
    let (access, issuer) = (Access::with_tenants(&["acme"])?, Issuer::start().await?);
    let scopes = [Scope::Read, Scope::Write];
    let first = access.key("acme", &scopes)?;
    let path = access.path().display().to_string();
    let args = ["--access", &path, "--jwt-issuer", &issuer.url, "--jwt-audience", AUDIENCE];
    let spec = ClusterSpec { api_key: Some(first.clone()), ..ClusterSpec::with_gateway_args(&args) };
    let cluster = spec.start().await?;
    let stored = cluster.api()?.put(b"a text of acme", ops::default_options()).await?;
    let id = id_of(&stored.document.context("no document")?);

    let (load, mut key) = (Load::start(&cluster, first, &id), String::new());
    let mut still_valid = 0;
    for _ in 0..rotations {
        let new = access.key("acme", &scopes)?;
        let api = GatewayApi::with_key(&cluster.gateway, Some(&new))?;
        until("the new key", RELOAD_LIMIT, async || api.stat(&id).await.ok()).await?;
        load.switch(new.clone()).await?;
        if !key.is_empty() {
            access.revoke(&key)?;
            let api = GatewayApi::with_key(&cluster.gateway, Some(&key))?;
            let refused = until("the revoked key to be refused", RELOAD_LIMIT, async || {
                api.stat(&id).await.is_err_and(|status| status.code() == Code::Unauthenticated).then_some(())
            });
            still_valid += u32::from(refused.await.is_err());
        }
        key = new;
    }
    let mut quantities = load.end("key-rotation-keys").await?;
    quantities.push(Quantity::equal("key-rotation-revoked-keys-still-valid", still_valid, 0));

    let token = || issuer.token(AUDIENCE, "acme", "read");
    let load = Load::start(&cluster, token()?, &id);
    for _ in 0..rotations {
        // The issuer signs with the new key at once, before the gateway has seen it.
        issuer.rotate()?;
        load.switch(token()?).await?;
    }
    quantities.extend(load.end("key-rotation-jwks").await?);
    Ok(quantities)
}
