//! Names and labels of documents.

use c3_store::Error as StoreError;
use c3_store::manifest::Manifest;
use c3_store::register::names::Change;
use c3_store::register::{Register, RegisterValue};
use c3_types::{
    DamagedName, DocumentId, DocumentLabels, DocumentName, Expected, Invalid, Labels, NamePage, NamedDocument,
    Namespace, WriteOptions,
};
use futures::{TryStreamExt, future, pin_mut};

use super::list::{READS_IN_FLIGHT, page_size};
use crate::error::Error;
use crate::state::Gateway;

/// Change of a document's labels.
#[derive(Clone, Debug)]
pub(crate) struct LabelsChange {
    pub(crate) set: Labels,
    pub(crate) remove: Removal,
    pub(crate) expected: Expected,
}

/// Labels that a change removes. Labels that it sets stay.
#[derive(Clone, Debug)]
pub(crate) enum Removal {
    /// Labels with these keys.
    Keys(Vec<String>),
    All,
}

impl Gateway {
    /// Returns the id of the document that a name points at. Fails if the document was deleted, but not if it expired.
    pub(crate) async fn resolve_name(&self, name: &DocumentName) -> Result<DocumentId, Error> {
        let (_, value) = self.read_name(name).await?;
        match self.store.is_tombstoned(&value).await? {
            true => Err(Error::NamedDocumentDeleted { name: name.clone(), id: value.document }),
            false => Ok(value.document),
        }
    }

    /// Returns a name with its token. Fails if the name is unset, or its document was deleted or has expired.
    pub(crate) async fn get_name(&self, name: &DocumentName) -> Result<NamedDocument, Error> {
        let (register, value) = self.read_name(name).await?;
        match self.store.is_live(&value).await? {
            true => Ok(named(name, &register, value.document)),
            false => Err(Error::NamedDocumentDeleted { name: name.clone(), id: value.document }),
        }
    }

    /// Points a name at a document. Fails if the current version of the name is not the expected one.
    pub(crate) async fn set_name(
        &self,
        name: &DocumentName,
        reference: &str,
        expected: &Expected,
    ) -> Result<NamedDocument, Error> {
        let found = self.find(reference).await?;
        self.point(name, &found.value, expected).await
    }

    /// Removes a name and returns its document. Fails if the name is unset or its version is not the expected one.
    pub(crate) async fn remove_name(&self, name: &DocumentName, expected: &Expected) -> Result<DocumentId, Error> {
        let change = self.store.change_name(name, expected, None).await;
        match change.map_err(|error| of_name(name, error))? {
            Change::Applied { was, .. } => was
                .and_then(|was| Some(was.value?.document))
                .ok_or_else(|| Error::Internal(format!("name {name} was removed, but pointed at nothing"))),
            Change::Unchanged => Err(Error::NameNotFound(name.clone())),
            Change::Conflict { token } => Err(Error::VersionMismatch { subject: format!("name {name}"), token }),
        }
    }

    /// Returns a page of the names that begin with `prefix`. Names are sorted within a page, but pages follow the order
    /// of the store, which is not alphabetical. `after` is the name at which the page before ended in that order.
    /// `requested` is the page size; 0 requests the default.
    pub(crate) async fn list_names(
        &self,
        namespace: &Namespace,
        prefix: &str,
        after: Option<&str>,
        requested: u32,
    ) -> Result<NamePage, Error> {
        let count = page_size(requested);
        let after = after.map(|after| DocumentName::new(namespace.clone(), after.to_owned())).transpose();
        let after = after.map_err(|invalid| Invalid::new("page_token", invalid.problem))?;
        let names = self.store.names_after(namespace, after);
        let names = names.try_filter(|(name, _)| future::ready(name.name().starts_with(prefix)));
        let reads = names.map_ok(|(name, listed)| async move {
            let read = async {
                let register = self.store.listed_name(&name, &listed).await?;
                let Some((register, value)) = register.and_then(with_value) else { return Ok(None) };
                let is_live = self.store.is_live(&value).await?;
                Ok::<_, StoreError>(is_live.then(|| named(&name, &register, value.document)))
            };
            let read = read.await;
            Ok((name, read))
        });
        let reads = reads.try_buffered(READS_IN_FLIGHT);
        pin_mut!(reads);
        let mut page = NamePage::default();
        let mut last = None;
        while let Some((name, read)) = reads.try_next().await? {
            let is_full = page.names.len() + page.damaged.len() == count;
            match read {
                // The name was removed, or its document was deleted or has expired.
                Ok(None) => continue,
                Ok(Some(_)) | Err(StoreError::Damaged { .. }) if is_full => {
                    page.next = last;
                    break;
                }
                Ok(Some(named)) => page.names.push(named),
                Err(StoreError::Damaged { problem, .. }) => {
                    page.damaged.push(DamagedName { name: name.name().to_owned(), problem });
                }
                Err(error) => return Err(error.into()),
            }
            last = Some(name.name().to_owned());
        }
        page.names.sort_by(|a, b| a.name.cmp(&b.name));
        page.damaged.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(page)
    }

    /// Changes a document's labels. Fails if the current version of the labels is not the expected one.
    pub(crate) async fn set_labels(&self, reference: &str, change: &LabelsChange) -> Result<DocumentLabels, Error> {
        let LabelsChange { set, remove, expected } = change;
        let found = self.find(reference).await?;
        let change = |labels: &Labels| match remove {
            Removal::Keys(keys) => labels.with_changes(set, keys),
            Removal::All => Ok(set.clone()),
        };
        self.label(&found.value, expected, change).await
    }

    /// Sets the labels, then the name, that a put requested for its document, which is stored already. If this fails,
    /// the document stays. Returns all labels of the document if the put requested any.
    pub(crate) async fn set_requested_names(
        &self,
        manifest: &Manifest,
        options: &WriteOptions,
    ) -> Result<Labels, Error> {
        let not_named = |error| Error::NotNamed { id: manifest.id, source: Box::new(error) };
        let mut labels = Labels::default();
        if !options.labels.is_empty() {
            let labeled = self.label(manifest, &Expected::Any, |labels| labels.with_put(&options.labels)).await;
            labels = labeled.map_err(not_named)?.labels;
        }
        if let Some(name) = &options.name {
            self.point(&name.name, manifest, &name.expected).await.map_err(not_named)?;
        }
        Ok(labels)
    }

    async fn read_name(&self, name: &DocumentName) -> Result<(Register, RegisterValue), Error> {
        let register = self.store.name(name).await.map_err(|error| of_name(name, error))?;
        register.and_then(with_value).ok_or_else(|| Error::NameNotFound(name.clone()))
    }

    async fn point(
        &self,
        name: &DocumentName,
        manifest: &Manifest,
        expected: &Expected,
    ) -> Result<NamedDocument, Error> {
        let (document, version) = (manifest.id, manifest.version);
        let value = RegisterValue { document, version, labels: Labels::default() };
        let change = self.store.change_name(name, expected, Some(value)).await;
        match change.map_err(|error| of_name(name, error))? {
            Change::Applied { now, .. } => Ok(named(name, &now, document)),
            Change::Unchanged => Err(Error::Internal(format!("name {name} was not set"))),
            Change::Conflict { token } => Err(Error::VersionMismatch { subject: format!("name {name}"), token }),
        }
    }

    async fn label(
        &self,
        manifest: &Manifest,
        expected: &Expected,
        change: impl Fn(&Labels) -> Result<Labels, Invalid>,
    ) -> Result<DocumentLabels, Error> {
        let (document, version) = (manifest.id, manifest.version);
        let new = |was: Option<&RegisterValue>| {
            let was = was.map_or_else(Labels::default, |was| was.labels.clone());
            let labels = change(&was)?;
            Ok::<_, Error>((!labels.is_empty()).then_some(RegisterValue { document, version, labels }))
        };
        let (labels, token) = match self.store.change_labels(document, expected, new).await? {
            Change::Applied { now, .. } => match &now.value {
                Some(value) => (value.labels.clone(), now.token()),
                None => (Labels::default(), String::new()),
            },
            Change::Unchanged => (Labels::default(), String::new()),
            Change::Conflict { token } => {
                let subject = format!("the labels of document {document}");
                return Err(Error::VersionMismatch { subject, token });
            }
        };
        Ok(DocumentLabels { id: document, labels, token })
    }
}

/// Returns a register with its value, or `None` if the value was removed.
fn with_value(register: Register) -> Option<(Register, RegisterValue)> {
    let value = register.value.clone()?;
    Some((register, value))
}

fn named(name: &DocumentName, register: &Register, id: DocumentId) -> NamedDocument {
    NamedDocument { name: name.clone(), id, token: register.token(), changed_unix_ms: register.changed_unix_ms() }
}

/// Converts a store error about a name.
fn of_name(name: &DocumentName, error: StoreError) -> Error {
    match error {
        StoreError::Damaged { .. } => Error::DataLoss(format!("name {name}: {error}; run `c3 fsck --repair`")),
        error => error.into(),
    }
}
