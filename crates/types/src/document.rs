//! Properties of stored documents, the same in the gateway, the clients and `c3`.

use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::{Cascade, DocumentId, Labels, LatentCodec};

/// A stored document.
///
/// Serializes to a flat record. `cascade` is the cascade's name. The fields `verified`, `fidelity`, `corrections`
/// and `exact_windows` take the place of `verification`. In an unverified document, all but the first are null. Expiry,
/// labels and names are omitted if there are none.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// BLAKE3 hash of the text.
    pub id: DocumentId,
    /// Size of the text in bytes.
    pub bytes: u64,
    /// Number of text tokens.
    pub tokens: u64,
    /// Number of latents.
    pub latents: u64,
    /// Ratio: the requested number of text tokens per latent; 0 if the shards have different ratios.
    pub ratio: u32,
    /// Encoding of the latents.
    pub codec: LatentCodec,
    /// Result of the verification; `None` if verification was skipped.
    pub verification: Option<Verification>,
    /// Cascade that made the latents.
    pub cascade: Cascade,
    /// Number of shards, which are the parts of the text that a node compresses as a unit.
    pub shards: u64,
    /// Number of windows, which are parts of shards. Each window has one latent group.
    pub windows: u64,
    /// Bytes of the document's manifest, latents and corrections in the store.
    pub stored_bytes: u64,
    /// Time of the write, as Unix time in milliseconds.
    pub created_unix_ms: u64,
    /// Expiry, as Unix time in milliseconds: from then on, the document is not found. `None`: it never expires.
    pub expires_unix_ms: Option<u64>,
    /// Labels. Empty except in responses of Stat and List, and in the result of a put that sets labels.
    pub labels: Labels,
    /// Names that matched a list's name filter, without the namespace. Empty except in responses of such lists.
    pub names: Vec<String>,
}

/// Result of decoding a document's latents at write time.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// Number of tokens that the decoder predicts correctly on its own. Includes correct tokens that got a correction
    /// because their margin was small.
    pub tokens_right: u64,
    /// Number of corrections: tokens that are forced because the decoder would not reliably predict them.
    pub corrections: u64,
    /// Number of windows that the decoder restores exactly without corrections; `None` for documents of versions that
    /// did not count them.
    pub exact_windows: Option<u64>,
    /// Minimum logit margin of a correct prediction. A token that was predicted with a smaller margin got a correction.
    pub margin: f32,
    /// Name of the arithmetic (exact order and precision of computation) of the decoder that verified the document.
    pub arithmetic: String,
}

impl Document {
    /// Returns the fraction of tokens that the decoder predicts correctly on its own: 1 for a document without tokens,
    /// `None` for an unverified one.
    pub fn fidelity(&self) -> Option<f64> {
        let right = self.verification.as_ref()?.tokens_right;
        Some(if self.tokens == 0 { 1.0 } else { right as f64 / self.tokens as f64 })
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let optional = [self.expires_unix_ms.is_some(), !self.labels.is_empty(), !self.names.is_empty()];
        let fields = 15 + optional.iter().filter(|&&given| given).count();
        let mut record = serializer.serialize_struct("Document", fields)?;
        record.serialize_field("id", &self.id)?;
        record.serialize_field("bytes", &self.bytes)?;
        record.serialize_field("tokens", &self.tokens)?;
        record.serialize_field("latents", &self.latents)?;
        record.serialize_field("ratio", &self.ratio)?;
        record.serialize_field("codec", &self.codec)?;
        record.serialize_field("fidelity", &self.fidelity())?;
        let verification = self.verification.as_ref();
        record.serialize_field("corrections", &verification.map(|verification| verification.corrections))?;
        let exact_windows = verification.and_then(|verification| verification.exact_windows);
        record.serialize_field("exact_windows", &exact_windows)?;
        record.serialize_field("verified", &verification.is_some())?;
        record.serialize_field("cascade", &self.cascade.name)?;
        record.serialize_field("shards", &self.shards)?;
        record.serialize_field("windows", &self.windows)?;
        record.serialize_field("stored_bytes", &self.stored_bytes)?;
        record.serialize_field("created_unix_ms", &self.created_unix_ms)?;
        if let Some(expires) = self.expires_unix_ms {
            record.serialize_field("expires_unix_ms", &expires)?;
        }
        if !self.labels.is_empty() {
            record.serialize_field("labels", &self.labels)?;
        }
        if !self.names.is_empty() {
            record.serialize_field("names", &self.names)?;
        }
        record.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fingerprint;

    fn document(verification: Option<Verification>) -> Document {
        let (compressor, decoder) = (Fingerprint::of(b"compressor"), Fingerprint::of(b"decoder"));
        Document {
            id: DocumentId::of(b"text"),
            bytes: 4,
            tokens: 40,
            latents: 2,
            ratio: 20,
            codec: LatentCodec::Q4_0,
            verification,
            cascade: Cascade::new("c3-mini".to_owned(), compressor, decoder).unwrap(),
            shards: 1,
            windows: 1,
            stored_bytes: 1000,
            created_unix_ms: 1,
            expires_unix_ms: None,
            labels: Labels::new([("lang".to_owned(), "de".to_owned())]).unwrap(),
            names: Vec::new(),
        }
    }

    fn verification(tokens_right: u64) -> Option<Verification> {
        let arithmetic = "f32".to_owned();
        Some(Verification { tokens_right, corrections: 2, exact_windows: Some(0), margin: 2.0, arithmetic })
    }

    #[test]
    fn fidelity_is_a_fraction_where_the_document_was_verified() {
        assert_eq!(document(verification(39)).fidelity(), Some(39.0 / 40.0));
        assert_eq!(document(None).fidelity(), None);
        assert_eq!(Document { tokens: 0, ..document(verification(0)) }.fidelity(), Some(1.0));
    }

    #[test]
    fn a_document_serializes_to_a_flat_record() {
        let json = serde_json::to_value(document(verification(39))).unwrap();
        assert_eq!(json["id"], DocumentId::of(b"text").to_string());
        assert_eq!((&json["codec"], &json["cascade"]), (&"q4_0".into(), &"c3-mini".into()));
        assert_eq!((&json["fidelity"], &json["corrections"]), (&0.975.into(), &2.into()));
        assert_eq!(json["labels"]["lang"], "de");
        assert!(json.get("names").is_none() && json.get("expires_unix_ms").is_none());
        let json = serde_json::to_value(document(None)).unwrap();
        assert!(json["fidelity"].is_null() && json["corrections"].is_null() && json["verified"] == false);
    }
}
