//! A window of text as latents, with what proves its text.

use crate::{ByteRange, Corrections, Invalid, LatentGroup, WindowHash, pb};

/// A window of a document as latents, with what proves its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Number of its shard in the document.
    pub shard: u32,
    /// First byte in the document and the byte after the last.
    pub bytes: std::ops::Range<u64>,
    /// What the compressor made of it.
    pub group: LatentGroup,
    /// Hash of its bytes.
    pub hash: WindowHash,
    /// What the decoder needs to be told; `None` where nobody verified it.
    pub corrections: Option<Corrections>,
}

impl Window {
    /// Checks what arrived.
    pub fn from_wire(wire: pb::WindowLatents) -> Result<Self, Invalid> {
        ByteRange::new(Some(wire.start), Some(wire.end))?;
        let group = wire.group.ok_or_else(|| Invalid::new("window.group", "must be given"))?;
        let group = LatentGroup::from_wire(group)?;
        let corrections = wire.corrections.as_ref();
        let corrections = corrections.map(|c| Corrections::from_wire(c, group.tokens()));
        Ok(Self {
            shard: wire.shard,
            bytes: wire.start..wire.end,
            hash: WindowHash::try_from(wire.hash.as_ref())?,
            corrections: corrections.transpose()?,
            group,
        })
    }

    /// The window as it travels.
    pub fn to_wire(&self) -> pb::WindowLatents {
        pb::WindowLatents {
            shard: self.shard,
            start: self.bytes.start,
            end: self.bytes.end,
            group: Some(self.group.to_wire()),
            hash: self.hash.to_wire(),
            corrections: self.corrections.as_ref().map(Corrections::to_wire),
        }
    }
}
