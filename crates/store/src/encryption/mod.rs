//! Encryption at rest. A tenant's *data keys* encrypt its objects, and its *name key* encrypts the names of its
//! objects. Both are stored next to the objects, each *wrapped*, that is encrypted, by the *master key*. The store does
//! not contain the master key.
//!
//! - [`master`]: the master key, from a file, a variable or a key management service ([`kms`]).
//! - [`data_key`]: encrypts bytes. [`name_key`]: encrypts parts of paths.
//! - [`ring`]: loads, creates and watches the keys of a tenant. [`wrapped`]: the format in which they are stored.
//!
//! Secrets are erased from memory when they are dropped, and `Debug` does not print them.

pub(crate) mod data_key;
mod kms;
pub(crate) mod master;
pub(crate) mod name_key;
pub(crate) mod ring;
pub(crate) mod secret;
pub(crate) mod wrapped;

use async_trait::async_trait;

use self::secret::Secret;

/// A key that wraps other keys.
#[async_trait]
pub(crate) trait MasterKey: Send + Sync {
    /// Returns an id that names the key in stored objects and messages. It reveals nothing of the key.
    fn id(&self) -> &str;

    /// Encrypts a key. `context` is authenticated with it.
    async fn wrap(&self, context: &str, secret: &Secret) -> Result<Vec<u8>, KeyError>;

    /// Decrypts a key that was wrapped with the same `context`.
    async fn unwrap(&self, context: &str, wrapped: &[u8]) -> Result<Secret, KeyError>;
}

/// Error of loading or using keys. Its message is a single line and contains no secret.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// The store is encrypted, but no master key was given.
    #[error("it is encrypted: give its master key with --master-key")]
    NoMasterKey,
    /// None of the given master keys has wrapped a key.
    #[error("its keys are wrapped by master key {wrapped_by}, but --master-key gives {given}: give {wrapped_by} too")]
    WrongMasterKey {
        /// Id of the master key that wrapped the keys.
        wrapped_by: String,
        /// Ids of the given master keys.
        given: String,
    },
    /// The flag names a master key that cannot be used.
    #[error("--master-key: {0}")]
    MasterKey(String),
    /// A stored key does not decode, or belongs to another tenant.
    #[error("{0} is damaged: restore it from a backup")]
    Damaged(String),
    /// Objects are encrypted with a key that the store does not have.
    #[error("key {0} is missing: restore meta/keys/{0} from a backup")]
    Missing(u32),
    /// The keys were destroyed on purpose.
    #[error("its keys were destroyed (`c3 tenant shred`), so nothing in it can be read")]
    Destroyed,
    /// The key management service failed.
    #[error("the key management service failed: {0}")]
    Kms(String),
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] std::sync::Arc<object_store::Error>),
}

impl From<object_store::Error> for KeyError {
    fn from(error: object_store::Error) -> Self {
        Self::Backend(std::sync::Arc::new(error))
    }
}
