//! Names and labels, and changes of them by compare-and-set.
//!
//! Both are cells that tell the document and a version of it that was there. They stand as long as that document: a
//! tombstone of this or a higher version takes them away with it, so that neither comes back where the same text is put
//! again. What does not stand counts as absent, whatever still lies there.

use std::collections::BTreeMap;

use c3_types::{DocumentId, DocumentName, Expected, Namespace};
use futures::{TryStreamExt, pin_mut};
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::Error;
use crate::Store;
use crate::object::key::{self, DELETED, KeyPrefix, LABELS, NAMES, ObjectKey, ObjectKind};
use crate::object::version::Version;
use crate::register::{Register, State};

/// What became of a change.
#[derive(Clone, Debug)]
pub enum Change {
    /// It is made: what was there, and what is there now.
    Made { was: Option<Register>, now: Register },
    /// There was nothing, and is to be nothing.
    Nothing,
    /// What was expected is not there, but what has this token, or nothing.
    Unexpected { there: Option<String> },
}

impl Store {
    /// What a name is; `None` where it was never set, or removed.
    pub async fn name(&self, name: &DocumentName) -> Result<Option<Register>, Error> {
        let cell = self.register(ObjectKind::Name, &key::of_name(name)).await?;
        Ok(cell.filter(|cell| cell.state.is_some()))
    }

    /// Changes a name, if it is as expected: to `state`, or to nothing.
    pub async fn change_name(
        &self,
        name: &DocumentName,
        expected: &Expected,
        state: Option<State>,
    ) -> Result<Change, Error> {
        let family = key::of_name(name);
        let change = self.change::<Error>(ObjectKind::Name, &family, expected, |_| Ok(state.clone()));
        change.await
    }

    /// The labels of a document that is there.
    pub async fn labels(&self, id: DocumentId) -> Result<Option<Register>, Error> {
        let family = key::of_document(LABELS, id);
        self.standing(self.register(ObjectKind::Labels, &family).await?).await
    }

    /// Changes the labels of a document, if they are as expected, to what `new` makes of them.
    pub async fn change_labels<E: From<Error>>(
        &self,
        id: DocumentId,
        expected: &Expected,
        new: impl Fn(Option<&State>) -> Result<Option<State>, E>,
    ) -> Result<Change, E> {
        self.change(ObjectKind::Labels, &key::of_document(LABELS, id), expected, new).await
    }

    /// The labels in a generation that was listed, or in what came after it.
    pub async fn listed_labels(&self, id: DocumentId, generation: Version) -> Result<Option<State>, Error> {
        let family = key::of_document(LABELS, id);
        let cell = self.listed_cell(ObjectKind::Labels, &family, &family.at(generation)).await?;
        Ok(cell.and_then(|cell| cell.state))
    }

    /// The newest generation of each name of a namespace, or of all.
    pub async fn names(
        &self,
        namespace: Option<&Namespace>,
    ) -> Result<BTreeMap<DocumentName, ObjectKey>, Error> {
        let folder = namespace.map_or_else(|| Path::from(NAMES), key::of_namespace);
        let all = self.registers(&folder).await?;
        let newest = all.into_values().filter_map(|mut generations| {
            let newest = ObjectKey::at(generations.pop()?.location);
            Some((key::name_at(newest.path())?, newest))
        });
        Ok(newest.collect())
    }

    /// What a name is that was listed, or became since.
    pub async fn listed_name(
        &self,
        name: &DocumentName,
        listed: &ObjectKey,
    ) -> Result<Option<Register>, Error> {
        self.listed_cell(ObjectKind::Name, &key::of_name(name), listed).await
    }

    /// All generations of the cells below a folder, oldest first, by what they have in common.
    pub async fn registers(&self, folder: &Path) -> Result<BTreeMap<String, Vec<ObjectMeta>>, Error> {
        let objects = self.objects.list(folder, folder);
        pin_mut!(objects);
        let mut cells = BTreeMap::<String, Vec<ObjectMeta>>::new();
        while let Some(object) = objects.try_next().await? {
            let (family, generation) = ObjectKey::at(object.location.clone()).split_version();
            if generation > Version::NONE {
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
    pub async fn stands(&self, state: &State) -> Result<bool, Error> {
        if self.is_tombstoned(state).await? {
            return Ok(false);
        }
        match self.manifest(state.document).await {
            // What cannot be read is there.
            Ok(_) | Err(Error::Damaged { .. }) => Ok(true),
            Err(Error::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the document that a cell tells of was deleted since.
    pub async fn is_tombstoned(&self, state: &State) -> Result<bool, Error> {
        let tombstones = self.objects.generations(&key::of_document(DELETED, state.document)).await?;
        Ok(tombstones.last().is_some_and(|newest| newest.split_version().1 >= state.version))
    }

    async fn change<E: From<Error>>(
        &self,
        kind: ObjectKind,
        family: &KeyPrefix,
        expected: &Expected,
        new: impl Fn(Option<&State>) -> Result<Option<State>, E>,
    ) -> Result<Change, E> {
        // Ends: where this one is too late, another is made.
        loop {
            let from = self.register(kind, family).await?;
            let was = self.standing(from.clone()).await?;
            let there = was.as_ref().map(Register::token);
            if !expected.matches(there.as_deref()) {
                return Ok(Change::Unexpected { there });
            }
            let state = new(was.as_ref().and_then(|was| was.state.as_ref()))?;
            if was.is_none() && state.is_none() {
                return Ok(Change::Nothing);
            }
            if let Some(now) = self.compare_and_set(kind, family, from.as_ref(), state).await? {
                return Ok(Change::Made { was, now });
            }
        }
    }

    /// The cell, where it holds something that stands.
    async fn standing(&self, cell: Option<Register>) -> Result<Option<Register>, Error> {
        match cell.as_ref().and_then(|cell| cell.state.as_ref()) {
            Some(state) if self.stands(state).await? => Ok(cell),
            _ => Ok(None),
        }
    }

    async fn listed_cell(
        &self,
        kind: ObjectKind,
        family: &KeyPrefix,
        listed: &ObjectKey,
    ) -> Result<Option<Register>, Error> {
        match self.read_register(kind, listed).await {
            Err(Error::Missing { .. }) => self.register(kind, family).await,
            read => read.map(Some),
        }
    }
}

#[cfg(test)]
mod tests;
