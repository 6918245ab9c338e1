//! Options of calls that write documents, and of calls that decompress latents.

use serde::Serialize;

use crate::{IdPrefix, Invalid, Labels, LatentCodec, PutName, UploadName};

/// Ratios (text tokens per latent) that a checkpoint supports, from `min` to `max` inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RatioRange {
    /// Minimum text tokens per latent.
    pub min: u32,
    /// Maximum text tokens per latent.
    pub max: u32,
    /// Ratio for requests without a ratio.
    pub default: u32,
}

impl RatioRange {
    /// Returns `ratio`, or the default if `ratio` is 0. Errors: `ratio` is out of range.
    pub fn check(&self, ratio: u32) -> Result<u32, Invalid> {
        match ratio {
            0 => Ok(self.default),
            ratio if (self.min..=self.max).contains(&ratio) => Ok(ratio),
            ratio => {
                let problem = format!("{ratio} is not a whole number from {} to {}", self.min, self.max);
                Err(Invalid::new("ratio", problem))
            }
        }
    }
}

/// Options of a write. If the cascade, ratio, codec or margin is unset, its value comes from `base`, the gateway or the
/// checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WriteOptions {
    /// Name of the cascade.
    pub cascade: Option<String>,
    /// Ratio in text tokens per latent.
    pub ratio: Option<u32>,
    /// Encoding of the latents.
    pub codec: Option<LatentCodec>,
    /// Skips verification: the document has no corrections, so its text may not be restored exactly.
    pub skip_verification: bool,
    /// Minimum logit margin of a correct prediction. A token with a smaller margin gets a correction, so that it is
    /// forced when the text is restored.
    pub margin: Option<f32>,
    /// Size of the text in bytes, if known.
    pub bytes: Option<u64>,
    /// Chooses a ratio for each shard (part of the text). `ratio` must then be `None`.
    pub auto_ratio: Option<AutoRatio>,
    /// Seconds after which the document expires; `None`: never.
    pub ttl_seconds: Option<u64>,
    /// Name for resuming the upload; `None`: the gateway chooses a name.
    pub upload: Option<UploadName>,
    /// Stored document that the text is based on.
    pub base: Option<Base>,
    /// Name to give the document once it is durable.
    pub name: Option<PutName>,
    /// Labels to set once the document is durable. Its other labels are kept.
    pub labels: Labels,
    /// Leaves the document out of search: no sketches of its windows are computed, and it is never found.
    pub skip_search: bool,
}

/// Stored document that a text is based on. If the cascade, ratio, codec or margin of the write is unset, the stored
/// document's value applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// The text is an edited version of this document.
    Edited(IdPrefix),
    /// The text is appended to this document's text.
    Appended(IdPrefix),
}

impl Base {
    /// Returns the id or id prefix of the document.
    pub fn id(&self) -> &IdPrefix {
        match self {
            Self::Edited(id) | Self::Appended(id) => id,
        }
    }

    /// Parses the two id fields of a request. An empty field is unset. Errors: both are set, or an id is malformed.
    pub fn from_ids(edited: &str, appended: &str) -> Result<Option<Self>, Invalid> {
        match (edited, appended) {
            ("", "") => Ok(None),
            (id, "") => Ok(Some(Self::Edited(id.parse()?))),
            ("", id) => Ok(Some(Self::Appended(id.parse()?))),
            _ => Err(Invalid::new("append_to", "cannot be combined with base")),
        }
    }
}

/// Automatic choice of a ratio for each shard, so that the document meets a bound.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AutoRatio {
    /// Candidate ratios, sorted and unique. Empty: the gateway's default candidates.
    pub ratios: Vec<u32>,
    /// Bound that the document must meet.
    pub bound: AutoBound,
}

/// Bound on a document whose ratios are chosen automatically.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoBound {
    /// Minimum fidelity, above 0 and at most 1. The gateway searches for the highest ratios that reach it.
    FidelityMin(f64),
    /// Maximum stored bytes. The gateway searches for the lowest ratios that do not exceed it.
    StoredBytesMax(u64),
}

impl AutoRatio {
    /// Maximum number of candidate ratios.
    const RATIOS_MAX: usize = 16;

    /// Checks the bound, and sorts, deduplicates and checks `ratios`. Does not check that the checkpoint supports them.
    ///
    /// Errors: none or both of the bounds are set, the fidelity is outside (0, 1], a ratio is 0, or there are more than
    /// 16 ratios.
    pub fn new(
        mut ratios: Vec<u32>,
        fidelity_min: Option<f64>,
        stored_bytes_max: Option<u64>,
    ) -> Result<Self, Invalid> {
        let bound = match (fidelity_min, stored_bytes_max) {
            (Some(share), None) if share > 0.0 && share <= 1.0 => AutoBound::FidelityMin(share),
            (Some(share), None) => {
                let problem = format!("{share} is not above 0 and at most 1");
                return Err(Invalid::new("auto_ratio.fidelity_min", problem));
            }
            (None, Some(bytes)) => AutoBound::StoredBytesMax(bytes),
            _ => {
                return Err(Invalid::new("auto_ratio", "must have exactly one of fidelity_min and stored_bytes_max"));
            }
        };
        ratios.sort_unstable();
        ratios.dedup();
        if ratios.len() > Self::RATIOS_MAX || ratios.first() == Some(&0) {
            let problem = format!("must be at most {} whole numbers of 1 or more", Self::RATIOS_MAX);
            return Err(Invalid::new("auto_ratio.ratios", problem));
        }
        Ok(Self { ratios, bound })
    }

    /// Returns the minimum fidelity and the maximum stored bytes. Exactly one of them is `Some`.
    pub fn bounds(&self) -> (Option<f64>, Option<u64>) {
        match self.bound {
            AutoBound::FidelityMin(share) => (Some(share), None),
            AutoBound::StoredBytesMax(bytes) => (None, Some(bytes)),
        }
    }
}

impl WriteOptions {
    /// Refuses an invalid margin and contradicting options. Does not check that the checkpoint supports the ratio.
    pub fn check(&self) -> Result<(), Invalid> {
        let auto = |problem| Err(Invalid::new("auto_ratio", problem));
        match (&self.auto_ratio, self.margin) {
            (_, Some(margin)) if !(margin.is_finite() && margin >= 0.0) => {
                Err(Invalid::new("margin", format!("{margin} is not a finite number of 0 or more")))
            }
            (None, _) => Ok(()),
            _ if self.ratio.is_some() => auto("cannot be combined with ratio"),
            _ if self.skip_verification => auto("needs verification"),
            (Some(AutoRatio { bound: AutoBound::StoredBytesMax(_), .. }), _) if self.bytes.is_none() => {
                Err(Invalid::new("auto_ratio.stored_bytes_max", "needs the size of the text in bytes"))
            }
            _ if matches!(self.base, Some(Base::Appended(_))) => {
                auto("cannot be combined with append_to; append, then recode")
            }
            _ => Ok(()),
        }
    }

    /// Refuses `upload` and `base`, which only a put may set.
    pub fn check_without_upload(&self) -> Result<(), Invalid> {
        let put_only = |field| Err(Invalid::new(field, "is only allowed in a put"));
        match (&self.upload, &self.base) {
            (Some(_), _) => put_only("upload"),
            (None, Some(_)) => put_only("base"),
            (None, None) => Ok(()),
        }
    }
}

/// Options for decompressing latents that the caller sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DecompressOptions {
    /// Name of the cascade; `None`: the cascade whose compressor made the latents.
    pub cascade: Option<String>,
    /// Prompt to answer about each window's text; `None`: restore the text.
    pub prompt: Option<Prompt>,
}

/// A prompt about a window's text, for checkpoints that accept prompts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Prompt {
    /// Text of the prompt.
    pub text: String,
    /// Maximum tokens of the answer; 0 selects 4096, the maximum of the published C3 code.
    pub tokens_max: u32,
}
