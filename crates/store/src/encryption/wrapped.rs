//! Stored form of a key: wrapped, that is encrypted, by the master key.
//!
//! Each key is an object below `meta/keys`, in Protobuf:
//!
//! | field | type | content |
//! |---|---|---|
//! | 1 | `uint32` | version of this format, 1 |
//! | 2 | `string` | id of the master key that wrapped the key |
//! | 3 | `bytes` | the wrapped key |
//!
//! The path of the object, from the root of the store with all tenants, is authenticated with the key. So a key opens
//! nothing if it is copied to another tenant or under another number.

use bytes::Bytes;
use prost::Message;

use crate::encryption::KeyError;
use crate::encryption::master::MasterKeys;
use crate::encryption::secret::Secret;

const FORMAT: u32 = 1;

#[derive(Clone, PartialEq, Message)]
struct WrappedKeyPayload {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(string, tag = "2")]
    master: String,
    #[prost(bytes = "bytes", tag = "3")]
    wrapped: Bytes,
}

/// Wraps a key that will be stored at `path`, with the first master key.
pub(crate) async fn wrap(masters: &MasterKeys, path: &str, secret: &Secret) -> Result<Bytes, KeyError> {
    let master = masters.first().ok_or(KeyError::NoMasterKey)?;
    let wrapped = master.wrap(path, secret).await?;
    let payload = WrappedKeyPayload { format: FORMAT, master: master.id().to_owned(), wrapped: wrapped.into() };
    Ok(payload.encode_to_vec().into())
}

/// Unwraps the key that was stored at `path`, with the master key that wrapped it. Returns the id of that master key
/// too.
pub(crate) async fn unwrap(masters: &MasterKeys, path: &str, stored: Bytes) -> Result<(Secret, String), KeyError> {
    let damaged = || KeyError::Damaged(path.to_owned());
    let payload = WrappedKeyPayload::decode(stored).map_err(|_| damaged())?;
    if payload.format != FORMAT {
        return Err(damaged());
    }
    let Some(master) = masters.get(&payload.master) else {
        return Err(KeyError::WrongMasterKey { wrapped_by: payload.master, given: masters.ids() });
    };
    Ok((master.unwrap(path, &payload.wrapped).await?, payload.master))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masters(bytes: &[u8]) -> MasterKeys {
        MasterKeys::of_secrets(bytes.iter().map(|&byte| Secret::from_bytes(&[byte; 32]).unwrap()))
    }

    #[tokio::test]
    async fn a_key_is_unwrapped_by_its_master_key_at_its_path_only() {
        let secret = Secret::random();
        let stored = wrap(&masters(&[1]), "meta/keys/1", &secret).await.unwrap();
        for given in [&[1][..], &[2, 1]] {
            let (unwrapped, master) = unwrap(&masters(given), "meta/keys/1", stored.clone()).await.unwrap();
            assert_eq!((unwrapped.expose(), master), (secret.expose(), masters(&[1]).ids()));
        }
        let elsewhere = unwrap(&masters(&[1]), "tenants/a/meta/keys/1", stored.clone()).await.unwrap_err();
        assert!(matches!(elsewhere, KeyError::Damaged(_)), "{elsewhere}");
        let wrong = unwrap(&masters(&[2]), "meta/keys/1", stored.clone()).await.unwrap_err().to_string();
        assert!(wrong.contains(&masters(&[1]).ids()) && wrong.contains(&masters(&[2]).ids()), "{wrong}");
        for bit in 0..8 * stored.len() {
            let mut flipped = stored.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unwrap(&masters(&[1]), "meta/keys/1", flipped.into()).await.is_err(), "bit {bit}");
        }
    }
}
