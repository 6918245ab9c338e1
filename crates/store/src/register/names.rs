//! Names and labels, and changes of them by compare-and-set.
//!
//! Both are registers whose value contains a document id and a version of that document. A value is live as long as the
//! document exists. A tombstone that deletes the version deletes the value too, so the value does not reappear when the
//! same text is put again. A value that is not live counts as absent.

use std::collections::BTreeMap;

use c3_types::{DocumentId, DocumentName, Expected, Namespace};
use futures::{Stream, TryStreamExt, pin_mut, stream};
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
        /// The generation before the change; `None` if there was no live value.
        was: Option<Register>,
        /// The new generation.
        now: Register,
    },
    /// The value to remove was already absent, so nothing was changed.
    Unchanged,
    /// The current value does not meet the precondition.
    Conflict {
        /// Token of the current value; `None` if it is absent.
        token: Option<String>,
    },
}

impl Store {
    /// Reads a name, even if its document does not exist; `None` if the name was never set or was removed.
    pub async fn name(&self, name: &DocumentName) -> Result<Option<Register>, Error> {
        let register = self.register(&key::name_prefix(name)).await?;
        Ok(register.filter(|register| register.value.is_some()))
    }

    /// Sets a name to `value`, or removes the name if `value` is `None`. Changes nothing if the current value of the
    /// name does not meet the precondition `expected`.
    pub async fn change_name(
        &self,
        name: &DocumentName,
        expected: &Expected,
        value: Option<RegisterValue>,
    ) -> Result<Change, Error> {
        let prefix = key::name_prefix(name);
        self.change(&prefix, expected, |_| Ok(value.clone())).await
    }

    /// Returns the labels of a document; `None` if there are none or the document does not exist.
    pub async fn labels(&self, id: DocumentId) -> Result<Option<Register>, Error> {
        let prefix = key::document_prefix(LABELS, id);
        self.live(self.register(&prefix).await?).await
    }

    /// Replaces the labels of a document with the result of `update`. Changes nothing if the current labels do not meet
    /// the precondition `expected`. `update` gets the live value, if any, and is called again if another writer was
    /// faster.
    pub async fn change_labels<E: From<Error>>(
        &self,
        id: DocumentId,
        expected: &Expected,
        update: impl Fn(Option<&RegisterValue>) -> Result<Option<RegisterValue>, E>,
    ) -> Result<Change, E> {
        self.change(&key::document_prefix(LABELS, id), expected, update).await
    }

    /// Reads the labels in a listed generation, or in the newest one if the listed one was deleted. Also returns labels
    /// that are not live.
    pub async fn listed_labels(&self, id: DocumentId, generation: Version) -> Result<Option<RegisterValue>, Error> {
        let prefix = key::document_prefix(LABELS, id);
        let register = self.listed_register(&prefix, &prefix.at(generation)).await?;
        Ok(register.and_then(|register| register.value))
    }

    /// Lists the newest generation of each name in a namespace; in all namespaces if `namespace` is `None`. Includes
    /// names that are not live.
    pub async fn names(&self, namespace: Option<&Namespace>) -> Result<BTreeMap<DocumentName, ObjectKey>, Error> {
        let folder = namespace.map_or_else(|| Path::from(NAMES), key::namespace_folder);
        let all = self.registers(&folder).await?;
        let newest = all.into_values().filter_map(|mut generations| {
            let newest = ObjectKey::from_path(generations.pop()?.location);
            Some((key::parse_name(newest.path())?, newest))
        });
        Ok(newest.collect())
    }

    /// Lists the newest generation of each name of a namespace, beginning after the name `after`. Includes names that
    /// are not live. Names are in the order of their fan-out subfolders, and sorted within each subfolder. Lists
    /// lazily, as the stream is polled.
    pub fn names_after(
        &self,
        namespace: &Namespace,
        after: Option<DocumentName>,
    ) -> impl Stream<Item = Result<(DocumentName, ObjectKey), Error>> + Send + '_ {
        let folder = key::namespace_folder(namespace);
        let position = |name: &DocumentName| (key::name_subfolder(name), name.clone());
        let after = after.as_ref().map(position);
        let first = after.as_ref().map_or(0, |(subfolder, _)| *subfolder);
        let names = self.objects.subfolders(folder, first..=u8::MAX).map_ok(move |keys| {
            let generations = keys.into_iter().filter(|key| key.split_version().1 > Version::NONE);
            // Generations are in order, so the last one that is inserted for a name is the newest.
            let mut newest: BTreeMap<_, _> =
                generations.filter_map(|key| Some((key::parse_name(key.path())?, key))).collect();
            newest.retain(|name, _| Some(position(name)) > after);
            stream::iter(newest.into_iter().map(Ok))
        });
        names.try_flatten()
    }

    /// Reads a name in a listed generation, or in the newest one if the listed one was deleted. Also returns a name
    /// that is not live.
    pub async fn listed_name(&self, name: &DocumentName, listed: &ObjectKey) -> Result<Option<Register>, Error> {
        self.listed_register(&key::name_prefix(name), listed).await
    }

    /// Lists all registers in a folder. Maps the key prefix of each to its generations, oldest first.
    pub(crate) async fn registers(&self, folder: &Path) -> Result<BTreeMap<String, Vec<ObjectMeta>>, Error> {
        let objects = self.objects.list(folder);
        pin_mut!(objects);
        let mut registers = BTreeMap::<String, Vec<ObjectMeta>>::new();
        while let Some(object) = objects.try_next().await? {
            let (prefix, generation) = ObjectKey::from_path(object.location.clone()).split_version();
            if generation > Version::NONE {
                registers.entry(prefix.path().to_string()).or_default().push(object);
            }
        }
        for generations in registers.values_mut() {
            // All generations have equally many digits, so sorting by key sorts by generation.
            generations.sort_by(|a, b| a.location.cmp(&b.location));
        }
        Ok(registers)
    }

    /// Returns whether a value is live: its document exists, has not expired, and was not deleted since the write.
    pub async fn is_live(&self, value: &RegisterValue) -> Result<bool, Error> {
        if self.is_tombstoned(value).await? {
            return Ok(false);
        }
        match self.manifest(value.document).await {
            // A document exists even if its manifest is damaged.
            Ok(_) | Err(Error::Damaged { .. }) => Ok(true),
            Err(Error::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns whether a value's document was deleted after the value was written.
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
        // Repeats only if another writer was faster, so one of the writers always succeeds.
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

    /// Returns the register if its value is live, else `None`.
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
