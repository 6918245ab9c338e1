//! Payloads of the two objects of a shard, which is a part of a document: its latents, and the corrections with which a
//! decoder restores the exact text.
//!
//! Both are protobuf. Neither contains the text: latents have only a hash of each window's text, and corrections only
//! the tokens that the decoder predicts wrongly or with too small a margin. The sketches for search stand with the
//! corrections, since both are computed from the text, after the latents: so both appear and vanish together.

mod corrections_codec;
mod objects;

use bytes::Bytes;
use c3_types::{Invalid, Window, WindowCorrections, WindowLatents};
use prost::Message;

pub use self::objects::{StoredCorrections, StoredLatents};
use crate::payload::{PlainCorrectionsPayload, WindowPayload};

/// Latents of a shard: the content of a latents object.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardLatents {
    /// Consecutive windows that cover the shard.
    pub windows: Vec<WindowLatents>,
}

/// Corrections of a shard: the content of a corrections object.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardCorrections {
    /// Digest of the payload of the latents to which the corrections belong.
    pub latents: Digest,
    /// Corrections of each window of the latents, in the same order.
    pub windows: Vec<WindowCorrections>,
    /// Search sketches of the windows.
    pub sketches: Sketches,
}

/// Search sketches of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketches {
    /// Id of the secret with which terms were hashed. Sketches of another secret are useless.
    pub secret: u32,
    /// Sketch of each window, in the order of the windows, as `c3-search` encodes it. Empty if the shard has none.
    pub windows: Vec<Bytes>,
}

/// A value with its encoding. The value is encoded only once, for its digest, its size and its object.
#[derive(Clone, Debug)]
pub struct Encoded<T> {
    /// The value.
    pub value: T,
    /// The encoded value.
    pub payload: Bytes,
}

/// BLAKE3 hash of a payload.
pub type Digest = [u8; 32];

/// Returns the digest of a payload.
pub fn digest(payload: &[u8]) -> Digest {
    *blake3::hash(payload).as_bytes()
}

#[derive(Clone, PartialEq, Message)]
struct LatentsPayload {
    /// Windows. Their byte ranges count from the start of the shard.
    #[prost(message, repeated, tag = "1")]
    windows: Vec<WindowPayload>,
}

/// Format 1 has `windows`, format 2 has `coded`. An object has exactly one of them.
#[derive(Clone, PartialEq, Message)]
struct CorrectionsPayload {
    #[prost(bytes = "bytes", tag = "1")]
    latents: Bytes,
    #[prost(message, repeated, tag = "2")]
    windows: Vec<CorrectionsWindow>,
    /// All windows, encoded by [`corrections_codec`].
    #[prost(bytes = "bytes", optional, tag = "3")]
    coded: Option<Bytes>,
    /// A search sketch for each window, or none.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    sketches: Vec<Bytes>,
    #[prost(fixed32, tag = "5")]
    sketch_secret: u32,
}

/// The part of [`CorrectionsPayload`] that search reads.
#[derive(Clone, PartialEq, Message)]
struct SketchesPayload {
    #[prost(bytes = "bytes", repeated, tag = "4")]
    sketches: Vec<Bytes>,
    #[prost(fixed32, tag = "5")]
    sketch_secret: u32,
}

#[derive(Clone, PartialEq, Message)]
struct CorrectionsWindow {
    #[prost(uint32, tag = "1")]
    right: u32,
    #[prost(message, optional, tag = "2")]
    corrections: Option<PlainCorrectionsPayload>,
}

impl ShardLatents {
    /// Encodes the latents as the payload of an object. Returns the latents and the payload.
    pub fn into_encoded(self) -> Encoded<Self> {
        Encoded { payload: self.encode(), value: self }
    }

    fn encode(&self) -> Bytes {
        let windows =
            self.windows.iter().map(|window| WindowPayload::new(&window.bytes, &window.group, window.hash, None));
        LatentsPayload { windows: windows.collect() }.encode_to_vec().into()
    }

    /// Decodes the payload of a latents object, and checks that the windows have no gaps between them.
    pub(crate) fn decode(payload: Bytes) -> Result<Self, Invalid> {
        let payload = LatentsPayload::decode(payload).map_err(not_protobuf)?;
        let mut end = 0;
        let windows = payload.windows.into_iter().map(|payload| {
            let window = Window::try_from(payload)?;
            let too_large = |_| Invalid::new("window.end", "is larger than any shard");
            let bytes = end..u32::try_from(window.bytes.end).map_err(too_large)?;
            if u64::from(end) != window.bytes.start {
                return Err(Invalid::new("window.start", "is not where the previous window ends"));
            }
            end = bytes.end;
            Ok(WindowLatents { bytes, group: window.group, hash: window.hash })
        });
        Ok(Self { windows: windows.collect::<Result<_, _>>()? })
    }

    /// Returns the total numbers of text tokens and of latents.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let groups = self.windows.iter().map(|window| &window.group);
        groups.fold((0, 0), |(tokens, latents), group| {
            (tokens + u64::from(group.tokens()), latents + u64::from(group.latents()))
        })
    }
}

impl Sketches {
    /// Checks that there is a sketch for each of this number of windows, or none.
    fn checked(self, windows: usize) -> Result<Self, Invalid> {
        match self.windows.len() {
            0 => Ok(Self::default()),
            count if count == windows => Ok(self),
            count => Err(Invalid::new("sketches", format!("are {count} for {windows} windows"))),
        }
    }
}

impl ShardCorrections {
    /// Encodes the corrections as the payload of an object. Returns the corrections and the payload.
    pub fn into_encoded(self) -> Encoded<Self> {
        Encoded { payload: self.encode(), value: self }
    }

    fn encode(&self) -> Bytes {
        let (latents, coded) = (Bytes::copy_from_slice(&self.latents), corrections_codec::encode(&self.windows));
        let Sketches { secret: sketch_secret, windows: sketches } = self.sketches.clone();
        let payload = CorrectionsPayload { latents, windows: Vec::new(), coded: Some(coded), sketches, sketch_secret };
        payload.encode_to_vec().into()
    }

    /// Decodes the payload of a corrections object. Fails unless the corrections were made for `latents`. `digest` is
    /// the digest of the latents' payload.
    pub(crate) fn decode(payload: Bytes, latents: &ShardLatents, digest: Digest) -> Result<Self, Invalid> {
        let payload = CorrectionsPayload::decode(payload).map_err(not_protobuf)?;
        let mismatch = || Invalid::new("corrections", "were made for other latents of this shard");
        if payload.latents.as_ref() != digest {
            return Err(mismatch());
        }
        let tokens = latents.windows.iter().map(|window| window.group.tokens());
        let windows = match payload.coded {
            Some(_) if !payload.windows.is_empty() => {
                return Err(Invalid::new("corrections", "are present in two formats"));
            }
            Some(coded) => corrections_codec::decode(&coded, tokens)?,
            None if payload.windows.len() != latents.windows.len() => return Err(mismatch()),
            None => payload.windows.iter().zip(tokens).map(decode_format_1).collect::<Result<_, _>>()?,
        };
        let sketches = Sketches { secret: payload.sketch_secret, windows: payload.sketches }.checked(windows.len())?;
        Ok(Self { latents: digest, windows, sketches })
    }

    /// Decodes only the sketches of a corrections payload with this number of windows. Empty if it has none.
    pub(crate) fn decode_sketches(payload: Bytes, windows: usize) -> Result<Sketches, Invalid> {
        let SketchesPayload { sketches, sketch_secret } = SketchesPayload::decode(payload).map_err(not_protobuf)?;
        Sketches { secret: sketch_secret, windows: sketches }.checked(windows)
    }

    /// Returns the number of windows all of whose tokens are predicted correctly without corrections.
    pub(crate) fn exact_windows(&self) -> u64 {
        self.windows.iter().filter(|window| window.right == window.tokens).count() as u64
    }

    /// Returns the number of tokens predicted correctly without corrections, and the number of corrections.
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.windows.iter().fold((0, 0), |(right, corrections), window| {
            (right + u64::from(window.right), corrections + window.corrections.as_slice().len() as u64)
        })
    }
}

fn decode_format_1((window, tokens): (&CorrectionsWindow, u32)) -> Result<WindowCorrections, Invalid> {
    let corrections = window.corrections.clone().unwrap_or_default();
    let corrections = corrections.decode_for(tokens)?;
    if window.right > tokens {
        return Err(Invalid::new("corrections", format!("count {} right tokens of {tokens}", window.right)));
    }
    Ok(WindowCorrections { tokens, right: window.right, corrections })
}

fn not_protobuf(error: prost::DecodeError) -> Invalid {
    Invalid::new("payload", error.to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    use c3_types::{Correction, Corrections, Fingerprint, LatentCodec, LatentGroup, Provenance, WindowHash};
    use proptest::prelude::*;

    use super::*;

    /// Id of the secret of search in [`corrections`].
    pub(crate) const SECRET: u32 = 7;

    /// Returns a shard of windows with these token counts.
    pub(crate) fn shard(tokens: &[u32]) -> ShardLatents {
        let mut end = 0;
        let windows = tokens.iter().map(|&tokens| {
            let of = Provenance { compressor: Fingerprint::of(b"compressor"), tokens, ratio: 20 };
            let values: Vec<f32> = (0..64).map(|i| (i * tokens) as f32 / 64.0).collect();
            let bytes = end..end + 3 * tokens;
            end = bytes.end;
            let group = LatentGroup::encode(&values, 32, LatentCodec::Q4_0, of).unwrap();
            WindowLatents { bytes, group, hash: WindowHash::of(&tokens.to_le_bytes()) }
        });
        ShardLatents { windows: windows.collect() }
    }

    /// Returns corrections of the first token of every window.
    pub(crate) fn corrections(latents: &ShardLatents) -> ShardCorrections {
        let windows = latents.windows.iter().map(|window| {
            let (tokens, first) = (window.group.tokens(), Correction { position: 0, token: 9 });
            let corrections = Corrections::new(vec![first], tokens).unwrap();
            WindowCorrections { tokens, right: tokens - 1, corrections }
        });
        let sketches = latents.windows.iter().map(|window| Bytes::from(vec![1, window.bytes.start as u8])).collect();
        // Without windows, the secret would not be stored.
        let sketches = match latents.windows.is_empty() {
            true => Sketches::default(),
            false => Sketches { secret: SECRET, windows: sketches },
        };
        ShardCorrections { latents: digest(&latents.encode()), windows: windows.collect(), sketches }
    }

    proptest! {
        #[test]
        fn both_objects_survive_a_round_trip(tokens in prop::collection::vec(1u32..2000, 0..6)) {
            let latents = shard(&tokens);
            let payload = latents.encode();
            let digest = digest(&payload);
            prop_assert_eq!(ShardLatents::decode(payload).unwrap(), latents.clone());
            let corrections = corrections(&latents);
            let read = ShardCorrections::decode(corrections.encode(), &latents, digest).unwrap();
            prop_assert_eq!(&read, &corrections);
            let sketches = ShardCorrections::decode_sketches(corrections.encode(), tokens.len()).unwrap();
            prop_assert_eq!(sketches, corrections.sketches.clone());
            let all: u32 = tokens.iter().sum();
            prop_assert_eq!(latents.counts().0, u64::from(all));
            prop_assert_eq!(corrections.counts(), (u64::from(all) - tokens.len() as u64, tokens.len() as u64));
        }

        #[test]
        fn arbitrary_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = ShardLatents::decode(bytes.clone().into());
            let _ = ShardCorrections::decode(bytes.clone().into(), &shard(&[5]), [0; 32]);
            let _ = ShardCorrections::decode_sketches(bytes.into(), 1);
        }
    }

    #[test]
    fn format_1_of_corrections_stays_readable() {
        let latents = shard(&[40, 7]);
        let corrections = corrections(&latents);
        let windows = corrections
            .windows
            .iter()
            .map(|window| CorrectionsWindow { right: window.right, corrections: Some((&window.corrections).into()) });
        let mut payload = CorrectionsPayload {
            latents: Bytes::copy_from_slice(&corrections.latents),
            windows: windows.collect(),
            coded: None,
            sketches: corrections.sketches.windows.clone(),
            sketch_secret: corrections.sketches.secret,
        };
        let read = |payload: &CorrectionsPayload| {
            ShardCorrections::decode(payload.encode_to_vec().into(), &latents, corrections.latents)
        };
        assert_eq!(read(&payload).unwrap(), corrections);
        payload.coded = Some(corrections_codec::encode(&corrections.windows));
        assert!(read(&payload).unwrap_err().problem.contains("two formats"));
        payload.windows.pop();
        payload.coded = None;
        assert!(read(&payload).is_err());
    }

    #[test]
    fn corrections_of_other_latents_are_refused() {
        let (latents, other) = (shard(&[40, 7]), shard(&[41, 7]));
        let payload = corrections(&latents).encode();
        let problem = ShardCorrections::decode(payload, &other, digest(&other.encode())).unwrap_err();
        assert_eq!(problem.field, "corrections");
    }

    #[test]
    fn gaps_between_windows_are_refused() {
        let mut latents = shard(&[40, 7]);
        latents.windows.remove(0);
        assert_eq!(ShardLatents::decode(latents.encode()).unwrap_err().field, "window.start");
    }
}
