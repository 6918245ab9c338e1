//! Domain types of C3 Serve.
//!
//! Constructors check their arguments. Their error, [`Invalid`], names the invalid field. The crate does no I/O and
//! depends on no transport. `c3-proto` converts between these types and protocol messages.

#[macro_use]
mod serde_str;

mod cascade;
mod codec;
mod correction;
mod document;
#[cfg(test)]
mod fuzz;
mod id;
mod invalid;
mod labels;
mod latents;
pub mod latents_file;
pub mod limits;
mod list;
mod maintenance;
mod name;
mod options;
mod put;
mod range;
mod search;
mod tenant;
mod upload;
mod window;

pub use cascade::{Cascade, Description, Stage};
pub use codec::LatentCodec;
pub use correction::{Correction, Corrections};
pub use document::{Document, Verification};
pub use id::{DocumentId, Fingerprint, IdPrefix, ShardHash, WindowHash};
pub use invalid::Invalid;
pub use labels::{Label, Labels, PATH_LABEL};
pub use latents::{LatentGroup, LatentGroupParts, Provenance};
pub use list::{
    CreatedRange, DamagedDocument, DamagedName, DocumentLabels, DocumentPage, ListQuery, NameFilter, NamePage,
    NamedDocument, Totals,
};
pub use maintenance::{AffectedWindows, Finding, FsckEvent, FsckMode, FsckSummary, SweepSummary};
pub use name::{DocumentName, DocumentRef, Expected, Namespace, PutName};
pub use options::{AutoBound, AutoRatio, Base, DecompressOptions, Prompt, RatioRange, WriteOptions};
pub use put::{Progress, PutEvent, StageTimes, Stored, Upload};
pub use range::{ByteRange, LineRange};
pub use search::{ReindexJob, ReindexState, SearchHit, SearchMode, SearchPage, SearchQuery, Snippet};
pub use tenant::TenantId;
pub use upload::UploadName;
pub use window::{Window, WindowCorrections, WindowLatents};
