//! Keys and values in Redis. A key is a hash of the keys of a shard's objects. A value has a checksum.
//!
//! | bytes | content |
//! |---|---|
//! | 32 | BLAKE3 of the key and the payload |
//! | rest | payload in protobuf: the windows of the shard; their byte ranges count from the start of the shard |
//!
//! If the store is encrypted, the hash in the key is keyed by the tenant's name key, and the value is encrypted with
//! the tenant's data key. Values are checked like all external input.

use bytes::{BufMut, Bytes, BytesMut};
use c3_types::{TenantId, Window};
use prost::Message;

use crate::encryption::ring::Ring;
use crate::object::key::ShardKeys;
use crate::payload::WindowPayload;
use crate::{Shard, ShardWindow};

/// Prefix of every key of a store without encryption. It contains the version of the format.
const PREFIX: &[u8] = b"c3:shard:1:";
/// Prefix of every key of an encrypted store.
const SEALED_PREFIX: &[u8] = b"c3:sealed:1:";
pub(crate) const CHECKSUM_BYTES: usize = 32;

#[derive(Clone, PartialEq, Message)]
struct Payload {
    #[prost(message, repeated, tag = "1")]
    windows: Vec<WindowPayload>,
}

/// Returns the key of a tenant's shard in Redis.
pub(crate) fn key(ring: &Ring, tenant: &TenantId, keys: &ShardKeys) -> Bytes {
    let mut hasher = blake3::Hasher::new();
    // Keys of the tenant `default` equal those that were written before there were tenants.
    if !tenant.is_default() {
        hasher.update(tenant.as_str().as_bytes()).update(&[0]);
    }
    hasher.update(keys.latents.to_string().as_bytes()).update(&[0]);
    if let Some(corrections) = &keys.corrections {
        hasher.update(corrections.to_string().as_bytes());
    }
    let hash = hasher.finalize();
    match &ring.sealed {
        Some(sealed) => [SEALED_PREFIX, sealed.names.redis_key(hash.as_bytes()).as_bytes()].concat().into(),
        None => [PREFIX, hash.as_bytes()].concat().into(),
    }
}

/// Encodes a shard as the value under `key`.
pub(crate) fn seal(ring: &Ring, key: &[u8], shard: &Shard) -> Bytes {
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
    ring.seal(value.freeze())
}

/// Decodes the value under `key`; `None` if it is invalid, damaged, or was written under another key.
pub(crate) fn unseal(ring: &Ring, key: &[u8], value: Bytes) -> Option<Shard> {
    // A value of an encrypted store is always encrypted, even while the store has plain objects.
    let value = match &ring.sealed {
        Some(sealed) => sealed.open(&value)?,
        None => value,
    };
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
    use crate::encryption::ring::tests::{plain, sealed};
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

    fn key_of(ring: &Ring, number: u32, verified: bool) -> Bytes {
        key(ring, &TenantId::default(), &keys(number, verified))
    }

    proptest! {
        #[test]
        fn a_shard_survives_a_round_trip(tokens in prop::collection::vec(1u32..2000, 0..6), verified: bool) {
            for ring in [plain(), sealed()] {
                let (key, shard) = (key_of(&ring, 1, verified), whole(&tokens, verified));
                let back = unseal(&ring, &key, seal(&ring, &key, &shard));
                prop_assert_eq!(format!("{back:?}"), format!("{:?}", Some(shard)));
            }
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for ring in [plain(), sealed()] {
                prop_assert!(unseal(&ring, b"key", bytes.clone().into()).is_none());
            }
        }
    }

    #[test]
    fn damaged_and_foreign_values_are_refused() {
        for (ring, prefix) in [(plain(), PREFIX), (sealed(), SEALED_PREFIX)] {
            let here = key_of(&ring, 1, true);
            let value = seal(&ring, &here, &whole(&[40], true));
            assert!(unseal(&ring, &here, value.clone()).is_some());
            for other in [key_of(&ring, 2, true), key_of(&ring, 1, false)] {
                assert!(other.starts_with(prefix) && unseal(&ring, &other, value.clone()).is_none());
            }
            // Another tenant, or one whose keys were destroyed and created again.
            assert!(unseal(&sealed(), &here, value.clone()).is_none());
            for bit in 0..8 * value.len() {
                let mut flipped = value.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(unseal(&ring, &here, flipped.into()).is_none(), "bit {bit}");
            }
            for length in 0..value.len() {
                assert!(unseal(&ring, &here, value.slice(..length)).is_none(), "{length}");
            }
        }
    }
}
