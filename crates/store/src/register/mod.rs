//! Cells: what changes, made of objects that never do. A name is one, and a document's labels are one.
//!
//! A cell's generations count from 1, and its highest is what it holds. A change writes the next one, which only one
//! writer can: whoever finds it there was too late. Older generations are removed by writers, in rising order, but for the
//! one before the newest. So a writer that slept, and made a generation that had been there and was removed, finds the one
//! that it built upon gone, or a higher one that does not follow its own; it takes its own back and was too late.
//!
//! A generation bears a stamp and those of the generations before it. A token is the hash of all that: it comes once.

pub mod maintenance;
pub mod names;

use c3_types::{DocumentId, Invalid, Labels};
use prost::Message;
use std::collections::BTreeMap;

use crate::Error;
use crate::Store;
use crate::object::PutOutcome;
use crate::object::key::{KeyPrefix, ObjectKey, ObjectKind};
use crate::object::version::Version;

/// Generations before it that a generation tells of: more than are made while a writer looks whether it was the one.
const BEFORE_MAX: usize = 16;
/// Digits of a token.
const TOKEN_DIGITS: usize = 32;
/// The generation that an empty cell gets first.
const FIRST: u64 = 1;

/// What a cell holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The document that it is about.
    pub document: DocumentId,
    /// A version of the document that was there when this was written. A tombstone over it is one over this.
    pub version: Version,
    /// None in a name.
    pub labels: Labels,
}

/// A generation of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    pub generation: Version,
    pub stamp: Version,
    /// Stamps of the generations before it, oldest first.
    before: Vec<u64>,
    /// `None`: what it held was taken away.
    pub state: Option<State>,
}

#[derive(Clone, PartialEq, Message)]
struct RegisterPayload {
    #[prost(fixed64, tag = "1")]
    stamp: u64,
    #[prost(fixed64, repeated, tag = "2")]
    before: Vec<u64>,
    #[prost(message, optional, tag = "3")]
    state: Option<StatePayload>,
}

#[derive(Clone, PartialEq, Message)]
struct StatePayload {
    #[prost(bytes = "bytes", tag = "1")]
    document: bytes::Bytes,
    #[prost(fixed64, tag = "2")]
    version: u64,
    #[prost(btree_map = "string, string", tag = "3")]
    labels: BTreeMap<String, String>,
}

impl Register {
    /// What follows `from`, or the first generation.
    fn after(from: Option<&Self>, state: Option<State>) -> Self {
        let Some(from) = from else {
            let (generation, stamp) = (Version::from_bits(FIRST), Version::after(Version::NONE));
            return Self { generation, stamp, before: Vec::new(), state };
        };
        let before = from.before.iter().copied().chain([from.stamp.to_bits()]);
        let skipped = (from.before.len() + 1).saturating_sub(BEFORE_MAX);
        Self {
            generation: Version::from_bits(from.generation.to_bits() + 1),
            stamp: Version::after(from.stamp),
            before: before.skip(skipped).collect(),
            state,
        }
    }

    /// What tells this generation from all others.
    pub fn token(&self) -> String {
        blake3::hash(&self.encode()).to_hex()[..TOKEN_DIGITS].to_owned()
    }

    fn encode(&self) -> Vec<u8> {
        let state = self.state.as_ref().map(|State { document, version, labels }| StatePayload {
            document: document.to_bytes(),
            version: version.to_bits(),
            labels: labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        });
        RegisterPayload { stamp: self.stamp.to_bits(), before: self.before.clone(), state }.encode_to_vec()
    }

    fn decode(generation: Version, payload: bytes::Bytes) -> Result<Self, Invalid> {
        let payload = RegisterPayload::decode(payload);
        let RegisterPayload { stamp, before, state } =
            payload.map_err(|error| Invalid::new("payload", error.to_string()))?;
        let state = state.map(|StatePayload { document, version, labels }| {
            let (document, version) = (DocumentId::try_from(document.as_ref())?, Version::from_bits(version));
            Ok::<_, Invalid>(State { document, version, labels: Labels::new(labels)? })
        });
        Ok(Self { generation, stamp: Version::from_bits(stamp), before, state: state.transpose()? })
    }
}

impl Store {
    /// What a cell holds now; `None` where it has no generation.
    pub async fn register(&self, kind: ObjectKind, family: &KeyPrefix) -> Result<Option<Register>, Error> {
        let mut looked = false;
        loop {
            match self.objects.generations(family).await?.pop() {
                Some(newest) => match self.read_register(kind, &newest).await {
                    // Others were made since.
                    Err(Error::Missing { .. }) => {}
                    read => return read.map(Some),
                },
                None if looked => return Ok(None),
                // A folder that is read while files come and go may show none of them.
                None => looked = true,
            }
        }
    }

    /// A generation of a cell.
    pub async fn read_register(&self, kind: ObjectKind, name: &ObjectKey) -> Result<Register, Error> {
        let (payload, _) = self.objects.get(kind, name).await?;
        Register::decode(name.split_version().1, payload).map_err(|invalid| Error::invalid(name, &invalid))
    }

    /// Makes the generation that follows `from`: `None` where another was made, and this is none.
    pub async fn compare_and_set(
        &self,
        kind: ObjectKind,
        family: &KeyPrefix,
        from: Option<&Register>,
        state: Option<State>,
    ) -> Result<Option<Register>, Error> {
        let next = Register::after(from, state);
        let name = family.at(next.generation);
        if self.objects.put(kind, &name, &next.encode()).await? == PutOutcome::AlreadyExists {
            return Ok(None);
        }
        if !self.follows(kind, family, from, &next).await? {
            self.objects.delete(&name).await?;
            return Ok(None);
        }
        if let Err(error) = self.drop_older(family, from).await {
            // It is made in any case; the next writer or a sweep removes them.
            tracing::warn!(%error, "old generations of {family:?} stay");
        }
        Ok(Some(next))
    }

    /// Whether a generation that was just written follows `from`, and not what is long gone.
    async fn follows(
        &self,
        kind: ObjectKind,
        family: &KeyPrefix,
        from: Option<&Register>,
        next: &Register,
    ) -> Result<bool, Error> {
        loop {
            let there = self.objects.generations(family).await?;
            let Some(newest) = there.last() else { return Ok(false) };
            if newest.split_version().1 > next.generation {
                match self.read_register(kind, newest).await {
                    Err(Error::Missing { .. }) => continue,
                    newest => return Ok(newest?.before.contains(&next.stamp.to_bits())),
                }
            }
            let Some(from) = from else { return Ok(true) };
            match self.read_register(kind, &family.at(from.generation)).await {
                Err(Error::Missing { .. }) => {}
                before => return Ok(before?.stamp == from.stamp),
            }
            // It goes when another follows this one, which is there then.
            let newest = self.objects.generations(family).await?.pop();
            if newest.is_none_or(|newest| newest.split_version().1 <= next.generation) {
                return Ok(false);
            }
        }
    }

    /// Removes what came before `from`.
    async fn drop_older(&self, family: &KeyPrefix, from: Option<&Register>) -> Result<(), Error> {
        let Some(from) = from else { return Ok(()) };
        for older in self.objects.generations(family).await? {
            if older.split_version().1 < from.generation {
                self.objects.delete(&older).await?;
            }
        }
        Ok(())
    }
}
