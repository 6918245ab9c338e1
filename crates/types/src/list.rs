//! Lists of documents and names, and totals over all documents.

use serde::Serialize;

use crate::{Document, DocumentId, DocumentName, Invalid, Labels, Namespace};

/// Filter and start of a list of documents. The list is in the order of ids. The default lists all documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Only ids that begin with these hexadecimal digits, in lower case.
    pub prefix: String,
    /// Only ids after this id.
    pub after: Option<DocumentId>,
    /// Only documents that have all of these labels.
    pub labels: Labels,
    /// Only documents that have a name that matches this filter.
    pub names: Option<NameFilter>,
    /// Only documents that were created within this time.
    pub created: CreatedRange,
    /// Maximum number of documents in a page; 0: the gateway's maximum.
    pub page_size: u32,
}

/// Range of creation times, as Unix time in milliseconds. The default contains all times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreatedRange {
    /// Earliest time; `None`: no limit.
    pub from_unix_ms: Option<u64>,
    /// Time before which the documents were created; `None`: no limit.
    pub before_unix_ms: Option<u64>,
}

impl CreatedRange {
    /// Returns whether the range contains a time.
    pub fn contains(&self, unix_ms: u64) -> bool {
        self.from_unix_ms.is_none_or(|from| from <= unix_ms)
            && self.before_unix_ms.is_none_or(|before| unix_ms < before)
    }
}

/// Names of one namespace that begin with a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NameFilter {
    /// The namespace.
    pub namespace: Namespace,
    /// Beginning of the name.
    pub prefix: String,
}

impl ListQuery {
    /// Converts the prefix to lower case. Errors: the prefix is not hexadecimal.
    pub fn checked(mut self) -> Result<Self, Invalid> {
        self.prefix.make_ascii_lowercase();
        match self.prefix.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            true => Ok(self),
            false => Err(Invalid::new("prefix", "must be hexadecimal digits")),
        }
    }
}

/// One page of a list of documents.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DocumentPage {
    /// Documents in the order of ids.
    pub documents: Vec<Document>,
    /// Documents that exist but cannot be read.
    pub damaged: Vec<DamagedDocument>,
    /// Id after which the next page begins; `None`: this is the last page.
    pub next: Option<DocumentId>,
}

/// A document that exists but cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DamagedDocument {
    /// BLAKE3 hash of the text.
    pub id: DocumentId,
    /// Description of the fault.
    pub problem: String,
}

/// A name and the document that the name points to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedDocument {
    /// The name.
    pub name: DocumentName,
    /// BLAKE3 hash of the document's text.
    pub id: DocumentId,
    /// Token of the current version, for a conditional change. Every change sets a token that was never used before.
    pub token: String,
    /// Time of the last change, as Unix time in milliseconds.
    pub changed_unix_ms: u64,
}

/// One page of a list of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NamePage {
    /// Names, sorted. The pages of a list are in no particular order.
    pub names: Vec<NamedDocument>,
    /// Names that exist but cannot be read.
    pub damaged: Vec<DamagedName>,
    /// Position at which the next page begins; `None`: this is the last page.
    pub next: Option<String>,
}

/// A name that exists but cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DamagedName {
    /// The name, without its namespace.
    pub name: String,
    /// Description of the fault.
    pub problem: String,
}

/// Labels of a document, with the token for a conditional change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DocumentLabels {
    /// BLAKE3 hash of the document's text.
    pub id: DocumentId,
    /// All labels.
    pub labels: Labels,
    /// Token of the labels' current version; empty if there are no labels.
    pub token: String,
}

/// Totals over all documents that can be read, and over the whole store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Number of documents.
    pub documents: u64,
    /// Bytes of the documents' texts.
    pub bytes: u64,
    /// Number of text tokens.
    pub tokens: u64,
    /// Number of latents.
    pub latents: u64,
    /// Number of shards, the parts of a text that are compressed as units. A shard of several documents is counted once
    /// for each document.
    pub shards: u64,
    /// Number of windows.
    pub windows: u64,
    /// Number of names in all namespaces.
    pub names: u64,
    /// Number of all objects in the store.
    pub objects: u64,
    /// Bytes of all objects in the store.
    pub stored_bytes: u64,
    /// Number of documents that cannot be read. The fields from `documents` to `windows` do not count them.
    pub damaged: u64,
    /// Number of uploads that can be resumed.
    pub uploads: u64,
    /// Number of objects of these uploads that no document refers to.
    pub upload_objects: u64,
    /// Bytes of the objects in `upload_objects`.
    pub upload_bytes: u64,
    /// Number of objects that nothing refers to. They were left by interrupted or running puts, or by deleted
    /// documents.
    pub unused_objects: u64,
    /// Bytes of the objects in `unused_objects`.
    pub unused_bytes: u64,
}

impl Totals {
    /// Returns the bytes of the objects of documents, including their names and labels.
    pub fn document_bytes(&self) -> u64 {
        self.stored_bytes.saturating_sub(self.upload_bytes + self.unused_bytes)
    }

    /// Returns the number of the objects of documents, including their names and labels.
    pub fn document_objects(&self) -> u64 {
        self.objects.saturating_sub(self.upload_objects + self.unused_objects)
    }
}
