//! How a text is to be written.

use serde::{Deserialize, Serialize};

use crate::{IdPrefix, Invalid, Labels, LatentCodec, PutName, UploadName};

/// The ratios that a checkpoint accepts, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatioRange {
    /// Fewest text tokens a latent.
    pub min: u32,
    /// Most text tokens a latent.
    pub max: u32,
    /// What is taken where the caller names none.
    pub default: u32,
}

impl RatioRange {
    /// The ratio that a message asks for (0: the default), if it is in range.
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

/// What the caller of a write asks for; what is `None` is the checkpoint's or the gateway's to choose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WriteOptions {
    /// Name of the cascade.
    pub cascade: Option<String>,
    /// Text tokens a latent.
    pub ratio: Option<u32>,
    /// How latents are written.
    pub codec: Option<LatentCodec>,
    /// Store without knowing whether the text comes back.
    pub skip_verification: bool,
    /// Logits by which a token must win to need no correction.
    pub margin: Option<f32>,
    /// Size of the text, where known.
    pub bytes: Option<u64>,
    /// How to choose a ratio for each shard, in place of one for all.
    pub auto_ratio: Option<AutoRatio>,
    /// Seconds after which the document is not found; `None`: never.
    pub ttl_seconds: Option<u64>,
    /// Names the put, so that it can be taken up; `None`: the gateway names it.
    pub upload: Option<UploadName>,
    /// A stored document that the text has to do with.
    pub base: Option<Base>,
    /// Set once the document is durable.
    pub name: Option<PutName>,
    /// Set then, too, beside those that the document has.
    pub labels: Labels,
}

/// A stored document, by the beginning of its id, that a text has to do with. What other options leave open is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// The text is an edited version of it.
    Edited(IdPrefix),
    /// The text comes after its text, and is nothing by itself.
    Appended(IdPrefix),
}

impl Base {
    /// The beginning of the document's id.
    pub fn id(&self) -> &IdPrefix {
        match self {
            Self::Edited(id) | Self::Appended(id) => id,
        }
    }

    /// Returns the base of a request that names at most one of two documents. Errors: both are named.
    pub fn from_ids(edited: &str, appended: &str) -> Result<Option<Self>, Invalid> {
        match (edited, appended) {
            ("", "") => Ok(None),
            (id, "") => Ok(Some(Self::Edited(id.parse()?))),
            ("", id) => Ok(Some(Self::Appended(id.parse()?))),
            _ => {
                Err(Invalid::new("append_to", "a text is appended to a document or edited from it, not both"))
            }
        }
    }
}

/// Ratios to choose from, shard by shard, and what the document must keep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AutoRatio {
    /// By rising size, none twice; empty: the gateway's to choose.
    pub ratios: Vec<u32>,
    /// What the document must keep.
    pub bound: AutoBound,
}

/// What a document must keep whose ratios are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoBound {
    /// Share of its tokens that the decoder writes right without help: the highest ratios are sought that keep it.
    FidelityMin(f64),
    /// Bytes that it takes in the store: the lowest ratios are sought that keep it.
    StoredBytesMax(u64),
}

impl AutoRatio {
    /// Most ratios to choose from.
    const RATIOS_MAX: usize = 16;

    /// Returns the choice among `ratios` that keeps exactly one of the two bounds. The checkpoint checks the ratios' range.
    ///
    /// Errors: no bound or both, a fidelity outside (0, 1], a ratio of 0 or more than 16 ratios.
    pub fn new(
        mut ratios: Vec<u32>,
        fidelity_min: Option<f64>,
        stored_bytes_max: Option<u64>,
    ) -> Result<Self, Invalid> {
        let bound = match (fidelity_min, stored_bytes_max) {
            (Some(share), None) if share > 0.0 && share <= 1.0 => AutoBound::FidelityMin(share),
            (Some(share), None) => {
                let problem = format!("{share} is not a share over 0 and up to 1");
                return Err(Invalid::new("auto_ratio.fidelity_min", problem));
            }
            (None, Some(bytes)) => AutoBound::StoredBytesMax(bytes),
            _ => return Err(Invalid::new("auto_ratio", "give one of fidelity_min and stored_bytes_max")),
        };
        ratios.sort_unstable();
        ratios.dedup();
        if ratios.len() > Self::RATIOS_MAX || ratios.first() == Some(&0) {
            let problem = format!("give up to {} whole numbers of 1 or more", Self::RATIOS_MAX);
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
    /// Refuses options that contradict each other. The checkpoint checks the ratio's range.
    pub fn check(&self) -> Result<(), Invalid> {
        let auto = |problem| Err(Invalid::new("auto_ratio", problem));
        match (&self.auto_ratio, self.margin) {
            (_, Some(margin)) if !(margin.is_finite() && margin >= 0.0) => {
                Err(Invalid::new("margin", format!("{margin} is not a finite number of 0 or more")))
            }
            (None, _) => Ok(()),
            _ if self.ratio.is_some() => auto("give a ratio or let it be chosen, not both"),
            _ if self.skip_verification => auto("ratios are chosen by what verification says"),
            (Some(AutoRatio { bound: AutoBound::StoredBytesMax(_), .. }), _) if self.bytes.is_none() => {
                Err(Invalid::new("auto_ratio.stored_bytes_max", "needs the size of the text"))
            }
            _ if matches!(self.base, Some(Base::Appended(_))) => {
                auto("ratios are chosen for whole texts: append, then recode")
            }
            _ => Ok(()),
        }
    }

    /// Refuses what only a put that stores its text has.
    pub fn check_no_put(&self) -> Result<(), Invalid> {
        let put_only = |field| Err(Invalid::new(field, "is for texts that are put"));
        match (&self.upload, &self.base) {
            (Some(_), _) => put_only("upload"),
            (None, Some(_)) => put_only("base"),
            (None, None) => Ok(()),
        }
    }
}

/// Options of decompressing latents that are not stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DecompressOptions {
    /// Name of the cascade; `None`: the one whose compressor made the latents.
    pub cascade: Option<String>,
    /// Question to answer about each window; `None`: write its text.
    pub prompt: Option<Prompt>,
}

/// A question about a window's text, for checkpoints that accept prompts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// The question.
    pub text: String,
    /// Maximum tokens of the answer; 0: 4096, as in the published code.
    pub tokens_max: u32,
}
