//! Domain types of C3 Serve.
//!
//! Each type checks itself when it is made, before anything is allocated for it, and fails with an [`Invalid`] that
//! names the field. The crate does no I/O and knows no transport; `c3-proto` converts between these types and messages.

#[macro_use]
mod serde_str;

mod codec;
mod correction;
mod description;
mod document;
mod hash;
mod invalid;
mod labels;
mod latents;
pub mod limits;
mod list;
mod maintenance;
mod name;
mod options;
mod put;
mod range;
mod upload;
mod window;

pub use codec::LatentCodec;
pub use correction::{Correction, Corrections};
pub use description::{CascadeName, Description, Stage};
pub use document::{Document, Verification};
pub use hash::{DocumentId, Fingerprint, IdPrefix, ShardHash, WindowHash};
pub use invalid::Invalid;
pub use labels::{Label, Labels};
pub use latents::{LatentGroup, LatentGroupParts, Provenance};
pub use list::{
    DamagedDocument, DamagedName, DocumentLabels, DocumentPage, ListQuery, NameFilter, NamePage, NamedDocument, Totals,
};
pub use maintenance::{AffectedWindows, Finding, FsckEvent, FsckMode, FsckSummary, SweepSummary};
pub use name::{DocumentName, DocumentRef, Expected, Namespace, PutName};
pub use options::{AutoBound, AutoRatio, Base, DecompressOptions, Prompt, RatioRange, WriteOptions};
pub use put::{Progress, PutEvent, StageTimes, Stored, Upload};
pub use range::ByteRange;
pub use upload::UploadName;
pub use window::{Window, WindowCorrections, WindowLatents};
