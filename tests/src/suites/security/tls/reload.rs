//! Replacement of all certificates and of the CA under load.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use c3_client::{ByteRange, Client, ClientOptions, Error};
use futures::TryStreamExt;
use futures::future::join_all;

use crate::harness::certificates::Certificates;
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::gateway_api::id_of;
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;

/// Clients that call at the same time.
const CLIENTS: usize = 4;
/// Calls of a client on one connection, besides one read.
const CALLS_PER_CONNECTION: usize = 3;
/// Bytes of the text. It is short, because clients shall connect often.
const TEXT_BYTES: usize = 200;
/// Maximum time until all programs use new files.
const LIMIT: Duration = Duration::from_secs(20);
/// Time in which all clients use new files.
const CLIENTS_RELOAD: Duration = Duration::from_secs(2);
/// Line that a program logs when it uses new files.
const RELOADED: &str = "read the changed TLS files";

/// Moves all programs from one CA to another while clients connect and call: first both CAs are trusted, then the
/// certificates are replaced, then the old CA is removed. No call may fail. A broken key on the way must change
/// nothing.
pub(super) async fn reload(text: &str) -> Result<Vec<Quantity>> {
    let (certificates, next) = (Arc::new(Certificates::init().await?), Certificates::init().await?);
    let spec = ClusterSpec {
        certificates: Some(Arc::clone(&certificates)),
        gateway_args: vec!["--tls-client".to_owned(), "required".to_owned()],
        ..ClusterSpec::default()
    };
    let cluster = spec.start().await?;
    let text = &text[..text.floor_char_boundary(TEXT_BYTES)];
    let put = cluster.api()?.put_at(text.as_bytes(), 20).await?.document.context("no document")?;
    let load = Arc::new(Load {
        url: cluster.gateway.url(),
        options: ClientOptions { credentials: certificates.credentials("client")?, ..ClientOptions::default() },
        id: id_of(&put),
        text: text.to_owned(),
        ..Load::default()
    });
    let clients = Vec::from_iter((0..CLIENTS).map(|_| tokio::spawn(Arc::clone(&load).run())));

    let old = ca_of(&certificates)?;
    let new = ca_of(&next)?;
    certificates.replace("ca.pem", &format!("{old}{new}"))?;
    reloaded(&cluster, 1).await?;
    // The clients look at their files once a second, like the programs. They must know the new CA before any program
    // uses its certificates.
    tokio::time::sleep(CLIENTS_RELOAD).await;
    for role in ["gateway", "node", "client"] {
        // A torn write: the key is broken for a while.
        certificates.replace(&format!("{role}.key"), "-----BEGIN PRIVATE KEY-----\n")?;
    }
    let kept = until("the broken key to be reported", LIMIT, async || {
        let logs = logs(&cluster);
        logs.iter().all(|log| log.contains("keeping the old ones")).then_some(())
    });
    let kept = kept.await.is_ok();
    for role in ["gateway", "node", "client"] {
        for extension in ["pem", "key"] {
            let file = format!("{role}.{extension}");
            certificates.replace(&file, &fs::read_to_string(next.path(&file))?)?;
        }
    }
    reloaded(&cluster, 2).await?;
    tokio::time::sleep(CLIENTS_RELOAD).await;
    certificates.replace("ca.pem", &new)?;
    reloaded(&cluster, 3).await?;
    // The nodes' connections date from before, so new ones prove that both sides use the new files.
    let mut second = cluster.start_second_gateway().await?;
    second.terminate().await?;
    load.ended.store(true, Ordering::Relaxed);
    let failures: Vec<String> = join_all(clients).await.into_iter().flatten().flatten().collect();

    // The client of the old CA is refused now.
    let outdated = TlsOfOldCa::connect(&certificates, &cluster.gateway.url(), &old).await;
    Ok(vec![
        Quantity::reported("tls-reload-calls", load.calls.load(Ordering::Relaxed)),
        Quantity::reported("tls-reload-connections", load.connections.load(Ordering::Relaxed)),
        Quantity::holds("tls-reload-has-load", load.connections.load(Ordering::Relaxed) > 20, "> 20 connections"),
        Quantity::equal("tls-reload-failed-calls", failures, Vec::new()),
        Quantity::holds("tls-reload-broken-key", kept, "reported by each program, the old one kept"),
        Quantity::holds("tls-reload-old-ca", outdated.is_err(), "no longer accepted by either side"),
    ])
}

/// Calls that clients make over and over.
#[derive(Debug, Default)]
struct Load {
    url: String,
    options: ClientOptions,
    id: String,
    text: String,
    calls: AtomicU64,
    connections: AtomicU64,
    ended: AtomicBool,
}

impl Load {
    /// Connects and calls until the load has ended. Returns the first failure.
    async fn run(self: Arc<Self>) -> Option<String> {
        while !self.ended.load(Ordering::Relaxed) {
            if let Err(error) = self.connect_and_call().await {
                return Some(error.to_string());
            }
        }
        None
    }

    async fn connect_and_call(&self) -> Result<(), Error> {
        let client = Client::connect_with(&self.url, &self.options).await?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        let pieces: Vec<_> = client.get(&self.id, ByteRange::default()).await?.try_collect().await?;
        assert_eq!(pieces.concat(), self.text.as_bytes(), "another text came");
        for _ in 0..CALLS_PER_CONNECTION {
            client.stat(&self.id).await?;
        }
        self.calls.fetch_add(1 + CALLS_PER_CONNECTION as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// A client that trusts only the old CA.
struct TlsOfOldCa;

impl TlsOfOldCa {
    async fn connect(certificates: &Certificates, url: &str, old: &str) -> Result<()> {
        certificates.replace("old-ca.pem", old)?;
        let mut files = certificates.files("client");
        files.ca = Some(certificates.path("old-ca.pem"));
        let credentials = c3_client::Credentials::load(files, c3_client::ClientAuth::None)?;
        Client::connect_with(url, &ClientOptions { credentials, ..ClientOptions::default() }).await?;
        Ok(())
    }
}

fn ca_of(certificates: &Certificates) -> Result<String> {
    Ok(fs::read_to_string(certificates.path("ca.pem"))?)
}

fn logs(cluster: &Cluster) -> Vec<String> {
    let nodes = cluster.compressors.iter().chain(&cluster.decoders);
    nodes.chain([&cluster.gateway]).map(crate::harness::process::Process::log).collect()
}

/// Waits until each program has read changed files `times` times.
async fn reloaded(cluster: &Cluster, times: usize) -> Result<()> {
    until("all programs to use the new files", LIMIT, async || {
        logs(cluster).iter().all(|log| log.matches(RELOADED).count() >= times).then_some(())
    })
    .await
}
