//! A stored document, as the gateway describes it.

use std::collections::BTreeMap;

use c3_proto::{FromWire, ToWire, pb};
use c3_types::{CascadeName, DocumentId, Invalid, LatentCodec};

/// A stored document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// BLAKE3 of the text.
    pub id: DocumentId,
    /// Size of the text.
    pub bytes: u64,
    /// Text tokens.
    pub tokens: u64,
    /// Latent tokens that stand for them.
    pub latents: u64,
    /// Text tokens a latent that were asked for; 0 where its shards have ratios of their own.
    pub ratio: u32,
    /// How the latents are written.
    pub codec: LatentCodec,
    /// What the decoder made of the latents; `None` where nobody looked.
    pub verification: Option<Verification>,
    /// The model.
    pub cascade: CascadeName,
    /// Runs of text that were compressed one by one.
    pub shards: u64,
    /// Latent groups.
    pub windows: u64,
    /// Manifest, latents and corrections.
    pub stored_bytes: u64,
    /// When it was stored, milliseconds since 1970.
    pub created_unix_ms: u64,
    /// From when on it is not found, milliseconds since 1970; `None`: it stays.
    pub expires_unix_ms: Option<u64>,
    /// What was noted of it, where the gateway was asked for that: by a stat or a list.
    pub labels: BTreeMap<String, String>,
    /// Where a list was by names: those in its namespace that it was found by.
    pub names: Vec<String>,
}

/// What the decoder made of a document's latents when it was stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// Tokens that it writes right without help.
    pub tokens_right: u64,
    /// Tokens that it is told.
    pub corrections: u64,
    /// Logits by which a token had to win to need no correction.
    pub margin: f32,
    /// Order and precision in which that decoder computes.
    pub arithmetic: String,
}

impl Document {
    /// Share of the tokens that the decoder writes right without help; `None` where nobody looked.
    pub fn fidelity(&self) -> Option<f64> {
        let right = self.verification.as_ref()?.tokens_right;
        Some(if self.tokens == 0 { 1.0 } else { right as f64 / self.tokens as f64 })
    }

    /// Checks what arrived.
    pub fn from_wire(wire: pb::Document) -> Result<Self, Invalid> {
        let codec = Option::from_wire(wire.codec)?;
        let cascade = wire.cascade.ok_or_else(|| Invalid::new("document.cascade", "must be given"))?;
        Ok(Self {
            id: DocumentId::try_from(wire.id.as_ref())?,
            bytes: wire.bytes,
            tokens: wire.tokens,
            latents: wire.latents,
            ratio: wire.ratio,
            codec: codec.ok_or_else(|| Invalid::new("document.codec", "must be given"))?,
            verification: wire.verified.then_some(Verification {
                tokens_right: wire.tokens_right,
                corrections: wire.corrections,
                margin: wire.margin,
                arithmetic: wire.arithmetic,
            }),
            cascade: CascadeName::from_wire(cascade)?,
            shards: wire.shards,
            windows: wire.windows,
            stored_bytes: wire.stored_bytes,
            created_unix_ms: wire.created_unix_ms,
            expires_unix_ms: wire.expires_unix_ms,
            labels: wire.labels.into_iter().collect(),
            names: wire.names,
        })
    }

    /// The document as it travels.
    pub fn to_wire(&self) -> pb::Document {
        let mut wire = pb::Document {
            id: self.id.to_wire(),
            bytes: self.bytes,
            tokens: self.tokens,
            latents: self.latents,
            ratio: self.ratio,
            codec: self.codec.to_wire(),
            cascade: Some(self.cascade.to_wire()),
            shards: self.shards,
            windows: self.windows,
            stored_bytes: self.stored_bytes,
            created_unix_ms: self.created_unix_ms,
            expires_unix_ms: self.expires_unix_ms,
            labels: self.labels.clone().into_iter().collect(),
            names: self.names.clone(),
            ..Default::default()
        };
        if let Some(verification) = &self.verification {
            wire.verified = true;
            wire.tokens_right = verification.tokens_right;
            wire.corrections = verification.corrections;
            wire.margin = verification.margin;
            wire.arithmetic = verification.arithmetic.clone();
        }
        wire
    }
}

#[cfg(test)]
mod tests {
    use c3_types::Fingerprint;

    use super::*;

    fn document() -> Document {
        let verification =
            Verification { tokens_right: 39, corrections: 2, margin: 2.0, arithmetic: "f32".to_owned() };
        Document {
            id: DocumentId::of(b"text"),
            bytes: 4,
            tokens: 40,
            latents: 2,
            ratio: 20,
            codec: LatentCodec::Q4_0,
            verification: Some(verification),
            cascade: CascadeName {
                name: "c3-mini".to_owned(),
                compressor: Fingerprint::of(b"compressor"),
                decoder: Fingerprint::of(b"decoder"),
            },
            shards: 1,
            windows: 1,
            stored_bytes: 1000,
            created_unix_ms: 1,
            expires_unix_ms: Some(2),
            labels: BTreeMap::from([("lang".to_owned(), "de".to_owned())]),
            names: vec!["book".to_owned()],
        }
    }

    #[test]
    fn a_document_survives_the_wire() {
        let unverified = Document { verification: None, ..document() };
        for document in [document(), unverified] {
            assert_eq!(Document::from_wire(document.to_wire()), Ok(document));
        }
    }

    #[test]
    fn fidelity_is_a_share_where_somebody_looked() {
        assert_eq!(document().fidelity(), Some(39.0 / 40.0));
        assert_eq!(Document { verification: None, ..document() }.fidelity(), None);
        let empty = Verification { tokens_right: 0, ..document().verification.unwrap() };
        assert_eq!(Document { tokens: 0, verification: Some(empty), ..document() }.fidelity(), Some(1.0));
    }
}
