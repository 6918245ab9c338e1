//! Keys and values in Redis. A key is a hash of the keys of a shard's objects. A value has a checksum.
//!
//! | bytes | content |
//! |---|---|
//! | 32 | BLAKE3 of the key and the payload |
//! | rest | payload in protobuf: the windows of the shard; their byte ranges count from the start of the shard |
//!
//! Values are checked like all external input.

use bytes::{BufMut, Bytes, BytesMut};
use c3_types::Window;
use prost::Message;

use crate::object::key::ShardKeys;
use crate::payload::WindowPayload;
use crate::{Shard, ShardWindow};

/// Prefix of every key. It contains the version of the format.
const PREFIX: &[u8] = b"c3:shard:1:";
pub(crate) const CHECKSUM_BYTES: usize = 32;

#[derive(Clone, PartialEq, Message)]
struct Payload {
    #[prost(message, repeated, tag = "1")]
    windows: Vec<WindowPayload>,
}

/// Returns the key of a shard in Redis.
pub(crate) fn key(keys: &ShardKeys) -> Bytes {
    let mut hasher = blake3::Hasher::new();
    hasher.update(keys.latents.to_string().as_bytes()).update(&[0]);
    if let Some(corrections) = &keys.corrections {
        hasher.update(corrections.to_string().as_bytes());
    }
    [PREFIX, hasher.finalize().as_bytes()].concat().into()
}

/// Encodes a shard as the value under `key`.
pub(crate) fn seal(key: &[u8], shard: &Shard) -> Bytes {
    let windows = shard
        .windows
        .iter()
        .map(|window| WindowPayload::new(&window.bytes, &window.group, window.hash, window.corrections.as_ref()));
    let payload = Payload { windows: windows.collect() };
    let mut value = BytesMut::with_capacity(CHECKSUM_BYTES + payload.encoded_len());
    value.put_bytes(0, CHECKSUM_BYTES);
    payload.encode_raw(&mut value);
    let checksum = checksum(key, &value[CHECKSUM_BYTES..]);
    value[..CHECKSUM_BYTES].copy_from_slice(checksum.as_bytes());
    value.freeze()
}

/// Decodes the value under `key`; `None` if it is invalid, damaged, or was written under another key.
pub(crate) fn unseal(key: &[u8], value: &Bytes) -> Option<Shard> {
    let (sum, payload) = (value.get(..CHECKSUM_BYTES)?, value.slice(CHECKSUM_BYTES..));
    if checksum(key, &payload).as_bytes() != sum {
        return None;
    }
    let payload = Payload::decode(payload).ok()?;
    let windows = payload.windows.into_iter().map(|payload| {
        let window = Window::try_from(payload).ok()?;
        Some(ShardWindow {
            bytes: u32::try_from(window.bytes.start).ok()?..u32::try_from(window.bytes.end).ok()?,
            group: window.group,
            hash: window.hash,
            corrections: window.corrections,
        })
    });
    Some(Shard { windows: windows.collect::<Option<_>>()? })
}

pub(crate) fn checksum(key: &[u8], payload: &[u8]) -> blake3::Hash {
    blake3::Hasher::new().update(key).update(payload).finalize()
}

#[cfg(test)]
pub(crate) mod tests {
    use c3_types::{Fingerprint, LatentCodec, ShardHash};
    use proptest::prelude::*;

    use super::*;
    use crate::object::key::{CorrectionSettings, LatentSettings, ShardKeyPrefixes};
    use crate::object::version::Version;
    use crate::shard::tests::{corrections, shard};

    /// Returns key prefixes of a shard that are different for every `number`.
    pub(crate) fn key_prefixes(number: u32, verified: bool) -> ShardKeyPrefixes {
        let latents = LatentSettings { compressor: Fingerprint::of(b"c"), ratio: 20, codec: LatentCodec::Q4_0 };
        let how = CorrectionSettings { decoder: Fingerprint::of(b"d"), arithmetic: "f32".to_owned(), margin: 2.0 };
        let how = verified.then_some(&how);
        ShardKeyPrefixes::new(ShardHash::of(&number.to_le_bytes()), &latents, how, None)
    }

    /// Returns keys of a shard that are different for every `number`.
    pub(crate) fn keys(number: u32, verified: bool) -> ShardKeys {
        let prefixes = key_prefixes(number, verified);
        let corrections = prefixes.corrections.map(|prefix| prefix.at(Version::NONE));
        ShardKeys { latents: prefixes.latents.at(Version::NONE), corrections }
    }

    /// Returns a shard of windows with these token counts.
    pub(crate) fn whole(tokens: &[u32], verified: bool) -> Shard {
        let latents = shard(tokens);
        let corrections = verified.then(|| corrections(&latents).windows);
        Shard::new(latents, corrections)
    }

    proptest! {
        #[test]
        fn a_shard_survives_a_round_trip(tokens in prop::collection::vec(1u32..2000, 0..6), verified: bool) {
            let (key, shard) = (key(&keys(1, verified)), whole(&tokens, verified));
            let back = unseal(&key, &seal(&key, &shard));
            prop_assert_eq!(format!("{back:?}"), format!("{:?}", Some(shard)));
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(unseal(b"key", &bytes.into()).is_none());
        }
    }

    #[test]
    fn damaged_and_foreign_values_are_refused() {
        let key_of = |number, verified| key(&keys(number, verified));
        let (here, value) = (key_of(1, true), seal(&key_of(1, true), &whole(&[40], true)));
        assert!(unseal(&here, &value).is_some());
        for other in [key_of(2, true), key_of(1, false)] {
            assert!(other.starts_with(PREFIX) && unseal(&other, &value).is_none());
        }
        for bit in 0..8 * value.len() {
            let mut flipped = value.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(&here, &flipped.into()).is_none(), "bit {bit}");
        }
        for length in 0..value.len() {
            assert!(unseal(&here, &value.slice(..length)).is_none(), "{length}");
        }
    }
}
