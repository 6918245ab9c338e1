//! Names and labels, and changes of them by compare-and-set.
//!
//! Both are registers that hold a document and one of its versions. A value is live as long as the document exists. A
//! tombstone that covers the version deletes the value as well, so it does not come back when the same text is put
//! again. A value that is not live counts as absent.

use std::collections::BTreeMap;

use c3_types::{DocumentId, DocumentName, Expected, Namespace};
use futures::{TryStreamExt, pin_mut};
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::object::key::{self, DELETED, KeyPrefix, LABELS, NAMES, ObjectKey};
use crate::object::version::Version;
use crate::register::{Register, RegisterValue};
use crate::{Error, Store};

/// Result of a compare-and-set.
#[derive(Clone, Debug)]
pub enum Change {
    /// The value was changed.
    Applied {
        /// The live value before, if any.
        was: Option<Register>,
        /// The new generation.
        now: Register,
    },
    /// Removal of an absent value.
    Unchanged,
    /// The current value is not the expected one.
    Conflict {
        /// Token of the current value; `None` if it is absent.
        token: Option<String>,
    },
}

impl Store {
    /// Reads a name, live or not; `None` if it was never set, or was removed.
    pub async fn name(&self, name: &DocumentName) -> Result<Option<Register>, Error> {
        let register = self.register(&key::name_prefix(name)).await?;
        Ok(register.filter(|register| register.value.is_some()))
    }

    /// Sets a name, or removes it with `None`, if it is as expected.
    pub async fn change_name(
        &self,
        name: &DocumentName,
        expected: &Expected,
        value: Option<RegisterValue>,
    ) -> Result<Change, Error> {
        let prefix = key::name_prefix(name);
        self.change(&prefix, expected, |_| Ok(value.clone())).await
    }

    /// Returns the labels of a document, if there are any and the document exists.
    pub async fn labels(&self, id: DocumentId) -> Result<Option<Register>, Error> {
        let prefix = key::document_prefix(LABELS, id);
        self.live(self.register(&prefix).await?).await
    }

    /// Changes the labels of a document to the result of `update`, if they are as expected. `update` gets the live
    /// value and may be called several times.
    pub async fn change_labels<E: From<Error>>(
        &self,
        id: DocumentId,
        expected: &Expected,
        update: impl Fn(Option<&RegisterValue>) -> Result<Option<RegisterValue>, E>,
    ) -> Result<Change, E> {
        self.change(&key::document_prefix(LABELS, id), expected, update).await
    }

    /// Reads the labels in a listed generation, or in the newest one if that is gone.
    pub async fn listed_labels(&self, id: DocumentId, generation: Version) -> Result<Option<RegisterValue>, Error> {
        let prefix = key::document_prefix(LABELS, id);
        let register = self.listed_register(&prefix, &prefix.at(generation)).await?;
        Ok(register.and_then(|register| register.value))
    }

    /// Lists the newest generation of each name of a namespace, or of all.
    pub async fn names(&self, namespace: Option<&Namespace>) -> Result<BTreeMap<DocumentName, ObjectKey>, Error> {
        let folder = namespace.map_or_else(|| Path::from(NAMES), key::namespace_folder);
        let all = self.registers(&folder).await?;
        let newest = all.into_values().filter_map(|mut generations| {
            let newest = ObjectKey::from_path(generations.pop()?.location);
            Some((key::parse_name(newest.path())?, newest))
        });
        Ok(newest.collect())
    }

    /// Reads a name in a listed generation, or in the newest one if that is gone.
    pub async fn listed_name(&self, name: &DocumentName, listed: &ObjectKey) -> Result<Option<Register>, Error> {
        self.listed_register(&key::name_prefix(name), listed).await
    }

    /// Lists the generations of all registers in a folder, oldest first, by key prefix.
    pub(crate) async fn registers(&self, folder: &Path) -> Result<BTreeMap<String, Vec<ObjectMeta>>, Error> {
        let objects = self.objects.list(folder, folder);
        pin_mut!(objects);
        let mut registers = BTreeMap::<String, Vec<ObjectMeta>>::new();
        while let Some(object) = objects.try_next().await? {
            let (prefix, generation) = ObjectKey::from_path(object.location.clone()).split_version();
            if generation > Version::NONE {
                registers.entry(prefix.path().to_string()).or_default().push(object);
            }
        }
        for generations in registers.values_mut() {
            // The numbers have equally many digits.
            generations.sort_by(|a, b| a.location.cmp(&b.location));
        }
        Ok(registers)
    }

    /// Returns whether a value is live: its document exists and was not deleted since the write.
    pub async fn is_live(&self, value: &RegisterValue) -> Result<bool, Error> {
        if self.is_tombstoned(value).await? {
            return Ok(false);
        }
        match self.manifest(value.document).await {
            // A damaged document exists.
            Ok(_) | Err(Error::Damaged { .. }) => Ok(true),
            Err(Error::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns whether a value's document was deleted since the write.
    pub async fn is_tombstoned(&self, value: &RegisterValue) -> Result<bool, Error> {
        let tombstones = self.objects.versions(&key::document_prefix(DELETED, value.document)).await?;
        Ok(tombstones.last().is_some_and(|newest| newest.split_version().1 >= value.version))
    }

    async fn change<E: From<Error>>(
        &self,
        prefix: &KeyPrefix,
        expected: &Expected,
        update: impl Fn(Option<&RegisterValue>) -> Result<Option<RegisterValue>, E>,
    ) -> Result<Change, E> {
        // Terminates: a lost race means that another writer made progress.
        loop {
            let from = self.register(prefix).await?;
            let was = self.live(from.clone()).await?;
            let token = was.as_ref().map(Register::token);
            if !expected.matches(token.as_deref()) {
                return Ok(Change::Conflict { token });
            }
            let value = update(was.as_ref().and_then(|was| was.value.as_ref()))?;
            if was.is_none() && value.is_none() {
                return Ok(Change::Unchanged);
            }
            if let Some(now) = self.compare_and_set(prefix, from.as_ref(), value).await? {
                return Ok(Change::Applied { was, now });
            }
        }
    }

    /// Returns the register if its value is live.
    async fn live(&self, register: Option<Register>) -> Result<Option<Register>, Error> {
        match register.as_ref().and_then(|register| register.value.as_ref()) {
            Some(value) if self.is_live(value).await? => Ok(register),
            _ => Ok(None),
        }
    }

    async fn listed_register(&self, prefix: &KeyPrefix, listed: &ObjectKey) -> Result<Option<Register>, Error> {
        match self.read_register(listed).await {
            Err(Error::Missing { .. }) => self.register(prefix).await,
            read => read.map(Some),
        }
    }
}

#[cfg(test)]
mod tests;
