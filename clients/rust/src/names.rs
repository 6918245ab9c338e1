//! Names and labels of documents, lists by them, and totals.

use std::collections::BTreeMap;

use c3_proto::{FromWire, ToWire, pb};
use c3_types::{DocumentId, DocumentName, Expected, Labels, Namespace};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::{Client, Document, Error, Listed};

/// A name, and the document that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: DocumentName,
    /// BLAKE3 of the document's text.
    pub id: DocumentId,
    /// Of what the name is now: a change may be bound to it.
    pub token: String,
    /// When it was set, milliseconds since 1970.
    pub changed_unix_ms: u64,
}

/// A line of a list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListedName {
    /// A name.
    Named(Named),
    /// One that is there and cannot be read.
    Damaged {
        /// The name in its namespace.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

/// Labels of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labelled {
    /// Keys with their values.
    pub labels: BTreeMap<String, String>,
    /// Of what the labels are now: a change may be bound to it. Empty: there are none.
    pub token: String,
}

/// Which documents to list. All by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Digits that ids begin with.
    pub prefix: String,
    /// Only ids after this one.
    pub after: Option<DocumentId>,
    /// Only documents that have all of these labels.
    pub labels: Labels,
    /// Only documents with a name in this namespace that begins so.
    pub names: Option<(Namespace, String)>,
}

impl ListQuery {
    /// The page that begins after `page_token`.
    fn page(&self, page_token: String) -> pb::ListRequest {
        let names = self.names.as_ref().map(|(namespace, prefix)| pb::NamesFilter {
            namespace: namespace.to_string(),
            prefix: prefix.clone(),
        });
        let labels = self.labels.to_wire();
        pb::ListRequest { prefix: self.prefix.clone(), page_size: 0, page_token, labels, names }
    }
}

impl Client {
    /// Points a name at a document, if the name is as expected; else the call is ABORTED. `id` may be a unique prefix or
    /// another name.
    pub async fn set_name(&self, name: &DocumentName, id: &str, expected: &Expected) -> Result<Named, Error> {
        let (namespace, name) = parts(name);
        let request = pb::SetNameRequest { namespace, name, id: id.to_owned(), expected: expected.to_token() };
        let answer = self.gateway().set_name(self.soon(request)).await?.into_inner();
        Named::from_wire(answer.named.ok_or_else(|| Error::missing("named"))?)
    }

    /// What a name is.
    pub async fn name(&self, name: &DocumentName) -> Result<Named, Error> {
        let (namespace, name) = parts(name);
        let request = self.soon(pb::GetNameRequest { namespace, name });
        let answer = self.gateway().get_name(request).await?.into_inner();
        Named::from_wire(answer.named.ok_or_else(|| Error::missing("named"))?)
    }

    /// Takes a name away, if it is as expected; else the call is ABORTED. The document that it stood for comes back.
    pub async fn remove_name(&self, name: &DocumentName, expected: &Expected) -> Result<DocumentId, Error> {
        let (namespace, name) = parts(name);
        let request = pb::RemoveNameRequest { namespace, name, expected: expected.to_token() };
        let answer = self.gateway().remove_name(self.soon(request)).await?.into_inner();
        Ok(DocumentId::try_from(answer.id.as_ref())?)
    }

    /// Every name of a namespace that begins with `prefix`, by name; asks for further pages as they are needed. Of a page,
    /// those that cannot be read come last.
    pub fn names(
        &self,
        namespace: &Namespace,
        prefix: &str,
    ) -> BoxStream<'static, Result<ListedName, Error>> {
        let (client, namespace, prefix) = (self.clone(), namespace.to_string(), prefix.to_owned());
        let pages = stream::try_unfold(Some(String::new()), move |page_token| {
            let (client, namespace, prefix) = (client.clone(), namespace.clone(), prefix.clone());
            async move {
                let Some(page_token) = page_token else { return Ok(None) };
                let request = pb::ListNamesRequest { namespace, prefix, page_size: 0, page_token };
                let page = client.gateway().list_names(client.soon(request)).await?.into_inner();
                let next = Some(page.next_page_token).filter(|token| !token.is_empty());
                let names = page.names.into_iter().map(|wire| Named::from_wire(wire).map(ListedName::Named));
                let damaged = page
                    .damaged
                    .into_iter()
                    .map(|pb::DamagedName { name, problem }| Ok(ListedName::Damaged { name, problem }));
                Ok::<_, Error>(Some((stream::iter(names.chain(damaged)), next)))
            }
        });
        pages.try_flatten().boxed()
    }

    /// Sets labels of a document and removes others, if its labels are as expected; else the call is ABORTED. All that it
    /// has then come back. `id` may be a unique prefix or a name.
    pub async fn set_labels(
        &self,
        id: &str,
        set: &Labels,
        remove: &[String],
        expected: &Expected,
    ) -> Result<Labelled, Error> {
        let request = pb::SetLabelsRequest {
            id: id.to_owned(),
            set: set.to_wire(),
            remove: remove.to_vec(),
            expected: expected.to_token(),
        };
        let answer = self.gateway().set_labels(self.soon(request)).await?.into_inner();
        Ok(Labelled { labels: answer.labels.into_iter().collect(), token: answer.token })
    }

    /// The labels of a document. `id` may be a unique prefix or a name.
    pub async fn labels(&self, id: &str) -> Result<Labelled, Error> {
        let request = self.soon(pb::StatRequest { id: id.to_owned() });
        let answer = self.gateway().stat(request).await?.into_inner();
        let document = answer.document.ok_or_else(|| Error::missing("document"))?;
        Ok(Labelled { labels: document.labels.into_iter().collect(), token: answer.labels_token })
    }

    /// The documents that are asked for, by id; asks for further pages as they are needed. Of a page, those that cannot be
    /// read come last.
    pub fn list_where(&self, query: &ListQuery) -> BoxStream<'static, Result<Listed, Error>> {
        let (client, query) = (self.clone(), query.clone());
        let first = query.after.map_or_else(String::new, |id| id.to_string());
        let pages = stream::try_unfold(Some(first), move |page_token| {
            let (client, query) = (client.clone(), query.clone());
            async move {
                let Some(page_token) = page_token else { return Ok(None) };
                let request = client.soon(query.page(page_token));
                let page = client.gateway().list(request).await?.into_inner();
                let next = Some(page.next_page_token).filter(|token| !token.is_empty());
                let documents = page.documents.into_iter();
                let documents =
                    documents.map(|wire| Ok(Listed::Document(Box::new(Document::from_wire(wire)?))));
                let damaged = page.damaged.into_iter().map(|wire| {
                    let id = DocumentId::try_from(wire.id.as_ref())?;
                    Ok(Listed::Damaged { id, problem: wire.problem })
                });
                Ok::<_, Error>(Some((stream::iter(documents.chain(damaged)), next)))
            }
        });
        pages.try_flatten().boxed()
    }

    /// What all documents come to. Reads every manifest, which takes its time in a large store.
    pub async fn totals(&self) -> Result<pb::TotalsResponse, Error> {
        Ok(self.gateway().totals(pb::TotalsRequest {}).await?.into_inner())
    }
}

impl Named {
    fn from_wire(wire: pb::NamedDocument) -> Result<Self, Error> {
        Ok(Self {
            name: DocumentName::from_parts(wire.namespace, wire.name)?,
            id: DocumentId::try_from(wire.id.as_ref())?,
            token: wire.token,
            changed_unix_ms: wire.changed_unix_ms,
        })
    }
}

/// Namespace and name, as they travel.
fn parts(name: &DocumentName) -> (String, String) {
    (name.namespace().to_string(), name.name().to_owned())
}
