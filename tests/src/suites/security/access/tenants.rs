//! Random operations of three tenants over two gateways, compared with a model of each tenant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use c3_client::DocumentId;
use c3_proto::pb;
use c3_server::access::Scope;
use fastrand::Rng;
use futures::future::try_join_all;
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::harness::access::Access;
use crate::harness::cluster::ClusterSpec;
use crate::harness::external::ExternalServer;
use crate::harness::fixtures::{Corpus, stretch};
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;
use crate::suites::store::ops;

const TENANTS: [&str; 3] = ["default", "acme", "other"];
/// Texts that all tenants store, so that anything that they shared would show.
const TEXTS: usize = 24;
/// Sizes of the texts, in bytes. A long one has several shards, so that its latents are objects of their own.
const SHORT_BYTES: usize = 24;
const LONG_BYTES: usize = 20_000;
/// Operations of all tenants together.
const OPERATIONS: usize = 12_000;
/// Memory of all caches, in bytes: small, so that reads also reach Redis and the store.
const CACHE_BYTES: &str = "65536";

/// Maximum time until a gateway accepts a new key.
const KEY_LIMIT: Duration = Duration::from_secs(10);

/// Documents of a tenant, as its operations left them.
#[derive(Default)]
struct Model {
    documents: BTreeMap<String, Arc<str>>,
    names: BTreeMap<String, String>,
    /// Ids that the tenant has ever stored. Their shards may be reused.
    ever: BTreeSet<String>,
}

/// Violations that a tenant's operations found.
#[derive(Default)]
struct Violations {
    /// Answers with a document or name that the tenant does not have.
    foreign: Vec<String>,
    /// Shards that were reused although the tenant never stored the text: the time of the put would tell.
    reused: Vec<String>,
    /// Answers that contradict the model in another way.
    wrong: Vec<String>,
}

/// Runs random operations of three tenants on two gateways with all caches; none may see anything of another tenant.
pub(super) async fn tenants(corpus: Corpus) -> Result<Vec<Quantity>> {
    let operations = if corpus.full { 10 * OPERATIONS } else { OPERATIONS };
    let seed = fastrand::u64(..);
    let access = Access::with_tenants(&TENANTS)?;
    let folder = TempDir::with_prefix("c3-redis-")?;
    let redis = ExternalServer::redis(folder.path(), None).await?;
    let path = access.path().display().to_string();
    let url = format!("redis://{}", redis.address);
    let args = ["--access", &path, "--redis", &url, "--cache-size", CACHE_BYTES, "--gc-interval", "5s"];
    let admin = access.key("default", &Scope::ALL)?;
    let spec = ClusterSpec { api_key: Some(admin), ..ClusterSpec::with_gateway_args(&args) };
    let cluster = spec.start().await?;
    let second = cluster.start_second_gateway().await?;
    let books = corpus.whole_book("dickens-and-music")?;
    let text = |number: usize| {
        let bytes = if number.is_multiple_of(8) { LONG_BYTES } else { SHORT_BYTES };
        Arc::from(stretch(&books, number, bytes))
    };
    let texts: Arc<[Arc<str>]> = (0..TEXTS).map(text).collect();
    let runs = TENANTS.iter().enumerate().map(|(number, tenant)| {
        let key = access.key(tenant, &Scope::ALL);
        let (texts, gateways) = (Arc::clone(&texts), [&cluster.gateway, &second]);
        let rng = Rng::with_seed(seed.wrapping_add(number as u64));
        async move {
            let key = key?;
            let apis = [GatewayApi::with_key(gateways[0], Some(&key))?, GatewayApi::with_key(gateways[1], Some(&key))?];
            // The second tenant's key may not be known yet: the gateways read the file each second.
            for api in &apis {
                until("the key", KEY_LIMIT, async || api.ids().await.ok()).await?;
            }
            let mut run = Run { apis, rng, texts, model: Model::default(), violations: Violations::default() };
            for _ in 0..operations / TENANTS.len() {
                run.step().await?;
            }
            Ok::<_, anyhow::Error>(run.violations)
        }
    });
    let found = try_join_all(runs).await?;
    let collect = |select: fn(&Violations) -> &Vec<String>| Vec::from_iter(found.iter().flat_map(select).cloned());
    let hits = cluster.gateway_metric("c3_cache_lookup_duration_seconds_count", r#"tier="redis""#).await?;
    Ok(vec![
        Quantity::reported("tenants-seed", seed),
        Quantity::at_least("tenants-operations", operations as f64, 10_000.0),
        Quantity::equal("tenants-cross-tenant-reads", collect(|found| &found.foreign), Vec::new()),
        Quantity::equal("tenants-shards-reused-across-tenants", collect(|found| &found.reused), Vec::new()),
        Quantity::equal("tenants-contradictions", collect(|found| &found.wrong), Vec::new()),
        Quantity::at_least("tenants-redis-lookups", hits, 1.0),
    ])
}

/// The operations of one tenant.
struct Run {
    apis: [GatewayApi; 2],
    rng: Rng,
    texts: Arc<[Arc<str>]>,
    model: Model,
    violations: Violations,
}

impl Run {
    async fn step(&mut self) -> Result<()> {
        let api = self.apis[self.rng.usize(..2)].clone();
        let text = Arc::clone(&self.texts[self.rng.usize(..TEXTS)]);
        let id = DocumentId::of(text.as_bytes()).to_string();
        match self.rng.u32(..100) {
            0..15 => self.put(&api, &text, ops::default_options(), None).await,
            15..18 => {
                let upload = format!("upload-{}", self.rng.u32(..4));
                self.put(&api, &text, pb::WriteOptions { upload, ..ops::default_options() }, None).await
            }
            18..22 => self.append(&api, &id).await,
            22..40 => self.get(&api, "get", &id, &id).await,
            40..52 => self.get(&api, "get by prefix", &id, &id[..8]).await,
            52..60 => {
                let windows = api.windows(&id).await.map(|windows| windows.len());
                self.exists("latents", &id, windows.map(drop))
            }
            60..66 => self.exists("stat", &id, api.stat(&id).await.map(drop)),
            66..72 => self.list(&api).await,
            72..78 => self.set_name(&api, &id).await,
            78..86 => self.get_name(&api).await,
            86..89 => self.list_names(&api).await,
            89..93 => {
                let deleted = api.stub().delete(pb::DeleteRequest { id: id.clone() }).await.map(drop);
                self.exists("delete", &id, deleted)?;
                if self.model.documents.remove(&id).is_some() {
                    self.model.names.retain(|_, named| *named != id);
                }
                Ok(())
            }
            93..97 => {
                let uploads = api.stub().uploads(pb::UploadsRequest {}).await?.into_inner().uploads;
                // Every put ends, so no upload is left.
                self.expect("uploads", uploads.is_empty(), || format!("{uploads:?}"));
                Ok(())
            }
            _ => {
                let totals = api.stub().totals(pb::TotalsRequest {}).await?.into_inner();
                let (seen, expected) = (totals.documents, self.model.documents.len() as u64);
                self.expect("totals", seen == expected, || format!("{seen} documents, not {expected}"));
                Ok(())
            }
        }
    }

    fn expect(&mut self, operation: &str, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.violations.wrong.push(format!("{operation}: {}", problem()));
        }
    }

    async fn put(
        &mut self,
        api: &GatewayApi,
        text: &Arc<str>,
        options: pb::WriteOptions,
        base: Option<&str>,
    ) -> Result<()> {
        let id = DocumentId::of(text.as_bytes()).to_string();
        let put = match api.put(text.as_bytes(), options).await {
            // Garbage collection may remove a shard that the put reuses.
            Err(status) if status.code() == Code::Unavailable => return Ok(()),
            put => put.with_context(|| format!("put {base:?}"))?,
        };
        let existed = self.model.documents.contains_key(&id);
        self.expect("put", put.already_stored == existed, || format!("already stored: {}", put.already_stored));
        if put.shards_reused > 0 && !self.model.ever.contains(&id) && base.is_none() {
            self.violations.reused.push(id.clone());
        }
        self.model.ever.insert(id.clone());
        self.model.documents.insert(id, Arc::clone(text));
        Ok(())
    }

    /// Appends to a document that the tenant may not have.
    async fn append(&mut self, api: &GatewayApi, base: &str) -> Result<()> {
        let Some(old) = self.model.documents.get(base).cloned() else {
            let by_base = self.rng.bool();
            let options = match by_base {
                true => pb::WriteOptions { base: base.to_owned(), ..ops::default_options() },
                false => pb::WriteOptions { append_to: base.to_owned(), ..ops::default_options() },
            };
            let put = api.put(b"more", options).await.map(drop);
            return self.exists("append", base, put);
        };
        let text: Arc<str> = format!("{old}+").into();
        // The result is deleted again, so that the model stays small.
        let options = pb::WriteOptions { append_to: base.to_owned(), ..ops::default_options() };
        let put = api.put(b"+", options).await;
        match put {
            Err(status) if status.code() == Code::Unavailable => return Ok(()),
            put => {
                let id = id_of(&put?.document.context("no document")?);
                let expected = DocumentId::of(text.as_bytes()).to_string();
                self.expect("append", id == expected, || format!("{id}, not {expected}"));
                self.model.ever.insert(id.clone());
                api.stub().delete(pb::DeleteRequest { id }).await?;
            }
        }
        Ok(())
    }

    /// Compares an answer about a document with the model.
    fn exists(&mut self, operation: &str, id: &str, answer: Result<(), Status>) -> Result<()> {
        match (answer, self.model.documents.contains_key(id)) {
            (Ok(()), false) => self.violations.foreign.push(format!("{operation} {id}")),
            (Err(status), false) if status.code() == Code::NotFound => {}
            (Err(status), true) => self.violations.wrong.push(format!("{operation} {id}: {status}")),
            (Err(status), false) => self.violations.wrong.push(format!("{operation} {id}: {status}")),
            (Ok(()), true) => {}
        }
        Ok(())
    }

    /// Reads a document by `reference`: its text or, since decoding takes long, the latents of a long one.
    async fn get(&mut self, api: &GatewayApi, operation: &str, id: &str, reference: &str) -> Result<()> {
        if self.model.documents.get(id).is_some_and(|text| text.len() > SHORT_BYTES) {
            let windows = api.windows(reference).await.map(drop);
            return self.exists(operation, id, windows);
        }
        let text = api.get(reference).await.map(|got| String::from_utf8_lossy(&got.text).into_owned());
        self.compare(operation, id, text)
    }

    fn compare(&mut self, operation: &str, id: &str, text: Result<String, Status>) -> Result<()> {
        if let (Ok(text), Some(expected)) = (&text, self.model.documents.get(id)) {
            let is_equal = **expected == **text;
            self.expect(operation, is_equal, || format!("{id} has another text"));
        }
        self.exists(operation, id, text.map(drop))
    }

    async fn list(&mut self, api: &GatewayApi) -> Result<()> {
        let ids = BTreeSet::from_iter(api.ids().await?);
        let own = BTreeSet::from_iter(self.model.documents.keys().cloned());
        self.violations.foreign.extend(ids.difference(&own).map(|id| format!("list {id}")));
        self.violations.wrong.extend(own.difference(&ids).map(|id| format!("list lacks {id}")));
        Ok(())
    }

    fn name(&mut self) -> String {
        format!("name-{}", self.rng.u32(..8))
    }

    async fn set_name(&mut self, api: &GatewayApi, id: &str) -> Result<()> {
        let name = self.name();
        let request = pb::SetNameRequest { name: name.clone(), id: id.to_owned(), ..Default::default() };
        let set = api.stub().set_name(request).await.map(drop);
        if set.is_ok() {
            self.model.names.insert(name, id.to_owned());
        }
        self.exists("set name", id, set)
    }

    async fn get_name(&mut self, api: &GatewayApi) -> Result<()> {
        let name = self.name();
        let named = api.stub().get_name(pb::GetNameRequest { name: name.clone(), ..Default::default() }).await;
        let named = named.map(|named| named.into_inner().named.unwrap_or_default().hex_id);
        match (named, self.model.names.get(&name)) {
            (Ok(id), Some(own)) if id == *own => {}
            (Ok(id), _) => self.violations.foreign.push(format!("name {name} points at {id}")),
            (Err(status), None) if status.code() == Code::NotFound => {}
            (Err(status), own) => self.violations.wrong.push(format!("name {name} of {own:?}: {status}")),
        }
        Ok(())
    }

    async fn list_names(&mut self, api: &GatewayApi) -> Result<()> {
        let listed = api.stub().list_names(pb::ListNamesRequest::default()).await?.into_inner();
        ensure!(listed.next_page_token.is_empty(), "more than one page of names");
        let listed = BTreeMap::from_iter(listed.names.into_iter().map(|named| (named.name, named.hex_id)));
        for (name, id) in &listed {
            if self.model.names.get(name) != Some(id) {
                self.violations.foreign.push(format!("list of names: {name} {id}"));
            }
        }
        let (seen, expected) = (listed.len(), self.model.names.len());
        self.expect("list of names", seen == expected, || format!("{seen} names, not {expected}"));
        Ok(())
    }
}
