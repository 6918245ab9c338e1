//! Names and labels of documents, as callers set and read them.

use std::collections::HashMap;

use c3_proto::{DocumentId, DocumentName, Expected, Labels, Namespace, WriteOptions, pb};
use futures::{StreamExt, stream};

use crate::error::Failure;
use crate::gateway::Gateway;
use crate::list::{READS_AT_ONCE, page_size};
use crate::store::StoreError;
use crate::store::cell::{Cell, State};
use crate::store::manifest::Manifest;
use crate::store::names::Change;

/// A page of names.
pub(crate) struct NamesPage {
    pub(crate) names: Vec<pb::NamedDocument>,
    /// Those that are there and cannot be read, with what is wrong.
    pub(crate) damaged: Vec<pb::DamagedName>,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<String>,
}

/// A change of labels.
#[derive(Clone, Debug)]
pub(crate) struct LabelsChange {
    pub(crate) set: Labels,
    pub(crate) remove: Vec<String>,
    pub(crate) expected: Expected,
}

impl Gateway {
    /// The document that a name stands for.
    pub(crate) async fn named(&self, name: &DocumentName) -> Result<DocumentId, Failure> {
        let cell = self.store.name(name).await.map_err(|error| of_name(name, error))?;
        let state = cell.and_then(|cell| cell.state).ok_or_else(|| Failure::NoName(name.clone()))?;
        match self.store.is_buried(&state).await? {
            true => Err(Failure::NameGone { name: name.clone(), id: state.document }),
            false => Ok(state.document),
        }
    }

    /// What a name is.
    pub(crate) async fn get_name(&self, name: &DocumentName) -> Result<pb::NamedDocument, Failure> {
        let cell = self.store.name(name).await.map_err(|error| of_name(name, error))?;
        let (cell, state) = cell
            .and_then(|cell| Some((cell.clone(), cell.state?)))
            .ok_or_else(|| Failure::NoName(name.clone()))?;
        match self.store.stands(&state).await? {
            true => Ok(named(name, &cell, state.document)),
            false => Err(Failure::NameGone { name: name.clone(), id: state.document }),
        }
    }

    /// Points a name at a document, if it is as expected.
    pub(crate) async fn set_name(
        &self,
        name: &DocumentName,
        typed: &str,
        expected: &Expected,
    ) -> Result<pb::NamedDocument, Failure> {
        let found = self.find(typed).await?;
        self.point(name, &found.value, expected).await
    }

    /// Takes a name away, if it is as expected. Gives the document that it told of.
    pub(crate) async fn remove_name(
        &self,
        name: &DocumentName,
        expected: &Expected,
    ) -> Result<DocumentId, Failure> {
        let change = self.store.change_name(name, expected, None).await;
        match change.map_err(|error| of_name(name, error))? {
            Change::Made { was, .. } => was
                .and_then(|was| Some(was.state?.document))
                .ok_or_else(|| Failure::Internal(format!("name {name} was removed and told of nothing"))),
            Change::Nothing => Err(Failure::NoName(name.clone())),
            Change::Unexpected { there } => Err(Failure::Unexpected { what: format!("name {name}"), there }),
        }
    }

    /// Names by name: those of the namespace that begin with `prefix` and come after `after`.
    pub(crate) async fn list_names(
        &self,
        namespace: &Namespace,
        prefix: &str,
        after: Option<&str>,
        asked: u32,
    ) -> Result<NamesPage, Failure> {
        let count = page_size(asked);
        let mut names = self.store.names(Some(namespace)).await?;
        names.retain(|name, _| {
            name.name().starts_with(prefix) && after.is_none_or(|after| name.name() > after)
        });
        let reads = stream::iter(names).map(|(name, listed)| async move {
            let standing = async {
                let cell = self.store.listed_name(&name, &listed).await?;
                let Some((cell, state)) = cell.and_then(|cell| Some((cell.clone(), cell.state?))) else {
                    return Ok(None);
                };
                let stands = self.store.stands(&state).await?;
                Ok::<_, StoreError>(stands.then(|| named(&name, &cell, state.document)))
            };
            let standing = standing.await;
            (name, standing)
        });
        let mut reads = reads.buffered(READS_AT_ONCE);
        let mut page = NamesPage { names: Vec::new(), damaged: Vec::new(), next: None };
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
                    page.damaged.push(pb::DamagedName { name: name.name().to_owned(), problem });
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
    ) -> Result<pb::SetLabelsResponse, Failure> {
        let found = self.find(typed).await?;
        self.label(&found.value, change).await
    }

    /// Gives a document that was stored just now the name and the labels that were asked for.
    pub(crate) async fn call_as_asked(
        &self,
        manifest: &Manifest,
        options: &WriteOptions,
    ) -> Result<(), Failure> {
        let not_named = |why| Failure::NotNamed { id: manifest.id, why: Box::new(why) };
        if !options.labels.is_empty() {
            let (set, expected) = (options.labels.clone(), Expected::Whatever);
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
    ) -> Result<pb::NamedDocument, Failure> {
        let (document, version) = (manifest.id, manifest.version);
        let state = State { document, version, labels: Labels::default() };
        let change = self.store.change_name(name, expected, Some(state)).await;
        match change.map_err(|error| of_name(name, error))? {
            Change::Made { now, .. } => Ok(named(name, &now, document)),
            Change::Nothing => Err(Failure::Internal(format!("name {name} was not set"))),
            Change::Unexpected { there } => Err(Failure::Unexpected { what: format!("name {name}"), there }),
        }
    }

    async fn label(
        &self,
        manifest: &Manifest,
        change: &LabelsChange,
    ) -> Result<pb::SetLabelsResponse, Failure> {
        let LabelsChange { set, remove, expected } = change;
        let (document, version) = (manifest.id, manifest.version);
        let new = |was: Option<&State>| {
            let was = was.map_or_else(Labels::default, |was| was.labels.clone());
            let labels = was.changed(set, remove)?;
            Ok::<_, Failure>((!labels.is_empty()).then_some(State { document, version, labels }))
        };
        let (labels, token) = match self.store.change_labels(document, expected, new).await? {
            Change::Made { now, .. } => match &now.state {
                Some(state) => (state.labels.to_wire(), now.token()),
                None => (HashMap::new(), String::new()),
            },
            Change::Nothing => (HashMap::new(), String::new()),
            Change::Unexpected { there } => {
                return Err(Failure::Unexpected {
                    what: format!("the labels of document {document}"),
                    there,
                });
            }
        };
        Ok(pb::SetLabelsResponse { id: document.to_wire(), labels, token })
    }
}

fn named(name: &DocumentName, cell: &Cell, id: DocumentId) -> pb::NamedDocument {
    pb::NamedDocument {
        namespace: name.namespace().to_string(),
        name: name.name().to_owned(),
        id: id.to_wire(),
        token: cell.token(),
        changed_unix_ms: cell.stamp.unix_ms(),
    }
}

/// A failure of the store at a name.
fn of_name(name: &DocumentName, error: StoreError) -> Failure {
    match error {
        StoreError::Damaged { .. } => {
            Failure::DataLoss(format!("name {name}: {error}; `c3 fsck --repair` removes it"))
        }
        error => error.into(),
    }
}
