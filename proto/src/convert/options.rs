//! Options of writes, and the names and labels that they contain.

use std::collections::HashMap;

use c3_types::{
    AutoRatio, Base, DocumentName, Expected, Invalid, Labels, LatentCodec, Namespace, PutName, UploadName, WriteOptions,
};

use super::{FromWire, ToWire};
use crate::pb;

impl FromWire<pb::AutoRatio> for AutoRatio {
    fn from_wire(wire: pb::AutoRatio) -> Result<Self, Invalid> {
        Self::new(wire.ratios, wire.fidelity_min, wire.stored_bytes_max)
    }
}

impl ToWire for AutoRatio {
    type Wire = pb::AutoRatio;

    fn to_wire(&self) -> pb::AutoRatio {
        let (fidelity_min, stored_bytes_max) = self.bounds();
        pb::AutoRatio { ratios: self.ratios.clone(), fidelity_min, stored_bytes_max }
    }
}

impl FromWire<pb::WriteOptions> for WriteOptions {
    fn from_wire(wire: pb::WriteOptions) -> Result<Self, Invalid> {
        let options = Self {
            cascade: Some(wire.cascade).filter(|name| !name.is_empty()),
            ratio: Some(wire.ratio).filter(|&ratio| ratio != 0),
            codec: Option::from_wire(wire.codec)?,
            skip_verification: wire.skip_verification,
            margin: wire.margin,
            bytes: wire.bytes,
            auto_ratio: wire.auto_ratio.map(AutoRatio::from_wire).transpose()?,
            ttl_seconds: Some(wire.ttl_seconds).filter(|&seconds| seconds != 0),
            upload: Option::from_wire(wire.upload)?,
            base: Base::from_ids(&wire.base, &wire.append_to)?,
            name: wire.name.map(PutName::from_wire).transpose()?,
            labels: Labels::new(wire.labels)?,
            skip_search: wire.skip_search,
        };
        options.check()?;
        Ok(options)
    }
}

impl ToWire for WriteOptions {
    type Wire = pb::WriteOptions;

    fn to_wire(&self) -> pb::WriteOptions {
        let (base, append_to) = match &self.base {
            Some(Base::Edited(id)) => (id.as_str(), ""),
            Some(Base::Appended(id)) => ("", id.as_str()),
            None => ("", ""),
        };
        pb::WriteOptions {
            cascade: self.cascade.clone().unwrap_or_default(),
            ratio: self.ratio.unwrap_or_default(),
            codec: self.codec.as_ref().map_or(0, LatentCodec::to_wire),
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
            skip_search: self.skip_search,
        }
    }
}

/// Converts an empty name to `None`.
impl FromWire<String> for Option<UploadName> {
    fn from_wire(wire: String) -> Result<Self, Invalid> {
        if wire.is_empty() { Ok(None) } else { wire.parse().map(Some) }
    }
}

/// Converts an empty string to the namespace `default`.
impl FromWire<String> for Namespace {
    fn from_wire(wire: String) -> Result<Self, Invalid> {
        Self::or_default(wire)
    }
}

/// Joins a namespace and a name, which are separate fields of a message. An empty namespace means `default`.
impl FromWire<(String, String)> for DocumentName {
    fn from_wire((namespace, name): (String, String)) -> Result<Self, Invalid> {
        Self::from_parts(namespace, name)
    }
}

impl FromWire<pb::PutName> for PutName {
    fn from_wire(wire: pb::PutName) -> Result<Self, Invalid> {
        let name = DocumentName::from_parts(wire.namespace, wire.name)?.checked_as_new()?;
        Ok(Self { name, expected: Expected::from_token(wire.expected) })
    }
}

impl ToWire for PutName {
    type Wire = pb::PutName;

    fn to_wire(&self) -> pb::PutName {
        pb::PutName {
            namespace: self.name.namespace().to_string(),
            name: self.name.name().to_owned(),
            expected: self.expected.to_token(),
        }
    }
}

impl ToWire for Labels {
    type Wire = HashMap<String, String>;

    fn to_wire(&self) -> HashMap<String, String> {
        self.to_map()
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
    fn candidate_ratios_arrive_sorted_and_survive_the_wire() {
        let options = WriteOptions::from_wire(auto(&[40, 10, 40], Some(0.999), None)).unwrap();
        assert_eq!(options.auto_ratio.as_ref().unwrap().ratios, [10, 40]);
        assert_eq!(WriteOptions::from_wire(options.to_wire()), Ok(options));
    }

    #[test]
    fn contradicting_bounds_of_the_ratio_are_refused() {
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
