//! How a text is to be written.

use crate::{IdPrefix, Invalid, Labels, LatentCodec, PutName, UploadName, pb};

/// The ratios that a checkpoint accepts, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, Default, PartialEq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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

    fn from_wire(base: &str, append_to: &str) -> Result<Option<Self>, Invalid> {
        match (base, append_to) {
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
#[derive(Clone, Debug, PartialEq)]
pub struct AutoRatio {
    /// By rising size, none twice; empty: the gateway's to choose.
    pub ratios: Vec<u32>,
    /// What the document must keep.
    pub bound: AutoBound,
}

/// What a document must keep whose ratios are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AutoBound {
    /// Share of its tokens that the decoder writes right without help: the highest ratios are sought that keep it.
    FidelityMin(f64),
    /// Bytes that it takes in the store: the lowest ratios are sought that keep it.
    StoredBytesMax(u64),
}

impl AutoRatio {
    /// Most ratios to choose from.
    const RATIOS_MAX: usize = 16;

    /// Checks what arrived. The ratios' range is the checkpoint's to check.
    pub fn from_wire(wire: pb::AutoRatio) -> Result<Self, Invalid> {
        let bound = match (wire.fidelity_min, wire.stored_bytes_max) {
            (Some(share), None) if share > 0.0 && share <= 1.0 => AutoBound::FidelityMin(share),
            (Some(share), None) => {
                let problem = format!("{share} is not a share over 0 and up to 1");
                return Err(Invalid::new("auto_ratio.fidelity_min", problem));
            }
            (None, Some(bytes)) => AutoBound::StoredBytesMax(bytes),
            _ => return Err(Invalid::new("auto_ratio", "give one of fidelity_min and stored_bytes_max")),
        };
        let mut ratios = wire.ratios;
        ratios.sort_unstable();
        ratios.dedup();
        if ratios.len() > Self::RATIOS_MAX || ratios.first() == Some(&0) {
            let problem = format!("give up to {} whole numbers of 1 or more", Self::RATIOS_MAX);
            return Err(Invalid::new("auto_ratio.ratios", problem));
        }
        Ok(Self { ratios, bound })
    }

    /// As it travels.
    pub fn to_wire(&self) -> pb::AutoRatio {
        let mut wire = pb::AutoRatio { ratios: self.ratios.clone(), ..Default::default() };
        match self.bound {
            AutoBound::FidelityMin(share) => wire.fidelity_min = Some(share),
            AutoBound::StoredBytesMax(bytes) => wire.stored_bytes_max = Some(bytes),
        }
        wire
    }
}

impl WriteOptions {
    /// Checks what arrived. The ratio's range is the checkpoint's to check.
    pub fn from_wire(wire: pb::WriteOptions) -> Result<Self, Invalid> {
        match wire.margin {
            Some(margin) if !(margin.is_finite() && margin >= 0.0) => {
                return Err(Invalid::new("margin", format!("{margin} is not a finite number of 0 or more")));
            }
            _ => {}
        }
        let auto_ratio = wire.auto_ratio.map(AutoRatio::from_wire).transpose()?;
        match &auto_ratio {
            Some(_) if wire.ratio != 0 => {
                return Err(Invalid::new("auto_ratio", "give a ratio or let it be chosen, not both"));
            }
            Some(_) if wire.skip_verification => {
                return Err(Invalid::new("auto_ratio", "ratios are chosen by what verification says"));
            }
            Some(AutoRatio { bound: AutoBound::StoredBytesMax(_), .. }) if wire.bytes.is_none() => {
                return Err(Invalid::new("auto_ratio.stored_bytes_max", "needs the size of the text"));
            }
            _ => {}
        }
        let base = Base::from_wire(&wire.base, &wire.append_to)?;
        if auto_ratio.is_some() && matches!(base, Some(Base::Appended(_))) {
            return Err(Invalid::new("auto_ratio", "ratios are chosen for whole texts: append, then recode"));
        }
        Ok(Self {
            cascade: Some(wire.cascade).filter(|name| !name.is_empty()),
            ratio: Some(wire.ratio).filter(|&ratio| ratio != 0),
            codec: LatentCodec::from_wire(wire.codec)?,
            skip_verification: wire.skip_verification,
            margin: wire.margin,
            bytes: wire.bytes,
            auto_ratio,
            ttl_seconds: Some(wire.ttl_seconds).filter(|&seconds| seconds != 0),
            upload: UploadName::from_wire(&wire.upload)?,
            base,
            name: wire.name.map(PutName::from_wire).transpose()?,
            labels: Labels::new(wire.labels)?,
        })
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

    /// The options as they travel.
    pub fn to_wire(&self) -> pb::WriteOptions {
        let (base, append_to) = match &self.base {
            Some(Base::Edited(id)) => (id.as_str(), ""),
            Some(Base::Appended(id)) => ("", id.as_str()),
            None => ("", ""),
        };
        pb::WriteOptions {
            cascade: self.cascade.clone().unwrap_or_default(),
            ratio: self.ratio.unwrap_or_default(),
            codec: self.codec.map_or(0, LatentCodec::to_wire),
            skip_verification: self.skip_verification,
            margin: self.margin,
            bytes: self.bytes,
            auto_ratio: self.auto_ratio.as_ref().map(AutoRatio::to_wire),
            ttl_seconds: self.ttl_seconds.unwrap_or_default(),
            upload: self.upload.as_ref().map_or_else(String::new, ToString::to_string),
            base: base.to_owned(),
            append_to: append_to.to_owned(),
            name: self.name.as_ref().map(PutName::to_wire),
            labels: self.labels.to_wire(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(ratios: &[u32], fidelity_min: Option<f64>, stored_bytes_max: Option<u64>) -> pb::WriteOptions {
        let auto_ratio = pb::AutoRatio { ratios: ratios.to_vec(), fidelity_min, stored_bytes_max };
        pb::WriteOptions { auto_ratio: Some(auto_ratio), bytes: Some(9), ..Default::default() }
    }

    #[test]
    fn chosen_ratios_survive_the_wire_in_order() {
        let options = WriteOptions::from_wire(auto(&[40, 10, 40], Some(0.999), None)).unwrap();
        assert_eq!(options.auto_ratio.as_ref().unwrap().ratios, [10, 40]);
        assert_eq!(WriteOptions::from_wire(options.to_wire()), Ok(options));
    }

    #[test]
    fn what_cannot_be_chosen_by_is_refused() {
        let right = || auto(&[], None, Some(100));
        assert!(WriteOptions::from_wire(right()).is_ok());
        for wrong in [
            auto(&[], None, None),
            auto(&[], Some(0.9), Some(1)),
            auto(&[], Some(1.1), None),
            auto(&[], Some(f64::NAN), None),
            auto(&[0, 20], Some(0.9), None),
            auto(&(1..=17).collect::<Vec<_>>(), Some(0.9), None),
            pb::WriteOptions { ratio: 20, ..right() },
            pb::WriteOptions { skip_verification: true, ..right() },
            pb::WriteOptions { bytes: None, ..right() },
        ] {
            assert!(WriteOptions::from_wire(wrong.clone()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_base_is_edited_or_appended_to() {
        let both = pb::WriteOptions { base: "abcd".into(), append_to: "ef01".into(), ..Default::default() };
        assert!(WriteOptions::from_wire(both.clone()).is_err());
        let appended = pb::WriteOptions { base: String::new(), upload: "night-run_1".into(), ..both };
        let options = WriteOptions::from_wire(appended).unwrap();
        assert_eq!(options.base.as_ref().unwrap().id().as_str(), "ef01");
        assert_eq!(WriteOptions::from_wire(options.to_wire()), Ok(options));
        let chosen = pb::WriteOptions { append_to: "ef01".into(), ..auto(&[], Some(0.999), None) };
        assert_eq!(WriteOptions::from_wire(chosen).unwrap_err().field, "auto_ratio");
    }
}
