//! Names and labels, and changes of them by compare-and-set.
//!
//! Both are cells that tell the document and a version of it that was there. They stand as long as that document: a
//! tombstone of this or a higher version takes them away with it, so that neither comes back where the same text is put
//! again. What does not stand counts as absent, whatever still lies there.

use std::collections::BTreeMap;

use c3_proto::{DocumentId, DocumentName, Expected, Namespace};
use futures::{TryStreamExt, pin_mut};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::Store;
use super::cell::{Cell, State};
use super::layout::{self, DELETED, Family, LABELS, NAMES, Name, ObjectKind};
use super::objects::StoreError;
use super::stamp::Stamp;

/// What became of a change.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// It is made: what was there, and what is there now.
    Made { was: Option<Cell>, now: Cell },
    /// There was nothing, and is to be nothing.
    Nothing,
    /// What was expected is not there, but what has this token, or nothing.
    Unexpected { there: Option<String> },
}

impl Store {
    /// What a name is; `None` where it was never set, or removed.
    pub(crate) async fn name(&self, name: &DocumentName) -> Result<Option<Cell>, StoreError> {
        let cell = self.cell(ObjectKind::Name, &layout::of_name(name)).await?;
        Ok(cell.filter(|cell| cell.state.is_some()))
    }

    /// Changes a name, if it is as expected: to `state`, or to nothing.
    pub(crate) async fn change_name(
        &self,
        name: &DocumentName,
        expected: &Expected,
        state: Option<State>,
    ) -> Result<Change, StoreError> {
        let family = layout::of_name(name);
        let change = self.change::<StoreError>(ObjectKind::Name, &family, expected, |_| Ok(state.clone()));
        change.await
    }

    /// The labels of a document that is there.
    pub(crate) async fn labels(&self, id: DocumentId) -> Result<Option<Cell>, StoreError> {
        let family = layout::of_document(LABELS, id);
        self.standing(self.cell(ObjectKind::Labels, &family).await?).await
    }

    /// Changes the labels of a document, if they are as expected, to what `new` makes of them.
    pub(crate) async fn change_labels<E: From<StoreError>>(
        &self,
        id: DocumentId,
        expected: &Expected,
        new: impl Fn(Option<&State>) -> Result<Option<State>, E>,
    ) -> Result<Change, E> {
        self.change(ObjectKind::Labels, &layout::of_document(LABELS, id), expected, new).await
    }

    /// The labels in a generation that was listed, or in what came after it.
    pub(crate) async fn listed_labels(
        &self,
        id: DocumentId,
        generation: Stamp,
    ) -> Result<Option<State>, StoreError> {
        let family = layout::of_document(LABELS, id);
        let cell = self.listed_cell(ObjectKind::Labels, &family, &family.at(generation)).await?;
        Ok(cell.and_then(|cell| cell.state))
    }

    /// The newest generation of each name of a namespace, or of all.
    pub(crate) async fn names(
        &self,
        namespace: Option<&Namespace>,
    ) -> Result<BTreeMap<DocumentName, Name>, StoreError> {
        let folder = namespace.map_or_else(|| Path::from(NAMES), layout::of_namespace);
        let all = self.cells(&folder).await?;
        let newest = all.into_values().filter_map(|mut generations| {
            let newest = Name::at(generations.pop()?.location);
            Some((layout::name_at(newest.path())?, newest))
        });
        Ok(newest.collect())
    }

    /// What a name is that was listed, or became since.
    pub(crate) async fn listed_name(
        &self,
        name: &DocumentName,
        listed: &Name,
    ) -> Result<Option<Cell>, StoreError> {
        self.listed_cell(ObjectKind::Name, &layout::of_name(name), listed).await
    }

    /// All generations of the cells below a folder, oldest first, by what they have in common.
    pub(super) async fn cells(&self, folder: &Path) -> Result<BTreeMap<String, Vec<ObjectMeta>>, StoreError> {
        let objects = self.objects.list(folder, folder);
        pin_mut!(objects);
        let mut cells = BTreeMap::<String, Vec<ObjectMeta>>::new();
        while let Some(object) = objects.try_next().await? {
            let (family, generation) = Name::at(object.location.clone()).family();
            if generation > Stamp::NONE {
                cells.entry(family.path().to_string()).or_default().push(object);
            }
        }
        for generations in cells.values_mut() {
            // Of one length, so by number.
            generations.sort_by(|a, b| a.location.cmp(&b.location));
        }
        Ok(cells)
    }

    /// Whether the document that a cell tells of is still the one that it was.
    pub(crate) async fn stands(&self, state: &State) -> Result<bool, StoreError> {
        if self.is_buried(state).await? {
            return Ok(false);
        }
        match self.manifest(state.document).await {
            // What cannot be read is there.
            Ok(_) | Err(StoreError::Damaged { .. }) => Ok(true),
            Err(StoreError::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the document that a cell tells of was deleted since.
    pub(crate) async fn is_buried(&self, state: &State) -> Result<bool, StoreError> {
        let tombstones = self.objects.generations(&layout::of_document(DELETED, state.document)).await?;
        Ok(tombstones.last().is_some_and(|newest| newest.family().1 >= state.version))
    }

    async fn change<E: From<StoreError>>(
        &self,
        kind: ObjectKind,
        family: &Family,
        expected: &Expected,
        new: impl Fn(Option<&State>) -> Result<Option<State>, E>,
    ) -> Result<Change, E> {
        // Ends: where this one is too late, another is made.
        loop {
            let from = self.cell(kind, family).await?;
            let was = self.standing(from.clone()).await?;
            let there = was.as_ref().map(Cell::token);
            if !expected.is_met(there.as_deref()) {
                return Ok(Change::Unexpected { there });
            }
            let state = new(was.as_ref().and_then(|was| was.state.as_ref()))?;
            if was.is_none() && state.is_none() {
                return Ok(Change::Nothing);
            }
            if let Some(now) = self.next_cell(kind, family, from.as_ref(), state).await? {
                return Ok(Change::Made { was, now });
            }
        }
    }

    /// The cell, where it holds something that stands.
    async fn standing(&self, cell: Option<Cell>) -> Result<Option<Cell>, StoreError> {
        match cell.as_ref().and_then(|cell| cell.state.as_ref()) {
            Some(state) if self.stands(state).await? => Ok(cell),
            _ => Ok(None),
        }
    }

    async fn listed_cell(
        &self,
        kind: ObjectKind,
        family: &Family,
        listed: &Name,
    ) -> Result<Option<Cell>, StoreError> {
        match self.read_cell(kind, listed).await {
            Err(StoreError::Missing { .. }) => self.cell(kind, family).await,
            read => read.map(Some),
        }
    }
}

#[cfg(test)]
mod tests;
