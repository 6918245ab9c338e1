//! Cache for lists of documents that are filtered by name: keeps the names that matched a recent filter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use c3_store::object::version::Version;
use c3_types::{DocumentId, NameFilter};
use moka::future::Cache;

/// Maximum memory of the cached [`NamesByDocument`], in bytes.
const NAME_LISTS_BYTES: u64 = 64 << 20;
/// Time for which the later pages of a list reuse the names that the first page read.
const NAME_LIST_TTL: Duration = Duration::from_secs(60);
/// Approximate memory use of an entry of [`NamesByDocument`] in bytes, without its names.
const NAME_ENTRY_WEIGHT: usize = 128;

/// The names that match a filter, grouped by document. Each has the version of the document on which it was set.
pub(crate) type NamesByDocument = BTreeMap<DocumentId, Vec<(String, Version)>>;

/// The names that matched recent filters. The store can find the document of a name, but not the names of a document.
/// Without this cache, every page of a filtered list would read all names.
pub(crate) type NameLists = Cache<NameFilter, Arc<NamesByDocument>>;

/// Creates an empty cache.
pub(crate) fn name_lists() -> NameLists {
    let weight = |_: &NameFilter, named: &Arc<NamesByDocument>| {
        let names = named.values().flatten().map(|(name, _)| size_of::<(String, Version)>() + name.len());
        u32::try_from(named.len() * NAME_ENTRY_WEIGHT + names.sum::<usize>()).unwrap_or(u32::MAX)
    };
    Cache::builder().max_capacity(NAME_LISTS_BYTES).weigher(weight).time_to_live(NAME_LIST_TTL).build()
}
