//! Names and labels of documents.

use c3_store::Error as StoreError;
use c3_store::manifest::Manifest;
use c3_store::register::names::Change;
use c3_store::register::{Register, RegisterValue};
use c3_types::{
    DamagedName, DocumentId, DocumentLabels, DocumentName, Expected, Labels, NamePage, NamedDocument,
    Namespace, WriteOptions,
};
use futures::{StreamExt, stream};

use super::list::{READS_AT_ONCE, page_size};
use crate::error::Error;
use crate::state::Gateway;

/// A change of labels.
#[derive(Clone, Debug)]
pub(crate) struct LabelsChange {
    pub(crate) set: Labels,
    pub(crate) remove: Vec<String>,
    pub(crate) expected: Expected,
}

impl Gateway {
    /// The document that a name stands for.
    pub(crate) async fn resolve_name(&self, name: &DocumentName) -> Result<DocumentId, Error> {
        let register = self.store.name(name).await.map_err(|error| of_name(name, error))?;
        let value =
            register.and_then(|register| register.value).ok_or_else(|| Error::NameNotFound(name.clone()))?;
        match self.store.is_tombstoned(&value).await? {
            true => Err(Error::NamedDocumentDeleted { name: name.clone(), id: value.document }),
            false => Ok(value.document),
        }
    }

    /// What a name is.
    pub(crate) async fn get_name(&self, name: &DocumentName) -> Result<NamedDocument, Error> {
        let register = self.store.name(name).await.map_err(|error| of_name(name, error))?;
        let (register, value) = register
            .and_then(|register| Some((register.clone(), register.value?)))
            .ok_or_else(|| Error::NameNotFound(name.clone()))?;
        match self.store.is_live(&value).await? {
            true => Ok(named(name, &register, value.document)),
            false => Err(Error::NamedDocumentDeleted { name: name.clone(), id: value.document }),
        }
    }

    /// Points a name at a document, if it is as expected.
    pub(crate) async fn set_name(
        &self,
        name: &DocumentName,
        typed: &str,
        expected: &Expected,
    ) -> Result<NamedDocument, Error> {
        let found = self.find(typed).await?;
        self.point(name, &found.value, expected).await
    }

    /// Takes a name away, if it is as expected. Gives the document that it told of.
    pub(crate) async fn remove_name(
        &self,
        name: &DocumentName,
        expected: &Expected,
    ) -> Result<DocumentId, Error> {
        let change = self.store.change_name(name, expected, None).await;
        match change.map_err(|error| of_name(name, error))? {
            Change::Applied { was, .. } => was
                .and_then(|was| Some(was.value?.document))
                .ok_or_else(|| Error::Internal(format!("name {name} was removed and told of nothing"))),
            Change::Unchanged => Err(Error::NameNotFound(name.clone())),
            Change::Conflict { token } => {
                Err(Error::VersionMismatch { subject: format!("name {name}"), token })
            }
        }
    }

    /// Names by name: those of the namespace that begin with `prefix` and come after `after`.
    pub(crate) async fn list_names(
        &self,
        namespace: &Namespace,
        prefix: &str,
        after: Option<&str>,
        asked: u32,
    ) -> Result<NamePage, Error> {
        let count = page_size(asked);
        let mut names = self.store.names(Some(namespace)).await?;
        names.retain(|name, _| {
            name.name().starts_with(prefix) && after.is_none_or(|after| name.name() > after)
        });
        let reads = stream::iter(names).map(|(name, listed)| async move {
            let standing = async {
                let register = self.store.listed_name(&name, &listed).await?;
                let Some((register, value)) =
                    register.and_then(|register| Some((register.clone(), register.value?)))
                else {
                    return Ok(None);
                };
                let stands = self.store.is_live(&value).await?;
                Ok::<_, StoreError>(stands.then(|| named(&name, &register, value.document)))
            };
            let standing = standing.await;
            (name, standing)
        });
        let mut reads = reads.buffered(READS_AT_ONCE);
        let mut page = NamePage::default();
        let mut last = None;
        while let Some((name, read)) = reads.next().await {
            let full = page.names.len() + page.damaged.len() == count;
            match read {
                // Removed, or its document was.
                Ok(None) => continue,
                Ok(Some(_)) | Err(StoreError::Damaged { .. }) if full => {
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
        Ok(page)
    }

    /// Changes a document's labels, if they are as expected.
    pub(crate) async fn set_labels(
        &self,
        typed: &str,
        change: &LabelsChange,
    ) -> Result<DocumentLabels, Error> {
        let found = self.find(typed).await?;
        self.label(&found.value, change).await
    }

    /// Gives a document that was stored just now the name and the labels that were asked for.
    pub(crate) async fn set_requested_names(
        &self,
        manifest: &Manifest,
        options: &WriteOptions,
    ) -> Result<(), Error> {
        let not_named = |error| Error::NotNamed { id: manifest.id, source: Box::new(error) };
        if !options.labels.is_empty() {
            let (set, expected) = (options.labels.clone(), Expected::Any);
            let change = LabelsChange { set, remove: Vec::new(), expected };
            self.label(manifest, &change).await.map_err(not_named)?;
        }
        if let Some(name) = &options.name {
            self.point(&name.name, manifest, &name.expected).await.map_err(not_named)?;
        }
        Ok(())
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
            Change::Conflict { token } => {
                Err(Error::VersionMismatch { subject: format!("name {name}"), token })
            }
        }
    }

    async fn label(&self, manifest: &Manifest, change: &LabelsChange) -> Result<DocumentLabels, Error> {
        let LabelsChange { set, remove, expected } = change;
        let (document, version) = (manifest.id, manifest.version);
        let new = |was: Option<&RegisterValue>| {
            let was = was.map_or_else(Labels::default, |was| was.labels.clone());
            let labels = was.with_changes(set, remove)?;
            Ok::<_, Error>((!labels.is_empty()).then_some(RegisterValue { document, version, labels }))
        };
        let (labels, token) = match self.store.change_labels(document, expected, new).await? {
            Change::Applied { now, .. } => match &now.value {
                Some(value) => (value.labels.clone(), now.token()),
                None => (Labels::default(), String::new()),
            },
            Change::Unchanged => (Labels::default(), String::new()),
            Change::Conflict { token } => {
                return Err(Error::VersionMismatch {
                    subject: format!("the labels of document {document}"),
                    token,
                });
            }
        };
        Ok(DocumentLabels { id: document, labels, token })
    }
}

fn named(name: &DocumentName, register: &Register, id: DocumentId) -> NamedDocument {
    NamedDocument {
        name: name.clone(),
        id,
        token: register.token(),
        changed_unix_ms: register.changed_unix_ms(),
    }
}

/// A error of the store at a name.
fn of_name(name: &DocumentName, error: StoreError) -> Error {
    match error {
        StoreError::Damaged { .. } => {
            Error::DataLoss(format!("name {name}: {error}; `c3 fsck --repair` removes it"))
        }
        error => error.into(),
    }
}
