//! The stores of all tenants. They share a backend and nothing else: no object, listing, register, upload session or
//! garbage collection run of one tenant reaches another one.
//!
//! The tenant `default` owns the root, with all objects that were stored before there were tenants. Every other tenant
//! owns `tenants/NAME/`.

use std::path::Path;

use c3_types::TenantId;
use object_store::path::Path as ObjectPath;

use crate::object::Objects;
use crate::object::backend::BackendSettings;
use crate::object::layout::TENANTS;
use crate::{Error, OpenError, Store};

/// An open backend, which contains the stores of all tenants.
pub struct Stores {
    root: Objects,
}

impl Stores {
    /// Opens a local folder, which is created if missing, or the object store at a URL. Fails if it is not writable,
    /// but accepts a full one.
    pub async fn open(backend: impl Into<BackendSettings>) -> Result<Self, OpenError> {
        Ok(Self { root: Objects::open(&backend.into()).await? })
    }

    /// Returns the local folder; `None` for an object store.
    pub fn folder(&self) -> Option<&Path> {
        self.root.folder()
    }

    /// Returns the store of a tenant. Reads and writes nothing. Each call returns a new handle with its own caches, so
    /// keep it while it is in use.
    pub fn tenant(&self, tenant: &TenantId) -> Store {
        Store::new(match tenant.is_default() {
            true => self.root.below(ObjectPath::ROOT),
            false => self.root.below(ObjectPath::from_iter([TENANTS, tenant.as_str()])),
        })
    }

    /// Returns the tenants that have a store, in alphabetical order. `default` is always one of them.
    pub async fn tenants(&self) -> Result<Vec<TenantId>, Error> {
        let names = self.root.subfolder_names(TENANTS).await?;
        let named = names.iter().filter_map(|name| name.parse().ok()).filter(|tenant: &TenantId| !tenant.is_default());
        let mut tenants = Vec::from_iter(named.chain([TenantId::default()]));
        tenants.sort_unstable();
        Ok(tenants)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use c3_types::FsckMode;

    use super::*;
    use crate::tests::{files, findings, large, open, small};

    #[tokio::test]
    async fn tenants_share_a_backend_and_no_object() {
        let folder = tempfile::tempdir().unwrap();
        let stores = Stores::open(folder.path().to_str().unwrap()).await.unwrap();
        assert_eq!(stores.tenants().await.unwrap(), [TenantId::default()]);
        let [root, acme, other] = ["default", "acme", "other"].map(|name| stores.tenant(&name.parse().unwrap()));
        let (large, _) = large(&acme, "large").await;
        acme.put_manifest(large).await.unwrap();
        acme.put_manifest(small("small")).await.unwrap();
        root.put_manifest(small("small")).await.unwrap();
        for (store, count) in [(&root, 1), (&acme, 2), (&other, 0)] {
            assert_eq!(store.documents("", None, 10).await.unwrap().len(), count);
            assert_eq!(findings(store, FsckMode::Report).await, []);
            assert_eq!(store.objects.survey().await.unwrap().foreign, 0);
        }
        assert_eq!((root.size().await.unwrap().objects, acme.size().await.unwrap().objects), (1, 4));
        assert_eq!(stores.tenants().await.unwrap(), ["acme", "default"].map(|name| name.parse().unwrap()));

        // Garbage collection of one tenant removes nothing of another.
        root.sweep(Duration::ZERO).await.unwrap();
        other.sweep(Duration::ZERO).await.unwrap();
        assert_eq!(files(folder.path(), "tenants/acme"), 4);
        // A store that was opened without tenants is that of the tenant `default`.
        assert_eq!(open(folder.path()).await.documents("", None, 10).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_tenant_of_a_vanished_store_is_unavailable() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let stores = Stores::open(data.to_str().unwrap()).await.unwrap();
        let acme = stores.tenant(&"acme".parse().unwrap());
        assert_eq!(acme.documents("", None, 10).await.unwrap().len(), 0);
        std::fs::rename(&data, folder.path().join("away")).unwrap();
        assert!(matches!(acme.put_manifest(small("small")).await, Err(Error::Unavailable { .. })));
        assert!(matches!(acme.documents("", None, 10).await, Err(Error::Unavailable { .. })));
        assert!(!data.join("tenants").exists());
    }
}
