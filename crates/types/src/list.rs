//! Lists of documents and names, and totals.

use serde::Serialize;

use crate::{Document, DocumentId, DocumentName, Invalid, Labels, Namespace};

/// Filter and position of a list of documents. The default lists all, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// First hexadecimal digits of the id, in lower case.
    pub prefix: String,
    /// Only ids after this one.
    pub after: Option<DocumentId>,
    /// Only documents that have all of these labels.
    pub labels: Labels,
    /// Only documents with such a name.
    pub names: Option<NameFilter>,
    /// Maximum number of documents in the page; 0: the gateway's maximum.
    pub page_size: u32,
}

/// Names of one namespace that begin with a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameFilter {
    /// The namespace.
    pub namespace: Namespace,
    /// Beginning of the name.
    pub prefix: String,
}

impl ListQuery {
    /// Refuses a prefix that is not hexadecimal, and turns it to lower case.
    pub fn checked(mut self) -> Result<Self, Invalid> {
        self.prefix.make_ascii_lowercase();
        match self.prefix.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            true => Ok(self),
            false => Err(Invalid::new("prefix", "must be hexadecimal digits")),
        }
    }
}

/// Page of a list of documents.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DocumentPage {
    /// Documents by id.
    pub documents: Vec<Document>,
    /// Documents that exist and cannot be read.
    pub damaged: Vec<DamagedDocument>,
    /// Id after which the next page begins; `None`: this is the last page.
    pub next: Option<DocumentId>,
}

/// A document that exists and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DamagedDocument {
    /// BLAKE3 hash of the text.
    pub id: DocumentId,
    /// The fault.
    pub problem: String,
}

/// A name and the document that it points at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedDocument {
    /// The name.
    pub name: DocumentName,
    /// BLAKE3 hash of the document's text.
    pub id: DocumentId,
    /// Token of the current version, for a conditional change. It changes with every change and never returns.
    pub token: String,
    /// Time of the last change, in milliseconds since 1970.
    pub changed_unix_ms: u64,
}

/// Page of a list of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NamePage {
    /// Names in order.
    pub names: Vec<NamedDocument>,
    /// Names that exist and cannot be read.
    pub damaged: Vec<DamagedName>,
    /// Name after which the next page begins; `None`: this is the last page.
    pub next: Option<String>,
}

/// A name that exists and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DamagedName {
    /// The name, without its namespace.
    pub name: String,
    /// The fault.
    pub problem: String,
}

/// Labels of a document, with the token for a conditional change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DocumentLabels {
    /// BLAKE3 hash of the document's text.
    pub id: DocumentId,
    /// All labels.
    pub labels: Labels,
    /// Token of the current version; empty if there are no labels.
    pub token: String,
}

/// Totals over all documents that can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Documents.
    pub documents: u64,
    /// Bytes of their texts.
    pub bytes: u64,
    /// Text tokens.
    pub tokens: u64,
    /// Latent tokens.
    pub latents: u64,
    /// Shards. A shard that several documents share is counted once for each.
    pub shards: u64,
    /// Windows.
    pub windows: u64,
    /// Names in all namespaces.
    pub names: u64,
    /// Objects in the store, also unreferenced ones.
    pub objects: u64,
    /// Bytes of all objects.
    pub stored_bytes: u64,
    /// Documents that cannot be read. The totals above exclude them.
    pub damaged: u64,
}
