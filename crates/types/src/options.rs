//! Options of writing and of decompressing.

use serde::Serialize;

use crate::{IdPrefix, Invalid, Labels, LatentCodec, PutName, UploadName};

/// Ratios that a checkpoint supports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RatioRange {
    /// Minimum text tokens per latent.
    pub min: u32,
    /// Maximum text tokens per latent.
    pub max: u32,
    /// Ratio used if the caller gives none.
    pub default: u32,
}

impl RatioRange {
    /// Returns the ratio, or the default for 0. Errors: it is out of range.
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

/// Options of a write. The checkpoint or the gateway chooses those that are `None`. [`Self::check`] validates them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WriteOptions {
    /// Name of the cascade.
    pub cascade: Option<String>,
    /// Text tokens per latent.
    pub ratio: Option<u32>,
    /// Encoding of the latents.
    pub codec: Option<LatentCodec>,
    /// Skips verification: the document is stored without corrections and may not be restored exactly.
    pub skip_verification: bool,
    /// Logits by which a token must win to need no correction.
    pub margin: Option<f32>,
    /// Size of the text, if known.
    pub bytes: Option<u64>,
    /// Chooses a ratio for each shard, instead of `ratio` for all.
    pub auto_ratio: Option<AutoRatio>,
    /// Seconds after which the document expires; `None`: never.
    pub ttl_seconds: Option<u64>,
    /// Name under which the upload can be resumed; `None`: the gateway chooses one.
    pub upload: Option<UploadName>,
    /// Stored document that the text is a version or a continuation of.
    pub base: Option<Base>,
    /// Name to set once the document is durable.
    pub name: Option<PutName>,
    /// Labels to set then. Other labels of the document stay.
    pub labels: Labels,
}

/// Stored document that a text is based on. Unset options take its values.
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

    /// Parses the two fields of a request, of which an empty one is unset. Errors: both are set.
    pub fn from_ids(edited: &str, appended: &str) -> Result<Option<Self>, Invalid> {
        match (edited, appended) {
            ("", "") => Ok(None),
            (id, "") => Ok(Some(Self::Edited(id.parse()?))),
            ("", id) => Ok(Some(Self::Appended(id.parse()?))),
            _ => Err(Invalid::new("append_to", "cannot be combined with base")),
        }
    }
}

/// Automatic choice of a ratio for each shard, within a bound on the document.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AutoRatio {
    /// Candidate ratios, sorted and unique; empty: the gateway's default candidates.
    pub ratios: Vec<u32>,
    /// The bound.
    pub bound: AutoBound,
}

/// Bound on a document whose ratios are chosen automatically.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoBound {
    /// Minimum fidelity. The gateway looks for the highest ratios that meet it.
    FidelityMin(f64),
    /// Maximum stored bytes. The gateway looks for the lowest ratios that meet it.
    StoredBytesMax(u64),
}

impl AutoRatio {
    /// Maximum candidate ratios.
    const RATIOS_MAX: usize = 16;

    /// Checks candidates and bound. The range of the ratios is checked later, against the checkpoint.
    ///
    /// Errors: no bound or both, a fidelity outside (0, 1], a ratio of 0, more than 16 ratios.
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

    /// Returns the bounds on fidelity and on stored bytes, of which one is set.
    pub fn bounds(&self) -> (Option<f64>, Option<u64>) {
        match self.bound {
            AutoBound::FidelityMin(share) => (Some(share), None),
            AutoBound::StoredBytesMax(bytes) => (None, Some(bytes)),
        }
    }
}

impl WriteOptions {
    /// Refuses options that contradict each other. The range of the ratio is checked later, against the checkpoint.
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

    /// Refuses options that apply only to a new upload.
    pub fn check_without_upload(&self) -> Result<(), Invalid> {
        let put_only = |field| Err(Invalid::new(field, "is only allowed in a put"));
        match (&self.upload, &self.base) {
            (Some(_), _) => put_only("upload"),
            (None, Some(_)) => put_only("base"),
            (None, None) => Ok(()),
        }
    }
}

/// Options of decompressing latents that are not stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DecompressOptions {
    /// Name of the cascade; `None`: the one whose compressor made the latents.
    pub cascade: Option<String>,
    /// Question to answer about each window; `None`: write its text.
    pub prompt: Option<Prompt>,
}

/// A question about a window's text, for checkpoints that accept prompts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Prompt {
    /// The question.
    pub text: String,
    /// Maximum tokens of the answer; 0: 4096, as in the published code.
    pub tokens_max: u32,
}
