//! Format of a pack.
//!
//! | bytes | content |
//! |---|---|
//! | for each record: 4 | length of the record, little-endian |
//! | … | the record: a manifest, sealed under the key that it would have as an object of its own |
//! | … | the index, sealed under the pack's key: 52 bytes for each record, sorted by id: id, version, offset, length |
//! | 8 | length of the sealed index, little-endian |
//!
//! *Sealed* means wrapped in a checksummed envelope and then, in an encrypted store, encrypted. Records do not depend
//! on their pack. If the index is damaged, the records are found one after another by their lengths.

use std::ops::Range;

use bytes::Bytes;
use c3_types::DocumentId;

use crate::encryption::data_key::OVERHEAD;
use crate::encryption::ring::Ring;
use crate::manifest::Manifest;
use crate::object::envelope::{PAYLOAD_AT, seal, unseal};
use crate::object::key::{self, ObjectKey};
use crate::object::version::Version;

/// Size of an index entry in bytes.
pub(crate) const ENTRY_BYTES: usize = 32 + 8 + 8 + 4;
/// Size in bytes of the length before each record.
const LENGTH_BYTES: usize = 4;
/// Size in bytes of the trailer, which is the length of the index.
pub(crate) const TRAILER_BYTES: usize = 8;

/// A manifest as a record of a pack.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) id: DocumentId,
    pub(crate) version: Version,
    /// The manifest in an envelope, under the key that it would have as an object of its own. Not encrypted.
    pub(crate) object: Bytes,
}

/// Index entry of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: DocumentId,
    pub(crate) version: Version,
    pub(crate) range: Range<u64>,
}

impl Record {
    /// Encodes a manifest.
    pub(crate) fn new(manifest: &Manifest) -> Self {
        let key = key::manifest(manifest.id, manifest.version);
        let object = seal(&key, &manifest.encode());
        Self { id: manifest.id, version: manifest.version, object }
    }
}

/// Encodes a pack of these records, and encrypts them if the store is encrypted.
pub(crate) fn encode(ring: &Ring, key: &ObjectKey, mut records: Vec<Record>) -> Bytes {
    records.sort_by_key(|record| (record.id, record.version));
    let mut pack = Vec::new();
    let mut index = Vec::with_capacity(records.len() * ENTRY_BYTES);
    for Record { id, version, object } in records {
        let object = ring.seal(object);
        // The length fits 32 bits: only small manifests are put into packs.
        let length = (object.len() as u32).to_le_bytes();
        pack.extend_from_slice(&length);
        index.extend_from_slice(id.as_bytes());
        index.extend_from_slice(&version.to_bits().to_le_bytes());
        index.extend_from_slice(&(pack.len() as u64).to_le_bytes());
        index.extend_from_slice(&length);
        pack.extend_from_slice(&object);
    }
    let index = ring.seal(seal(key, &index));
    pack.extend_from_slice(&index);
    pack.extend_from_slice(&(index.len() as u64).to_le_bytes());
    pack.into()
}

/// Returns the total size in bytes of a pack's index and trailer. `size` is the pack's size; `last` contains at least
/// the trailer.
pub(crate) fn index_and_trailer(size: u64, last: &[u8]) -> Result<u64, String> {
    let trailer = last.last_chunk::<TRAILER_BYTES>().ok_or("it is cut short")?;
    let bytes = u64::from_le_bytes(*trailer).checked_add(TRAILER_BYTES as u64);
    bytes.filter(|&bytes| bytes <= size).ok_or_else(|| "its trailer is invalid".to_owned())
}

/// Decodes a pack's index, whose entries are sorted by id. `size` is the pack's size; `index_and_trailer` contains the
/// end of the pack.
pub(crate) fn index(ring: &Ring, key: &ObjectKey, size: u64, index_and_trailer: &Bytes) -> Result<Vec<Entry>, String> {
    let index = index_and_trailer.slice(..index_and_trailer.len() - TRAILER_BYTES);
    let index = unseal(key, ring.open(index)?)?;
    let records_end = size - index_and_trailer.len() as u64;
    let (entries, rest) = index.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() {
        return Err("its index is cut short".to_owned());
    }
    let entries = entries.iter().map(|entry| {
        let number = |at: usize| {
            u64::from_le_bytes(std::array::from_fn(|i| if at + i < ENTRY_BYTES { entry[at + i] } else { 0 }))
        };
        let (start, length) = (number(40), number(48));
        let end = start.checked_add(length);
        let end = end.filter(|&end| start >= LENGTH_BYTES as u64 && end <= records_end);
        Ok(Entry {
            id: DocumentId::try_from(&entry[..32]).map_err(|invalid| invalid.to_string())?,
            version: Version::from_bits(number(32)),
            range: start..end.ok_or("its index points past the records")?,
        })
    });
    entries.collect()
}

/// Finds the intact records of a pack without using its index. Returns their entries, sorted by id and version.
pub(crate) fn salvage(ring: &Ring, pack: &Bytes) -> Vec<Entry> {
    let (mut entries, mut at) = (Vec::new(), 0);
    while let Some(length) = pack.get(at..).and_then(|rest| rest.first_chunk::<LENGTH_BYTES>()) {
        let start = at + LENGTH_BYTES;
        let end = start + u32::from_le_bytes(*length) as usize;
        if end > pack.len() || end < start + PAYLOAD_AT {
            break;
        }
        // The checksum of the record's envelope covers a key, which is made of the id and version in the payload.
        let envelope = ring.open(pack.slice(start..end)).ok().filter(|envelope| envelope.len() >= PAYLOAD_AT);
        if let Some(envelope) = envelope
            && let Ok(manifest) = Manifest::decode(envelope.slice(PAYLOAD_AT..))
        {
            let key = key::manifest(manifest.id, manifest.version);
            if unseal(&key, envelope).is_ok() {
                let range = start as u64..end as u64;
                entries.push(Entry { id: manifest.id, version: manifest.version, range });
            }
        }
        at = end;
    }
    entries.sort_by_key(|entry| (entry.id, entry.version));
    entries
}

/// Returns the bytes of a pack that contain its first record, if it is intact. They name the data key of the pack.
pub(crate) fn first_record(pack: &[u8]) -> &[u8] {
    pack.get(LENGTH_BYTES..).unwrap_or_default()
}

/// Decrypts all records of a pack; `None` if a part of the pack is damaged.
pub(crate) fn records(ring: &Ring, key: &ObjectKey, pack: &Bytes) -> Option<Vec<Record>> {
    let size = pack.len() as u64;
    let index_start = size - index_and_trailer(size, pack).ok()?;
    let entries = index(ring, key, size, &pack.slice(index_start as usize..)).ok()?;
    let records = entries.iter().map(|entry| {
        let object = ring.open(pack.slice(entry.range.start as usize..entry.range.end as usize)).ok()?;
        unseal(&key::manifest(entry.id, entry.version), object.clone()).ok()?;
        Some(Record { id: entry.id, version: entry.version, object })
    });
    records.collect::<Option<Vec<_>>>().filter(|_| covers(&entries, index_start))
}

/// Returns whether `entries` contain every record of the pack. If so, the index of these entries and the trailer
/// exactly fill the space after the last record.
pub(crate) fn is_complete(pack: &[u8], entries: &[Entry]) -> bool {
    let records_end = entries.iter().map(|entry| entry.range.end).max().unwrap_or(0) as usize;
    let plain = PAYLOAD_AT + entries.len() * ENTRY_BYTES + TRAILER_BYTES;
    [plain, plain + OVERHEAD].contains(&pack.len().saturating_sub(records_end))
}

/// Returns whether the records fill the pack without gaps, from the start to the index, which begins at `index_start`.
pub(crate) fn covers(entries: &[Entry], index_start: u64) -> bool {
    let mut ranges = Vec::from_iter(entries.iter().map(|entry| entry.range.clone()));
    ranges.sort_by_key(|range| range.start);
    let end = ranges.iter().try_fold(0, |end, range| (range.start == end + LENGTH_BYTES as u64).then_some(range.end));
    end == Some(index_start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::ring::tests::{plain, sealed};
    use crate::manifest::tests::manifest;

    fn pack(ring: &Ring, count: u8) -> (ObjectKey, Vec<Record>, Bytes) {
        let key = key::pack(Version::after(Version::NONE));
        let records = (0..count).map(|number| {
            let mut manifest = manifest(&[vec![u32::from(number) + 1]], true);
            manifest.id = DocumentId::of(&[number]);
            manifest.version = Version::after(Version::NONE);
            Record::new(&manifest)
        });
        let records = Vec::from_iter(records);
        let pack = encode(ring, &key, records.clone());
        (key, records, pack)
    }

    #[test]
    fn records_are_found_with_the_index_and_without_it() {
        for ring in [plain(), sealed()] {
            let (key, records, pack) = pack(&ring, 9);
            let size = pack.len() as u64;
            let start = size - index_and_trailer(size, &pack).unwrap();
            let entries = index(&ring, &key, size, &pack.slice(start as usize..)).unwrap();
            assert_eq!(entries, salvage(&ring, &pack));
            assert!(covers(&entries, start) && !covers(&entries[1..], start));
            assert!(is_complete(&pack, &entries) && !is_complete(&pack, &entries[..8]));
            assert!(entries.is_sorted_by_key(|entry| entry.id));
            for record in records {
                let entry = entries.iter().find(|entry| entry.id == record.id).unwrap();
                let object = pack.slice(entry.range.start as usize..entry.range.end as usize);
                assert_eq!((entry.version, ring.open(object)), (record.version, Ok(record.object)));
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_found_and_costs_one_record_at_most() {
        for ring in [plain(), sealed()] {
            let (key, records, pack) = pack(&ring, 3);
            let read = |pack: &Bytes| {
                let size = pack.len() as u64;
                let bytes = index_and_trailer(size, pack)?;
                index(&ring, &key, size, &pack.slice((size - bytes) as usize..))
            };
            for byte in 0..pack.len() {
                let mut flipped = pack.to_vec();
                flipped[byte] ^= 1 << (byte % 8);
                let flipped = Bytes::from(flipped);
                match read(&flipped) {
                    // The flipped bit is in a record, which has its own checksum, or in the length before a record.
                    Ok(entries) => assert_eq!(entries.len(), records.len(), "byte {byte}"),
                    Err(_) => assert_eq!(salvage(&ring, &flipped).len(), records.len(), "byte {byte}"),
                }
            }
            for length in 0..pack.len() {
                assert!(read(&pack.slice(..length)).is_err(), "{length}");
            }
        }
    }
}
