//! Cells: what changes, made of objects that never do. A name is one, and a document's labels are one.
//!
//! A cell's generations count from 1, and its highest is what it holds. A change writes the next one, which only one
//! writer can: whoever finds it there was too late. Older generations are removed by writers, in rising order, but for the
//! one before the newest. So a writer that slept, and made a generation that had been there and was removed, finds the one
//! that it built upon gone, or a higher one that does not follow its own; it takes its own back and was too late.
//!
//! A generation bears a stamp and those of the generations before it. A token is the hash of all that: it comes once.

use c3_proto::{DocumentId, Invalid, Labels};
use prost::Message;
use std::collections::BTreeMap;

use super::layout::{Family, Name, ObjectKind};
use super::objects::{StoreError, Written};
use super::stamp::Stamp;
use super::{Store, damaged};

/// Generations before it that a generation tells of: more than are made while a writer looks whether it was the one.
const BEFORE_MAX: usize = 16;
/// Digits of a token.
const TOKEN_DIGITS: usize = 32;
/// The generation that an empty cell gets first.
const FIRST: u64 = 1;

/// What a cell holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// The document that it is about.
    pub(crate) document: DocumentId,
    /// A version of the document that was there when this was written. A tombstone over it is one over this.
    pub(crate) version: Stamp,
    /// None in a name.
    pub(crate) labels: Labels,
}

/// A generation of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) generation: Stamp,
    pub(crate) stamp: Stamp,
    /// Stamps of the generations before it, oldest first.
    before: Vec<u64>,
    /// `None`: what it held was taken away.
    pub(crate) state: Option<State>,
}

#[derive(Clone, PartialEq, Message)]
struct CellPayload {
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

impl Cell {
    /// What follows `from`, or the first generation.
    fn after(from: Option<&Self>, state: Option<State>) -> Self {
        let Some(from) = from else {
            let (generation, stamp) = (Stamp::from_wire(FIRST), Stamp::after(Stamp::NONE));
            return Self { generation, stamp, before: Vec::new(), state };
        };
        let before = from.before.iter().copied().chain([from.stamp.to_wire()]);
        let skipped = (from.before.len() + 1).saturating_sub(BEFORE_MAX);
        Self {
            generation: Stamp::from_wire(from.generation.to_wire() + 1),
            stamp: Stamp::after(from.stamp),
            before: before.skip(skipped).collect(),
            state,
        }
    }

    /// What tells this generation from all others.
    pub(crate) fn token(&self) -> String {
        blake3::hash(&self.encode()).to_hex()[..TOKEN_DIGITS].to_owned()
    }

    fn encode(&self) -> Vec<u8> {
        let state = self.state.as_ref().map(|State { document, version, labels }| StatePayload {
            document: document.to_wire(),
            version: version.to_wire(),
            labels: labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        });
        CellPayload { stamp: self.stamp.to_wire(), before: self.before.clone(), state }.encode_to_vec()
    }

    fn decode(generation: Stamp, payload: bytes::Bytes) -> Result<Self, Invalid> {
        let payload = CellPayload::decode(payload);
        let CellPayload { stamp, before, state } =
            payload.map_err(|error| Invalid::new("payload", error.to_string()))?;
        let state = state.map(|StatePayload { document, version, labels }| {
            let (document, version) = (DocumentId::try_from(document.as_ref())?, Stamp::from_wire(version));
            Ok::<_, Invalid>(State { document, version, labels: Labels::new(labels)? })
        });
        Ok(Self { generation, stamp: Stamp::from_wire(stamp), before, state: state.transpose()? })
    }
}

impl Store {
    /// What a cell holds now; `None` where it has no generation.
    pub(crate) async fn cell(&self, kind: ObjectKind, family: &Family) -> Result<Option<Cell>, StoreError> {
        let mut looked = false;
        loop {
            match self.objects.generations(family).await?.pop() {
                Some(newest) => match self.read_cell(kind, &newest).await {
                    // Others were made since.
                    Err(StoreError::Missing { .. }) => {}
                    read => return read.map(Some),
                },
                None if looked => return Ok(None),
                // A folder that is read while files come and go may show none of them.
                None => looked = true,
            }
        }
    }

    /// A generation of a cell.
    pub(crate) async fn read_cell(&self, kind: ObjectKind, name: &Name) -> Result<Cell, StoreError> {
        let (payload, _) = self.objects.get(kind, name).await?;
        Cell::decode(name.family().1, payload).map_err(|invalid| damaged(name, &invalid))
    }

    /// Makes the generation that follows `from`: `None` where another was made, and this is none.
    pub(crate) async fn next_cell(
        &self,
        kind: ObjectKind,
        family: &Family,
        from: Option<&Cell>,
        state: Option<State>,
    ) -> Result<Option<Cell>, StoreError> {
        let next = Cell::after(from, state);
        let name = family.at(next.generation);
        if self.objects.put(kind, &name, &next.encode()).await? == Written::Kept {
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
        family: &Family,
        from: Option<&Cell>,
        next: &Cell,
    ) -> Result<bool, StoreError> {
        loop {
            let there = self.objects.generations(family).await?;
            let Some(newest) = there.last() else { return Ok(false) };
            if newest.family().1 > next.generation {
                match self.read_cell(kind, newest).await {
                    Err(StoreError::Missing { .. }) => continue,
                    newest => return Ok(newest?.before.contains(&next.stamp.to_wire())),
                }
            }
            let Some(from) = from else { return Ok(true) };
            match self.read_cell(kind, &family.at(from.generation)).await {
                Err(StoreError::Missing { .. }) => {}
                before => return Ok(before?.stamp == from.stamp),
            }
            // It goes when another follows this one, which is there then.
            let newest = self.objects.generations(family).await?.pop();
            if newest.is_none_or(|newest| newest.family().1 <= next.generation) {
                return Ok(false);
            }
        }
    }

    /// Removes what came before `from`.
    async fn drop_older(&self, family: &Family, from: Option<&Cell>) -> Result<(), StoreError> {
        let Some(from) = from else { return Ok(()) };
        for older in self.objects.generations(family).await? {
            if older.family().1 < from.generation {
                self.objects.delete(&older).await?;
            }
        }
        Ok(())
    }
}
