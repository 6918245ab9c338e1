//! The tenants' states, which are opened on first use. Tenants share the configuration, the nodes and the connections
//! to the store and Redis. They share no object, cache, list or computation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use c3_access::Control;
use c3_routing::Router;
use c3_server::access::Caller;
use c3_server::metrics::tenant_label;
use c3_store::Stores;
use c3_store::cache::{ManifestCache, Redis, ShardCache};
use c3_types::TenantId;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::name_lists::name_lists;
use crate::reindex_slot::ReindexSlot;
use crate::search::follow::follow;
use crate::search_index::TenantSearch;
use crate::single_flight::SingleFlight;
use crate::state::{Gateway, SharedGateway};

/// Maximum tenants whose states are open. Beyond it, the one that was unused for longest is closed, once its calls have
/// ended.
const OPEN_MAX: u64 = 1024;
/// Time after which the state of an unused tenant is closed, which frees its caches.
const IDLE_MAX: Duration = Duration::from_secs(3600);
/// The cache of manifests gets a tenant's cache memory divided by this number; the cache of shards gets the rest.
const MANIFEST_CACHE_DIVISOR: u64 = 8;
/// Interval at which the stores of tenants with a quota of stored bytes are measured.
const MEASURE_INTERVAL: Duration = Duration::from_secs(60);

/// The states of all tenants.
pub(crate) struct Tenants {
    pub(crate) config: Arc<Config>,
    pub(crate) router: Arc<Router>,
    /// `None`: there is only the tenant `default`.
    pub(crate) control: Option<Arc<Control>>,
    stores: Stores,
    redis: Option<Redis>,
    metrics: Metrics,
    open: Cache<TenantId, SharedGateway>,
    /// Reindex jobs of the tenants. They stay when the state of a tenant is closed.
    reindex: Mutex<HashMap<TenantId, Arc<ReindexSlot>>>,
    stop_jobs: CancellationToken,
}

/// Handle on the states of all tenants, which all requests share.
pub(crate) type SharedTenants = Arc<Tenants>;

/// Parts that tenants share.
pub(crate) struct SharedParts {
    pub(crate) config: Config,
    pub(crate) router: Router,
    pub(crate) control: Option<Arc<Control>>,
    pub(crate) stores: Stores,
    pub(crate) redis: Option<Redis>,
    pub(crate) metrics: Metrics,
    /// Ends the reindex jobs when it is cancelled.
    pub(crate) stop_jobs: CancellationToken,
}

impl Tenants {
    pub(crate) fn new(parts: SharedParts) -> Self {
        let SharedParts { config, router, control, stores, redis, metrics, stop_jobs } = parts;
        let open = Cache::builder().max_capacity(OPEN_MAX).eviction_policy(EvictionPolicy::lru());
        // The only tenant of a gateway without access control stays open.
        let open = if control.is_some() { open.time_to_idle(IDLE_MAX) } else { open };
        let (config, router, open, reindex) = (Arc::new(config), Arc::new(router), open.build(), Mutex::default());
        Self { config, router, control, stores, redis, metrics, open, reindex, stop_jobs }
    }

    /// Returns the state of the tenant that makes a call. The call layer has put the caller into the request.
    pub(crate) fn of_caller(&self, extensions: &http::Extensions) -> Result<SharedGateway, Error> {
        let caller = extensions.get::<Arc<Caller>>();
        let caller = caller.ok_or_else(|| Error::Internal("a call has no caller".to_owned()))?;
        Ok(self.get(&caller.identity.tenant))
    }

    /// Returns the state of a tenant. Opens it if necessary, or again if the tenant's share of the caches has changed.
    pub(crate) fn get(&self, tenant: &TenantId) -> SharedGateway {
        let cache_bytes = self.cache_bytes(tenant);
        let open = self.open.get_with_by_ref(tenant, || self.open(tenant, cache_bytes));
        if open.cache_bytes == cache_bytes {
            return open;
        }
        let resized = self.open(tenant, cache_bytes);
        self.open.insert(tenant.clone(), Arc::clone(&resized));
        resized
    }

    fn cache_bytes(&self, tenant: &TenantId) -> u64 {
        self.share(tenant, self.config.cache_size.0)
    }

    /// Returns the tenant's share of the memory for all tenants, in bytes.
    fn share(&self, tenant: &TenantId, all: u64) -> u64 {
        self.control.as_ref().map_or(all, |control| control.cache_share(tenant, all))
    }

    fn open(&self, tenant: &TenantId, cache_bytes: u64) -> SharedGateway {
        let metrics = match self.control {
            Some(_) => self.metrics.with_label(tenant_label(tenant)),
            None => self.metrics.clone(),
        };
        let manifest_bytes = cache_bytes / MANIFEST_CACHE_DIVISOR;
        let redis = self.redis.as_ref().map(|redis| redis.of_tenant(tenant.clone()));
        let search_bytes = self.share(tenant, self.config.search_memory.0);
        let (search, changes) = TenantSearch::new(usize::try_from(search_bytes).unwrap_or(usize::MAX));
        let gateway = Arc::new(Gateway {
            config: Arc::clone(&self.config),
            cache_bytes,
            quotas: self.control.as_ref().map(|control| control.quotas(tenant)),
            store: self.stores.tenant(tenant),
            cache: ShardCache::new(cache_bytes - manifest_bytes, redis, metrics.store.clone()),
            manifests: ManifestCache::new(manifest_bytes),
            name_lists: name_lists(),
            search,
            reindex: self.reindex_slot(tenant),
            router: Arc::clone(&self.router),
            shard_writes: SingleFlight::new(),
            window_reads: SingleFlight::new(),
            metrics,
            gc_lock: tokio::sync::Mutex::default(),
        });
        if gateway.search.is_on() {
            tokio::spawn(follow(Arc::downgrade(&gateway), changes));
        }
        gateway
    }

    fn reindex_slot(&self, tenant: &TenantId) -> Arc<ReindexSlot> {
        // No code that holds this lock panics.
        let mut slots = self.reindex.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry(tenant.clone()).or_insert_with(|| Arc::new(ReindexSlot::new(self.stop_jobs.clone())));
        Arc::clone(slot)
    }

    /// Measures the stores. Then repeats forever: waits for one interval, and runs garbage collection for each tenant
    /// in turn. If the interval is zero, only measures the stores. Failures are logged.
    pub(crate) async fn maintain(self: Arc<Self>, interval: Duration) {
        for tenant in self.stored_tenants().await {
            self.get(&tenant).measure_store().await;
        }
        if interval.is_zero() {
            return;
        }
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for tenant in self.stored_tenants().await {
                if let Err(error) = self.get(&tenant).collect_garbage(None).await {
                    tracing::error!(%tenant, %error, "garbage collection failed, the next run continues");
                }
            }
        }
    }

    /// Measures the stores of open tenants with a quota of stored bytes, and closes tenants whose keys were destroyed,
    /// at regular intervals, forever.
    pub(crate) async fn measure_quotas(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(MEASURE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let open = Vec::from_iter(self.open.iter());
            for (tenant, gateway) in open {
                if gateway.store.is_shredded() {
                    self.open.invalidate(&*tenant);
                    continue;
                }
                if gateway.quotas.as_ref().is_some_and(|quotas| quotas.limits_stored()) {
                    gateway.measure_store().await;
                }
            }
        }
    }

    async fn stored_tenants(&self) -> Vec<TenantId> {
        if self.control.is_none() {
            return vec![TenantId::default()];
        }
        self.stores.tenants().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot list the tenants in the store");
            Vec::new()
        })
    }
}
