//! JSON bodies of responses.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use c3_types::{
    DamagedDocument, DamagedName, Document, DocumentLabels, DocumentPage, Labels, NamePage, NamedDocument, Progress,
    Stored, Totals, Upload, WriteOptions,
};
use serde::Serialize;
use utoipa::ToSchema;

/// A stored document.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct DocumentBody {
    /// BLAKE3 hash of the text, 64 hexadecimal digits.
    #[schema(example = "75107657738c7ef7a4f3a217addcdf03ce2074467c02f70b6451b743e4406629")]
    pub(super) id: String,
    /// Size of the text in bytes.
    #[schema(example = 8065)]
    pub(super) bytes: u64,
    #[schema(example = 2575)]
    tokens: u64,
    #[schema(example = 130)]
    latents: u64,
    /// Text tokens per latent; 0 if parts of the document have different ratios.
    #[schema(example = 20)]
    ratio: u32,
    #[schema(example = "q4_0")]
    codec: &'static str,
    /// Fraction of tokens that the decoder predicts correctly without corrections; null if not verified.
    #[schema(example = 0.99922)]
    fidelity: Option<f64>,
    /// Number of tokens that are stored because the decoder would not reliably predict them; null if not verified.
    #[schema(example = 7)]
    corrections: Option<u64>,
    /// Number of windows that the decoder restores without corrections; null if not verified, or if the document was
    /// stored by a version that did not count them.
    #[schema(example = 3)]
    exact_windows: Option<u64>,
    /// Number of windows, which are the parts that are decoded separately.
    #[schema(example = 5)]
    windows: u64,
    /// True if every token was checked when the document was stored. Reads of a verified document are exact.
    verified: bool,
    /// Bytes of the document in the store.
    #[schema(example = 43182)]
    stored_bytes: u64,
    /// Name of the model.
    #[schema(example = "c3-mini")]
    cascade: String,
    /// Time of the first put.
    #[schema(format = DateTime, example = "2026-03-01T12:00:00.000Z")]
    created: String,
    /// Time from which the document is not found; absent if it never expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, nullable = false)]
    expires: Option<String>,
    /// Labels. Only in responses about one document and in lists; absent if there are none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    labels: BTreeMap<String, String>,
    /// Names that match the filter of a list; absent otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    names: Vec<String>,
}

impl From<&Document> for DocumentBody {
    fn from(document: &Document) -> Self {
        let verification = document.verification.as_ref();
        Self {
            id: document.id.to_string(),
            bytes: document.bytes,
            tokens: document.tokens,
            latents: document.latents,
            ratio: document.ratio,
            codec: document.codec.name(),
            fidelity: document.fidelity(),
            corrections: verification.map(|verification| verification.corrections),
            exact_windows: verification.and_then(|verification| verification.exact_windows),
            windows: document.windows,
            verified: verification.is_some(),
            stored_bytes: document.stored_bytes,
            cascade: document.cascade.name.clone(),
            created: timestamp(document.created_unix_ms),
            expires: document.expires_unix_ms.map(timestamp),
            labels: label_map(&document.labels),
            names: document.names.clone(),
        }
    }
}

/// Result of a put, append or recode.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct StoredBody {
    #[serde(flatten)]
    pub(super) document: DocumentBody,
    /// True if a document with this text was stored before.
    pub(super) already_stored: bool,
    /// Number of parts that were stored before and needed no model.
    shards_reused: u64,
    /// Seconds that the models and the store took. Times of parallel calls are added.
    seconds: SecondsBody,
    /// With `ratio=auto`: whether the document meets the bound; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    bound_met: Option<bool>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct SecondsBody {
    compress: f64,
    verify: f64,
    store: f64,
}

impl From<&Stored> for StoredBody {
    fn from(stored: &Stored) -> Self {
        Self {
            document: (&stored.document).into(),
            already_stored: stored.already_stored,
            shards_reused: stored.shards_reused,
            seconds: SecondsBody {
                compress: stored.times.compress.as_secs_f64(),
                verify: stored.times.verify.as_secs_f64(),
                store: stored.times.store.as_secs_f64(),
            },
            bound_met: stored.bound_met,
        }
    }
}

/// Progress of a put, append or recode, as the data of an SSE event.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ProgressBody {
    /// Bytes that are durable but not visible yet.
    bytes_done: u64,
    tokens_done: u64,
    /// Bytes that were stored before.
    bytes_reused: u64,
    /// Bytes whose latents are known: those of `bytes_done`, and some that are not verified yet.
    bytes_compressed: u64,
    /// Estimated seconds left; null if unknown.
    seconds_left: Option<f64>,
    /// Name under which the upload can be resumed; null if it cannot be resumed yet.
    upload: Option<String>,
}

impl From<&Progress> for ProgressBody {
    fn from(progress: &Progress) -> Self {
        Self {
            bytes_done: progress.bytes_done,
            tokens_done: progress.tokens_done,
            bytes_reused: progress.bytes_reused,
            bytes_compressed: progress.bytes_compressed,
            seconds_left: progress.time_left.map(|left| left.as_secs_f64()),
            upload: progress.upload.as_ref().map(ToString::to_string),
        }
    }
}

/// A page of documents, sorted by id.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct DocumentsBody {
    documents: Vec<DocumentBody>,
    /// Documents that exist but cannot be read.
    damaged: Vec<DamagedBody>,
    /// Cursor of the next page; null: this is the last page.
    next_cursor: Option<String>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct DamagedBody {
    /// Id of the document, or the name.
    subject: String,
    problem: String,
}

impl DocumentsBody {
    pub(super) fn new(page: &DocumentPage, next_cursor: Option<String>) -> Self {
        let damaged = |DamagedDocument { id, problem }: &DamagedDocument| DamagedBody {
            subject: id.to_string(),
            problem: problem.clone(),
        };
        Self {
            documents: page.documents.iter().map(DocumentBody::from).collect(),
            damaged: page.damaged.iter().map(damaged).collect(),
            next_cursor,
        }
    }
}

/// Id of a document.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct IdBody {
    /// BLAKE3 hash of the text, 64 hexadecimal digits.
    pub(super) id: String,
}

/// A name and its document.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct NameBody {
    #[schema(example = "default")]
    namespace: String,
    #[schema(example = "book")]
    name: String,
    /// Id of the document.
    id: String,
    /// Version token; also the entity tag, for If-Match.
    token: String,
    /// Time of the last change.
    #[schema(format = DateTime)]
    changed: String,
}

impl From<&NamedDocument> for NameBody {
    fn from(named: &NamedDocument) -> Self {
        Self {
            namespace: named.name.namespace().to_string(),
            name: named.name.name().to_owned(),
            id: named.id.to_string(),
            token: named.token.clone(),
            changed: timestamp(named.changed_unix_ms),
        }
    }
}

/// A page of names, sorted within the page.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct NamesBody {
    names: Vec<NameBody>,
    /// Names that exist but cannot be read.
    damaged: Vec<DamagedBody>,
    /// Cursor of the next page; null: this is the last page.
    next_cursor: Option<String>,
}

impl NamesBody {
    pub(super) fn new(page: &NamePage, next_cursor: Option<String>) -> Self {
        let damaged = |DamagedName { name, problem }: &DamagedName| DamagedBody {
            subject: name.clone(),
            problem: problem.clone(),
        };
        Self {
            names: page.names.iter().map(NameBody::from).collect(),
            damaged: page.damaged.iter().map(damaged).collect(),
            next_cursor,
        }
    }
}

/// Labels of a document.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct LabelsBody {
    id: String,
    labels: BTreeMap<String, String>,
    /// Version token, also the entity tag for If-Match; null: there are no labels.
    token: Option<String>,
}

impl From<&DocumentLabels> for LabelsBody {
    fn from(labels: &DocumentLabels) -> Self {
        let token = Some(labels.token.clone()).filter(|token| !token.is_empty());
        Self { id: labels.id.to_string(), labels: label_map(&labels.labels), token }
    }
}

/// Unfinished uploads, sorted by name.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct UploadsBody {
    pub(super) uploads: Vec<UploadBody>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct UploadBody {
    name: String,
    /// Bytes that are stored already, from the beginning of the text.
    bytes_done: u64,
    tokens_done: u64,
    /// Time from which the upload cannot be resumed.
    #[schema(format = DateTime)]
    expires: String,
    /// Options of the interrupted put, which a resuming put must not change.
    #[schema(value_type = Object)]
    options: WriteOptions,
}

impl From<&Upload> for UploadBody {
    fn from(upload: &Upload) -> Self {
        Self {
            name: upload.name.to_string(),
            bytes_done: upload.bytes_done,
            tokens_done: upload.tokens_done,
            expires: timestamp(upload.expires_unix_ms),
            options: upload.options.clone(),
        }
    }
}

/// Totals over all documents that can be read, and over the whole store.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct TotalsBody {
    documents: u64,
    /// Bytes of the texts.
    bytes: u64,
    tokens: u64,
    latents: u64,
    shards: u64,
    windows: u64,
    /// Names in all namespaces.
    names: u64,
    /// Objects in the store.
    objects: u64,
    /// Bytes of all objects in the store.
    stored_bytes: u64,
    /// Documents that cannot be read.
    damaged: u64,
    uploads: u64,
    upload_objects: u64,
    upload_bytes: u64,
    /// Objects that nothing refers to.
    unused_objects: u64,
    unused_bytes: u64,
}

impl From<Totals> for TotalsBody {
    fn from(totals: Totals) -> Self {
        Self {
            documents: totals.documents,
            bytes: totals.bytes,
            tokens: totals.tokens,
            latents: totals.latents,
            shards: totals.shards,
            windows: totals.windows,
            names: totals.names,
            objects: totals.objects,
            stored_bytes: totals.stored_bytes,
            damaged: totals.damaged,
            uploads: totals.uploads,
            upload_objects: totals.upload_objects,
            upload_bytes: totals.upload_bytes,
            unused_objects: totals.unused_objects,
            unused_bytes: totals.unused_bytes,
        }
    }
}

/// Problem details (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ProblemBody {
    /// URI of the error kind. Programs compare it.
    #[serde(rename = "type")]
    #[schema(example = "urn:c3serve:problem:not_found")]
    type_uri: String,
    #[schema(example = "Not found")]
    title: String,
    #[schema(example = 404)]
    status: u16,
    /// Explanation of the problem, with what to do.
    #[schema(example = "no document abcd is stored here")]
    detail: String,
    /// Seconds after which a retry may succeed, as in the header Retry-After.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry_after: Option<u64>,
}

/// Returns a time as RFC 3339 writes it, in UTC.
pub(super) fn timestamp(unix_ms: u64) -> String {
    /// The last millisecond of the year 9999: RFC 3339 has no later times.
    const MAX: u64 = 253_402_300_799_999;
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(unix_ms.min(MAX))).to_string()
}

fn label_map(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
