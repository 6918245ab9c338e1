//! Registers: mutable values made of immutable objects, changed by compare-and-set. A name is one, and the labels of a
//! document are one.
//!
//! A register has generations, which count from 1; the highest holds its value. A change creates the next generation,
//! and the create succeeds for only one writer. Writers then delete the generations older than the one that they built
//! upon, oldest first.
//!
//! A writer that was suspended may create a generation whose number existed before and was deleted. It detects that
//! after the create: the generation that it built upon is gone, or a higher one does not list its write id as a
//! predecessor. It then deletes its own generation and reports that it lost the race.
//!
//! Every generation has a unique write id and lists those of its predecessors. A token is the hash of the payload, so
//! it never repeats.

pub(crate) mod maintenance;
pub mod names;

use std::collections::BTreeMap;

use bytes::Bytes;
use c3_types::{DocumentId, Invalid, Labels};
use prost::Message;

use crate::object::PutOutcome;
use crate::object::key::{KeyPrefix, ObjectKey};
use crate::object::version::Version;
use crate::{Error, Store};

/// Maximum predecessors in a generation: more than are written while a writer confirms that it won.
const PREDECESSORS_MAX: usize = 16;
/// Hexadecimal digits of a token.
const TOKEN_DIGITS: usize = 32;
/// First generation of a register.
const FIRST: u64 = 1;

/// Value of a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterValue {
    /// Document that a name points at, or that labels belong to.
    pub document: DocumentId,
    /// A version of the document that existed at the write. A tombstone that covers it also deletes this value.
    pub version: Version,
    /// Empty for a name.
    pub labels: Labels,
}

/// A generation of a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    generation: Version,
    write_id: Version,
    /// Write ids of earlier generations, oldest first.
    predecessors: Vec<u64>,
    /// `None` if the value was removed.
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
    /// Builds the generation that follows `from`, or the first one.
    fn after(from: Option<&Self>, value: Option<RegisterValue>) -> Self {
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

    fn encode(&self) -> Vec<u8> {
        let value = self.value.as_ref().map(|RegisterValue { document, version, labels }| ValuePayload {
            document: document.to_bytes(),
            version: version.to_bits(),
            labels: labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        });
        let (write_id, predecessors) = (self.write_id.to_bits(), self.predecessors.clone());
        RegisterPayload { write_id, predecessors, value }.encode_to_vec()
    }

    fn decode(generation: Version, payload: Bytes) -> Result<Self, Invalid> {
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
    /// Returns the highest generation of a register; `None` if there is none.
    pub(crate) async fn register(&self, prefix: &KeyPrefix) -> Result<Option<Register>, Error> {
        let mut is_retry = false;
        loop {
            match self.objects.versions(prefix).await?.pop() {
                Some(newest) => match self.read_register(&newest).await {
                    // A writer replaced it after the listing.
                    Err(Error::Missing { .. }) => {}
                    read => return read.map(Some),
                },
                None if is_retry => return Ok(None),
                // A listing that runs while files are created and deleted may show none of them.
                None => is_retry = true,
            }
        }
    }

    /// Reads a generation of a register.
    pub(crate) async fn read_register(&self, key: &ObjectKey) -> Result<Register, Error> {
        let (payload, _) = self.objects.get(key).await?;
        Register::decode(key.split_version().1, payload).map_err(|invalid| Error::invalid(key, &invalid))
    }

    /// Creates the generation that follows `from`. Returns `None`, and leaves no trace, if another writer was faster.
    pub(crate) async fn compare_and_set(
        &self,
        prefix: &KeyPrefix,
        from: Option<&Register>,
        value: Option<RegisterValue>,
    ) -> Result<Option<Register>, Error> {
        let next = Register::after(from, value);
        let key = prefix.at(next.generation);
        if self.objects.put(&key, &next.encode()).await? == PutOutcome::AlreadyExists {
            return Ok(None);
        }
        if !self.confirm(prefix, from, &next).await? {
            self.objects.delete(&key).await?;
            return Ok(None);
        }
        if let Err(error) = self.remove_older(prefix, from).await {
            // The change is done; the next writer or garbage collection removes them.
            tracing::warn!(%error, prefix = %prefix.path(), "could not remove old generations");
        }
        Ok(Some(next))
    }

    /// Returns whether a new generation continues the current ones, and not deleted ones.
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
            // A winner's predecessor is deleted only after a higher generation was created.
            let newest = self.objects.versions(prefix).await?.pop();
            if newest.is_none_or(|newest| newest.split_version().1 <= next.generation) {
                return Ok(false);
            }
        }
    }

    /// Deletes the generations before `from`.
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
