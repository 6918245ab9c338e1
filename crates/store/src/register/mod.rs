//! Registers: mutable values made of immutable objects, changed by compare-and-set. Each name is a register, and the
//! labels of each document are a register.
//!
//! A register has generations, which are objects and count from 1. The highest one contains the current value. A writer
//! reads the highest generation and creates the next one; only one writer's create succeeds. That writer then deletes
//! all generations before the one that it read, oldest first.
//!
//! A writer that was suspended after its read may create a generation whose number was used before: that generation was
//! deleted meanwhile. So every writer checks, after its create, that it won. If a higher generation exists, that one
//! must list the writer's write id as a predecessor. If none exists, the generation that the writer read must still
//! exist. A writer whose check fails has lost the race, and deletes its generation.
//!
//! Every generation has a unique write id, and lists the write ids of its predecessors. The token by which callers
//! refer to a generation is a hash of its payload, so no token is ever reused.

pub(crate) mod maintenance;
pub mod names;

use std::collections::BTreeMap;

use bytes::Bytes;
use c3_types::{DocumentId, Invalid, Labels};
use prost::Message;

use crate::object::key::{KeyPrefix, ObjectKey};
use crate::object::version::Version;
use crate::object::{PutOutcome, Space};
use crate::{Error, Store};

/// Maximum predecessors that a generation lists. It is assumed that at most this many generations follow a writer's own
/// before the writer has checked that it won.
const PREDECESSORS_MAX: usize = 16;
/// Hexadecimal digits of a token.
const TOKEN_DIGITS: usize = 32;
/// Number of the first generation of a register.
const FIRST: u64 = 1;

/// Value of a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterValue {
    /// Document to which a name refers, or to which labels belong.
    pub document: DocumentId,
    /// A version that the document had at the time of the write. A tombstone that deletes this version also deletes the
    /// value.
    pub version: Version,
    /// Labels of the document; empty for a name.
    pub labels: Labels,
}

/// A generation of a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    generation: Version,
    write_id: Version,
    /// Write ids of earlier generations, oldest first.
    predecessors: Vec<u64>,
    /// The value; `None` if it was removed.
    pub value: Option<RegisterValue>,
}

#[derive(Clone, PartialEq, Message)]
struct RegisterPayload {
    #[prost(fixed64, tag = "1")]
    write_id: u64,
    #[prost(fixed64, repeated, tag = "2")]
    predecessors: Vec<u64>,
    #[prost(message, optional, tag = "3")]
    value: Option<ValuePayload>,
}

#[derive(Clone, PartialEq, Message)]
struct ValuePayload {
    #[prost(bytes = "bytes", tag = "1")]
    document: Bytes,
    #[prost(fixed64, tag = "2")]
    version: u64,
    #[prost(btree_map = "string, string", tag = "3")]
    labels: BTreeMap<String, String>,
}

impl Register {
    /// Builds the generation that follows `from`, or the first one if `from` is `None`.
    pub(crate) fn after(from: Option<&Self>, value: Option<RegisterValue>) -> Self {
        let Some(from) = from else {
            let (generation, write_id) = (Version::from_bits(FIRST), Version::after(Version::NONE));
            return Self { generation, write_id, predecessors: Vec::new(), value };
        };
        let predecessors = from.predecessors.iter().copied().chain([from.write_id.to_bits()]);
        let skipped = (from.predecessors.len() + 1).saturating_sub(PREDECESSORS_MAX);
        Self {
            generation: Version::from_bits(from.generation.to_bits() + 1),
            write_id: Version::after(from.write_id),
            predecessors: predecessors.skip(skipped).collect(),
            value,
        }
    }

    /// Returns the token that identifies this generation in a compare-and-set.
    pub fn token(&self) -> String {
        blake3::hash(&self.encode()).to_hex()[..TOKEN_DIGITS].to_owned()
    }

    /// Returns the time of the write, in milliseconds since 1970.
    pub fn changed_unix_ms(&self) -> u64 {
        self.write_id.unix_ms()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let value = self.value.as_ref().map(|RegisterValue { document, version, labels }| ValuePayload {
            document: document.to_bytes(),
            version: version.to_bits(),
            labels: labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        });
        let (write_id, predecessors) = (self.write_id.to_bits(), self.predecessors.clone());
        RegisterPayload { write_id, predecessors, value }.encode_to_vec()
    }

    pub(crate) fn decode(generation: Version, payload: Bytes) -> Result<Self, Invalid> {
        let payload = RegisterPayload::decode(payload);
        let RegisterPayload { write_id, predecessors, value } =
            payload.map_err(|error| Invalid::new("payload", error.to_string()))?;
        let value = value.map(|ValuePayload { document, version, labels }| {
            let (document, version) = (DocumentId::try_from(document.as_ref())?, Version::from_bits(version));
            Ok::<_, Invalid>(RegisterValue { document, version, labels: Labels::new(labels)? })
        });
        Ok(Self { generation, write_id: Version::from_bits(write_id), predecessors, value: value.transpose()? })
    }
}

impl Store {
    /// Returns the highest generation of a register, even if its value was removed; `None` if there is no generation.
    pub(crate) async fn register(&self, prefix: &KeyPrefix) -> Result<Option<Register>, Error> {
        let mut is_retry = false;
        loop {
            match self.objects.versions(prefix).await?.pop() {
                Some(newest) => match self.read_register(&newest).await {
                    // A writer replaced and deleted this generation after the listing.
                    Err(Error::Missing { .. }) => {}
                    read => return read.map(Some),
                },
                None if is_retry => return Ok(None),
                // A listing may miss files that are created and deleted meanwhile, so an empty listing is repeated
                // once.
                None => is_retry = true,
            }
        }
    }

    /// Reads a generation of a register.
    pub(crate) async fn read_register(&self, key: &ObjectKey) -> Result<Register, Error> {
        let (payload, _) = self.objects.get(key).await?;
        Register::decode(key.split_version().1, payload).map_err(|invalid| Error::invalid(key, &invalid))
    }

    /// Creates the generation that follows `from`. Returns `None`, and changes nothing, if another writer was faster.
    pub(crate) async fn compare_and_set(
        &self,
        prefix: &KeyPrefix,
        from: Option<&Register>,
        value: Option<RegisterValue>,
    ) -> Result<Option<Register>, Error> {
        let space = if value.is_some() { Space::Free } else { Space::Reserve };
        let next = Register::after(from, value);
        let key = prefix.at(next.generation);
        if self.objects.put(&key, &next.encode(), space).await? == PutOutcome::AlreadyExists {
            return Ok(None);
        }
        if !self.confirm(prefix, from, &next).await? {
            self.objects.delete(&key).await?;
            return Ok(None);
        }
        if let Err(error) = self.remove_older(prefix, from).await {
            // The change succeeded. The next writer or garbage collection deletes the old generations.
            tracing::warn!(%error, prefix = %prefix.path(), "could not remove old generations");
        }
        Ok(Some(next))
    }

    /// Returns whether `next` won: either a higher generation lists the write id of `next`, or no higher generation
    /// exists and `from`, if given, still exists.
    async fn confirm(&self, prefix: &KeyPrefix, from: Option<&Register>, next: &Register) -> Result<bool, Error> {
        loop {
            let existing = self.objects.versions(prefix).await?;
            let Some(newest) = existing.last() else { return Ok(false) };
            if newest.split_version().1 > next.generation {
                match self.read_register(newest).await {
                    Err(Error::Missing { .. }) => continue,
                    newest => return Ok(newest?.predecessors.contains(&next.write_id.to_bits())),
                }
            }
            let Some(from) = from else { return Ok(true) };
            match self.read_register(&prefix.at(from.generation)).await {
                Err(Error::Missing { .. }) => {}
                previous => return Ok(previous?.write_id == from.write_id),
            }
            // `from` was deleted. If `next` won, another writer created a higher generation before that writer deleted
            // `from`.
            let newest = self.objects.versions(prefix).await?.pop();
            if newest.is_none_or(|newest| newest.split_version().1 <= next.generation) {
                return Ok(false);
            }
        }
    }

    /// Deletes all generations before `from`, oldest first.
    async fn remove_older(&self, prefix: &KeyPrefix, from: Option<&Register>) -> Result<(), Error> {
        let Some(from) = from else { return Ok(()) };
        for older in self.objects.versions(prefix).await? {
            if older.split_version().1 < from.generation {
                self.objects.delete(&older).await?;
            }
        }
        Ok(())
    }
}
