//! Fuzz targets: stored objects and values of Redis. Payloads are decoded without their envelope too, since a checksum
//! would refuse nearly all inputs.

use std::sync::LazyLock;

use bytes::Bytes;
use c3_fuzz::MemoryBound;
use c3_types::{DocumentId, TenantId};

use crate::cache::value;
use crate::encryption::ring::Ring;
use crate::encryption::ring::tests::{plain, sealed as encrypted};
use crate::gc::pending_deletes;
use crate::manifest::{self, Manifest};
use crate::object::envelope::{self, PAYLOAD_AT};
use crate::object::key::{self, ObjectKey};
use crate::object::version::Version;
use crate::pack::format::{self, Record};
use crate::register::Register;
use crate::shard::{self, Digest, ShardCorrections, ShardLatents};
use crate::upload_session::UploadSession;

fn manifest() -> Manifest {
    manifest::tests::manifest(&[vec![10, 20], vec![30]], true)
}

fn manifest_key() -> ObjectKey {
    key::manifest(DocumentId::of(b"text"), Version::NONE)
}

#[test]
fn envelope() {
    let seeds = [&b""[..], b"payload"].map(|payload| envelope::seal(&manifest_key(), payload).to_vec());
    c3_fuzz::check!("envelope", MemoryBound::default(), seeds.to_vec(), |object| {
        let payload = envelope::unseal(&manifest_key(), Bytes::copy_from_slice(object));
        if let Ok(payload) = payload {
            assert_eq!(payload, object[PAYLOAD_AT..]);
        }
    });
}

#[test]
fn stored_manifest() {
    let shard = shard::tests::shard(&[40, 7]);
    let corrections = shard::tests::corrections(&shard).into_encoded();
    let inline = manifest::ShardEntry::inline(manifest().shards[0].hash, &shard.into_encoded(), Some(&corrections));
    let seeds = [manifest(), Manifest { shards: vec![inline], ..manifest() }];
    let seeds = seeds.iter().map(|manifest| manifest.encode().to_vec()).collect();
    // An empty shard takes 34 bytes in the payload, for its hash, and some hundred bytes in memory.
    let bound = MemoryBound { factor: 128, ..MemoryBound::default() };
    c3_fuzz::check!("stored_manifest", bound, seeds, |payload| {
        let Ok(manifest) = Manifest::decode(Bytes::copy_from_slice(payload)) else { return };
        assert_eq!(Manifest::decode(manifest.encode()).unwrap().encode(), manifest.encode());
        let document = manifest.document(payload.len() as u64);
        assert_eq!(document.shards as usize, manifest.shards.len());
        assert_eq!(manifest.bytes(), document.bytes);
        for shard in &manifest.shards {
            let _ = (manifest.inline_shard(shard), shard.bytes_at_rest(), manifest.keys(shard));
        }
    });
}

#[test]
fn stored_pack() {
    let key = key::pack(Version::NONE);
    let records = (0..3).map(|number| Record::new(&Manifest { id: DocumentId::of(&[number]), ..manifest() }));
    let seeds = vec![format::encode(&plain(), &key, records.collect()).to_vec()];
    c3_fuzz::check!("stored_pack", MemoryBound { factor: 128, ..MemoryBound::default() }, seeds, |pack| {
        let (pack, size) = (Bytes::copy_from_slice(pack), pack.len() as u64);
        let intact = |entries: &[format::Entry]| entries.iter().all(|entry| entry.range.end <= size);
        let ring = plain();
        assert!(intact(&format::salvage(&ring, &pack)));
        if let Ok(bytes) = format::index_and_trailer(size, &pack) {
            let start = size - bytes;
            let index = pack.slice(start as usize..);
            if let Ok(entries) = format::index(&ring, &key::pack(Version::NONE), size, &index) {
                assert!(intact(&entries));
                format::covers(&entries, start);
            }
        }
    });
}

/// The latents to which fuzzed corrections belong.
fn latents() -> (ShardLatents, Digest) {
    let encoded = shard::tests::shard(&[40, 7, 2000]).into_encoded();
    (encoded.value, shard::digest(&encoded.payload))
}

#[test]
fn stored_shard() {
    let (latents, _) = latents();
    let corrections = shard::tests::corrections(&latents).into_encoded().payload;
    let seeds = vec![corrections.to_vec(), latents.into_encoded().payload.to_vec()];
    c3_fuzz::check!("stored_shard", MemoryBound { factor: 256, constant: 1 << 20 }, seeds, |payload| {
        let payload = Bytes::copy_from_slice(payload);
        if let Ok(latents) = ShardLatents::decode(payload.clone()) {
            latents.counts();
        }
        let (latents, digest) = self::latents();
        if let Ok(corrections) = ShardCorrections::decode(payload, &latents, digest) {
            let (right, count) = corrections.counts();
            assert!(right <= 2047 && count <= 2047, "{right} tokens are right, {count} are corrected");
            corrections.exact_windows();
        }
    });
}

#[test]
fn stored_records() {
    let session = UploadSession { name: "upload".parse().unwrap(), options: "o".into(), manifest: manifest() };
    let (document, version) = (DocumentId::of(b"text"), Version::NONE);
    let labels = c3_types::Labels::new([("lang".to_owned(), "de".to_owned())]).unwrap();
    let register = Register::after(None, Some(crate::register::RegisterValue { document, version, labels }));
    let list = pending_deletes::encode(&[manifest_key()]);
    let seeds = vec![session.encode(), register.encode(), list];
    c3_fuzz::check!("stored_records", MemoryBound { factor: 128, ..MemoryBound::default() }, seeds, |payload| {
        let payload = Bytes::copy_from_slice(payload);
        if let Ok(session) = UploadSession::decode(&manifest_key(), payload.clone()) {
            assert_eq!(UploadSession::decode(&manifest_key(), session.encode().into()).unwrap().name, session.name);
        }
        if let Ok(register) = Register::decode(Version::NONE, payload.clone()) {
            assert_eq!(register.token().len(), 32);
        }
        let _ = pending_deletes::decode(payload);
    });
}

#[test]
fn redis_value() {
    let ring = plain();
    let key = value::key(&ring, &TenantId::default(), &value::tests::keys(1, true));
    // The checksum would refuse nearly all mutations, so the target adds the right one.
    let sealed = |tokens: &[u32]| {
        let value = value::seal(&ring, &key, &value::tests::whole(tokens, true));
        value[value::CHECKSUM_BYTES..].to_vec()
    };
    let seeds = vec![sealed(&[40]), sealed(&[40, 7])];
    c3_fuzz::check!("redis_value", MemoryBound { factor: 256, ..MemoryBound::default() }, seeds, |payload| {
        let (ring, checksum) = (plain(), value::checksum(b"key", payload));
        let sealed = Bytes::from([checksum.as_bytes(), payload].concat());
        if let Some(shard) = value::unseal(&ring, b"key", sealed.clone()) {
            shard.weight();
        }
        assert!(value::unseal(&ring, b"other key", sealed).is_none());
    });
}

#[test]
fn object_key() {
    let seeds = vec![manifest_key().to_string().into_bytes(), key::pack(Version::NONE).to_string().into_bytes()];
    c3_fuzz::check!("object_key", MemoryBound::default(), seeds, |path| {
        let path = object_store::path::Path::from(String::from_utf8_lossy(path).as_ref());
        let _ = key::parse_version(&path);
        let _ = (key::parse_document(&path), key::parse_name(&path));
    });
}

#[test]
fn encrypted_object() {
    static RING: LazyLock<Ring> = LazyLock::new(encrypted);
    let seeds = vec![RING.seal(envelope::seal(&manifest_key(), b"payload")).to_vec()];
    c3_fuzz::check!("encrypted_object", MemoryBound::default(), seeds, |object| {
        // A mutation of an encrypted object opens only if it no longer begins like one.
        if let Ok(opened) = RING.open(Bytes::copy_from_slice(object)) {
            assert!(opened == object || envelope::unseal(&manifest_key(), opened).unwrap() == "payload");
        }
    });
}
