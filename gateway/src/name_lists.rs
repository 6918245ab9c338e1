//! Cache of the names that recent lists of documents were filtered by.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use c3_store::object::version::Version;
use c3_types::{DocumentId, NameFilter};
use moka::future::Cache;

/// Maximum memory of the cached [`NamesByDocument`], in bytes.
const NAME_LISTS_BYTES: u64 = 64 << 20;
/// Time for which the pages of a list that is filtered by names reuse the names that the first page read.
const NAME_LIST_TTL: Duration = Duration::from_secs(60);
/// Approximate memory use of an entry of [`NamesByDocument`] in bytes, without its names.
const NAME_ENTRY_WEIGHT: usize = 128;

/// Names in a filter by document, each with the document version that it was set on.
pub(crate) type NamesByDocument = BTreeMap<DocumentId, Vec<(String, Version)>>;

/// Names that recent lists were filtered by. The store finds documents by name, not names by document, so without this
/// every page would read all names.
pub(crate) type NameLists = Cache<NameFilter, Arc<NamesByDocument>>;

/// Creates an empty cache.
pub(crate) fn name_lists() -> NameLists {
    let weight = |_: &NameFilter, named: &Arc<NamesByDocument>| {
        let names = named.values().flatten().map(|(name, _)| size_of::<(String, Version)>() + name.len());
        u32::try_from(named.len() * NAME_ENTRY_WEIGHT + names.sum::<usize>()).unwrap_or(u32::MAX)
    };
    Cache::builder().max_capacity(NAME_LISTS_BYTES).weigher(weight).time_to_live(NAME_LIST_TTL).build()
}
