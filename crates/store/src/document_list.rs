//! Lists of documents in the order of ids. Objects are in fan-out subfolders, by the first two digits of the id. To
//! return a page, only the subfolders of the ids in it are listed.

use std::collections::BTreeMap;

use c3_types::DocumentId;
use futures::{TryStreamExt, pin_mut};
use object_store::path::Path;

use crate::manifest::{LocatedVersion, Location};
use crate::object::key::{self, DELETED, DOCUMENTS};
use crate::object::version::Version;
use crate::{Error, Store};

/// Number of hexadecimal digits of an id.
const ID_DIGITS: usize = 64;

/// A range of document ids, from `first` to `last` inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// Lowest id.
    pub first: DocumentId,
    /// Highest id.
    pub last: DocumentId,
}

impl IdRange {
    /// Returns the range of all ids.
    pub fn all() -> Self {
        let [first, last] = [[0; _], [u8::MAX; _]].map(|bytes| blake3::Hash::from_bytes(bytes).into());
        Self { first, last }
    }

    /// Returns the ids that begin with the digits `prefix`; `None` if there are none.
    fn of_prefix(prefix: &str) -> Option<Self> {
        let padded = |digit: &str| {
            let padding = digit.repeat(ID_DIGITS.checked_sub(prefix.len())?);
            format!("{prefix}{padding}").parse().ok()
        };
        Some(Self { first: padded("0")?, last: padded("f")? })
    }

    /// Returns the ids of the range that are above `id`; `None` if there are none.
    fn above(self, id: DocumentId) -> Option<Self> {
        let mut next = *id.as_bytes();
        for byte in next.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        let first = self.first.max(blake3::Hash::from_bytes(next).into());
        (id < self.last).then_some(Self { first, ..self })
    }
}

impl Store {
    /// Returns the current versions of the first `limit` documents, in id order, whose id begins with `prefix` and is
    /// above `after`. Includes expired documents.
    pub async fn documents(
        &self,
        prefix: &str,
        after: Option<DocumentId>,
        limit: usize,
    ) -> Result<BTreeMap<DocumentId, LocatedVersion>, Error> {
        let above = |ids: IdRange| after.map_or(Some(ids), |after| ids.above(after));
        let (mut documents, mut rest) = (BTreeMap::new(), IdRange::of_prefix(prefix).and_then(above));
        while let Some(ids) = rest.filter(|_| documents.len() < limit) {
            let (next, last) = self.first_documents(ids, limit - documents.len()).await?;
            documents.extend(next);
            rest = ids.above(last);
        }
        Ok(documents.into_iter().take(limit).collect())
    }

    /// Returns the current versions of the documents from the start of a range up to some id, and that id. The id is
    /// chosen so that about `limit` documents, deleted ones included, are not above it. If there are fewer, it is the
    /// end of the range.
    async fn first_documents(
        &self,
        ids: IdRange,
        limit: usize,
    ) -> Result<(BTreeMap<DocumentId, LocatedVersion>, DocumentId), Error> {
        // Packs are listed after objects, so that versions that are moved to packs meanwhile are found. Tombstones are
        // listed last, so that documents that are deleted meanwhile are left out.
        let objects = self.first_versions(DOCUMENTS, ids, limit).await?;
        self.packs.refresh().await?;
        let packs = self.packs.all();
        let highest = objects.keys().next_back().filter(|_| objects.len() >= limit);
        let mut ids = IdRange { last: highest.copied().unwrap_or(ids.last), ..ids };
        for pack in &packs {
            if let Some(entry) = pack.entries_of(ids.first..=ids.last).get(limit - 1) {
                ids.last = entry.id;
            }
        }
        let objects = objects.range(..=ids.last);
        let mut newest: BTreeMap<_, _> =
            objects.map(|(&id, &version)| (id, LocatedVersion { version, location: Location::Object })).collect();
        for pack in &packs {
            for entry in pack.entries_of(ids.first..=ids.last) {
                if newest.get(&entry.id).is_none_or(|newest| newest.version < entry.version) {
                    newest.insert(entry.id, pack.located(entry));
                }
            }
        }
        let deleted = self.newest_versions(DELETED, ids).await?;
        newest.retain(|id, located| deleted.get(id).is_none_or(|&deleted| deleted < located.version));
        Ok((newest, ids.last))
    }

    /// Returns the highest version of each document in `folder` whose id is in the range.
    pub async fn newest_versions(&self, folder: &str, ids: IdRange) -> Result<BTreeMap<DocumentId, Version>, Error> {
        self.first_versions(folder, ids, usize::MAX).await
    }

    /// Like [`Self::newest_versions`], but stops after the first subfolder at whose end at least `limit` documents were
    /// found.
    async fn first_versions(
        &self,
        folder: &str,
        ids: IdRange,
        limit: usize,
    ) -> Result<BTreeMap<DocumentId, Version>, Error> {
        let [first, last] = [ids.first, ids.last].map(|id| id.as_bytes()[0]);
        let subfolders = self.objects.subfolders(Path::from(folder), first..=last);
        pin_mut!(subfolders);
        let mut newest = BTreeMap::new();
        while let Some(keys) = subfolders.try_next().await? {
            for (id, version) in keys.iter().filter_map(|key| key::parse_document(key.path())) {
                if (ids.first..=ids.last).contains(&id) {
                    let highest = newest.entry(id).or_insert(version);
                    *highest = version.max(*highest);
                }
            }
            if newest.len() >= limit {
                break;
            }
        }
        Ok(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{put_together, small, store};

    #[test]
    fn ranges_begin_above_an_id_and_end_with_the_prefix() {
        let (all, ab) = (IdRange::all(), IdRange::of_prefix("ab").unwrap());
        assert_eq!(IdRange::of_prefix(""), Some(all));
        assert!(ab.first.to_string().starts_with("ab00") && ab.last.to_string().ends_with("ff"));
        assert_eq!(all.above(all.last), None);
        assert_eq!(ab.above(all.first), Some(ab));
        assert_eq!(ab.above(ab.last), None);
        let next = ab.above(ab.first).unwrap().first.to_string();
        assert!(next.starts_with("ab00") && next.ends_with("01"));
        assert_eq!(IdRange::of_prefix(&"a".repeat(65)), None);
    }

    #[tokio::test]
    async fn pages_join_to_the_list_of_all_documents() {
        let (_folder, store) = store().await;
        let mut ids = put_together(&store, 40).await;
        for number in 40..80 {
            ids.push(store.put_manifest(small(&number.to_string())).await.unwrap().value.id);
        }
        for _ in 0..20 {
            store.delete(ids.remove(30)).await.unwrap();
        }
        ids.sort_unstable();
        for limit in [1, 3, 7, 100] {
            let (mut listed, mut after) = (Vec::new(), None);
            loop {
                let page = store.documents("", after, limit).await.unwrap();
                listed.extend(page.keys().copied());
                after = listed.last().copied();
                if page.len() < limit {
                    break;
                }
            }
            assert_eq!(listed, ids, "{limit}");
        }
    }
}
