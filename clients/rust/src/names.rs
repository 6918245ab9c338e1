//! Names and labels of documents, lists, and totals.

use c3_proto::pb;
use c3_proto::{FromWire, ToWire};
use c3_types::{
    DamagedDocument, DamagedName, Document, DocumentId, DocumentLabels, DocumentName, DocumentPage, Expected, Labels,
    ListQuery, NamePage, NamedDocument, Namespace, Totals,
};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::client::Client;
use crate::error::Error;
use crate::retry::Gateway;

/// Entry of a list of documents.
#[derive(Clone, Debug, PartialEq)]
pub enum Listed {
    /// A document.
    Document(Box<Document>),
    /// A document that exists but cannot be read.
    Damaged(DamagedDocument),
}

/// Entry of a list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListedName {
    /// A name.
    Named(NamedDocument),
    /// A name that exists but cannot be read.
    Damaged(DamagedName),
}

impl Client {
    /// Points a name at a document. Fails with ABORTED if the name does not meet the precondition `expected`. `id` may
    /// be a unique prefix or another name.
    pub async fn set_name(&self, name: &DocumentName, id: &str, expected: &Expected) -> Result<NamedDocument, Error> {
        let (namespace, name) = parts(name);
        let request = pb::SetNameRequest { namespace, name, id: id.to_owned(), expected: expected.to_token() };
        let response = self.gateway().set_name(self.unary(request)).await?.into_inner();
        Ok(NamedDocument::from_wire(response.named.ok_or_else(|| Error::missing("named"))?)?)
    }

    /// Returns the document and the version token of a name. Fails with NOT_FOUND if no document has the name.
    pub async fn get_name(&self, name: &DocumentName) -> Result<NamedDocument, Error> {
        let (namespace, name) = parts(name);
        let get_name = |mut gateway: Gateway, request| async move { gateway.get_name(request).await };
        let response = self.read(pb::GetNameRequest { namespace, name }, get_name).await?;
        Ok(NamedDocument::from_wire(response.named.ok_or_else(|| Error::missing("named"))?)?)
    }

    /// Removes a name and returns its document. Fails with ABORTED if the name does not meet `expected`.
    pub async fn remove_name(&self, name: &DocumentName, expected: &Expected) -> Result<DocumentId, Error> {
        let (namespace, name) = parts(name);
        let request = pb::RemoveNameRequest { namespace, name, expected: expected.to_token() };
        let response = self.gateway().remove_name(self.unary(request)).await?.into_inner();
        Ok(DocumentId::try_from(response.id.as_ref())?)
    }

    /// Streams the names of a namespace that begin with `prefix`. Requests pages of up to 1000 names as needed. Within
    /// a page, names are sorted, and damaged names come last. The pages themselves are in no particular order.
    pub fn names(&self, namespace: &Namespace, prefix: &str) -> BoxStream<'static, Result<ListedName, Error>> {
        let (client, namespace, prefix) = (self.clone(), namespace.to_string(), prefix.to_owned());
        let pages = stream::try_unfold(Some(String::new()), move |page_token| {
            let (client, namespace, prefix) = (client.clone(), namespace.clone(), prefix.clone());
            async move {
                let Some(page_token) = page_token else { return Ok(None) };
                let request = pb::ListNamesRequest { namespace, prefix, page_size: 0, page_token };
                let list = |mut gateway: Gateway, request| async move { gateway.list_names(request).await };
                let page = client.read(request, list).await?;
                let NamePage { names, damaged, next } = NamePage::from_wire(page)?;
                let entries = names.into_iter().map(ListedName::Named);
                let entries = entries.chain(damaged.into_iter().map(ListedName::Damaged));
                Ok::<_, Error>(Some((stream::iter(entries.map(Ok)), next)))
            }
        });
        pages.try_flatten().boxed()
    }

    /// Removes the labels with the keys `remove` from a document, then sets `set`. Returns all labels. Fails with
    /// ABORTED if the labels do not meet the precondition `expected`. `id` may be a unique prefix or a name.
    pub async fn set_labels(
        &self,
        id: &str,
        set: &Labels,
        remove: &[String],
        expected: &Expected,
    ) -> Result<DocumentLabels, Error> {
        let request = pb::SetLabelsRequest {
            id: id.to_owned(),
            set: set.to_wire(),
            remove: remove.to_vec(),
            expected: expected.to_token(),
        };
        let response = self.gateway().set_labels(self.unary(request)).await?.into_inner();
        Ok(DocumentLabels::from_wire(response)?)
    }

    /// Returns the labels of a document and their version token. `id` may be a unique prefix or a name.
    pub async fn labels(&self, id: &str) -> Result<DocumentLabels, Error> {
        let response = self.stat_response(id).await?;
        let document = Document::from_wire(response.document.ok_or_else(|| Error::missing("document"))?)?;
        Ok(DocumentLabels { id: document.id, labels: document.labels, token: response.labels_token })
    }

    /// Streams the documents whose id begins with `prefix`, in the order of [`Client::list_where`].
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<Listed, Error>> {
        self.list_where(&ListQuery { prefix: prefix.to_owned(), ..ListQuery::default() })
    }

    /// Streams the documents that match the query. Requests pages as needed. Documents are in order of id, except that
    /// the damaged documents of a page come at the end of the page.
    pub fn list_where(&self, query: &ListQuery) -> BoxStream<'static, Result<Listed, Error>> {
        let client = self.clone();
        let pages = stream::try_unfold(Some(query.clone()), move |query| {
            let client = client.clone();
            async move {
                let Some(query) = query else { return Ok(None) };
                let list = |mut gateway: Gateway, request| async move { gateway.list(request).await };
                let page = client.read(query.to_wire(), list).await?;
                let DocumentPage { documents, damaged, next } = DocumentPage::from_wire(page)?;
                let entries = documents.into_iter().map(|document| Listed::Document(Box::new(document)));
                let entries = entries.chain(damaged.into_iter().map(Listed::Damaged));
                let next = next.map(|next| ListQuery { after: Some(next), ..query });
                Ok::<_, Error>(Some((stream::iter(entries.map(Ok)), next)))
            }
        });
        pages.try_flatten().boxed()
    }

    /// Returns totals over all documents. Has no deadline, since the gateway reads every manifest and every name.
    pub async fn totals(&self) -> Result<Totals, Error> {
        let totals = |mut gateway: Gateway| async move { Ok(gateway.totals(pb::TotalsRequest {}).await?.into_inner()) };
        Ok(Totals::from_wire(self.gateways.retrying(totals).await?)?)
    }
}

/// Splits a name into namespace and name, which are separate fields of a request.
fn parts(name: &DocumentName) -> (String, String) {
    (name.namespace().to_string(), name.name().to_owned())
}
