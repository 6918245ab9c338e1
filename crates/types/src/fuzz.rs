//! Fuzz targets: latents files, latent groups, and values that callers type.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use bytes::Bytes;
use c3_fuzz::MemoryBound;

use crate::latents_file::{self, Header, TensorFormat};
use crate::{
    ByteRange, Cascade, Correction, Corrections, Document, DocumentId, DocumentName, DocumentRef, Fingerprint,
    IdPrefix, Label, Labels, LatentCodec, LatentGroup, LatentGroupParts, LineRange, Namespace, Provenance, ShardHash,
    UploadName, Window, WindowHash,
};

fn document() -> Document {
    let (compressor, decoder) = (Fingerprint::of(b"compressor"), Fingerprint::of(b"decoder"));
    Document {
        id: DocumentId::of(b"text"),
        bytes: 400,
        tokens: 160,
        latents: 8,
        ratio: 20,
        codec: LatentCodec::Q4_0,
        verification: None,
        cascade: Cascade::new("c3-mini".to_owned(), compressor, decoder).unwrap(),
        shards: 1,
        windows: 4,
        stored_bytes: 0,
        created_unix_ms: 0,
        expires_unix_ms: None,
        labels: Labels::default(),
        names: Vec::new(),
    }
}

fn window(number: u32) -> Window {
    let provenance = Provenance { compressor: Fingerprint::of(b"compressor"), tokens: 40, ratio: 20 };
    let codec = LatentCodec::ALL[number as usize % 4];
    let corrections = Corrections::new(vec![Correction { position: 3, token: 9 }], 40).unwrap();
    Window {
        shard: 0,
        bytes: u64::from(number) * 100..u64::from(number + 1) * 100,
        group: LatentGroup::encode(&[0.5; 64], 32, codec, provenance).unwrap(),
        hash: WindowHash::of(&number.to_le_bytes()),
        corrections: (number == 0).then_some(corrections),
    }
}

#[test]
fn latents_file() {
    let windows: Vec<_> = (0..4).map(window).collect();
    let formats = [TensorFormat::F32, TensorFormat::Stored];
    let mut seeds = Vec::new();
    for (format, document) in formats.into_iter().zip([None, Some(&document())]) {
        seeds.push(latents_file::write(format, document, &windows).unwrap());
    }
    c3_fuzz::check!("latents_file", MemoryBound::default(), seeds, |file| {
        if let Ok(header) = latents_file::header_bytes(file) {
            // A file is at most as long as its caller sends: nothing is allocated for a length that is only declared.
            let end = (latents_file::LENGTH_BYTES + header).min(file.len());
            if let Ok(header) = Header::parse(&file[latents_file::LENGTH_BYTES..end]) {
                let _ = (header.document(), header.data_bytes(), header.is_in_order());
            }
        }
        if let Ok(latents) = latents_file::read(&Bytes::copy_from_slice(file)) {
            for window in latents.windows {
                assert!(window.group.values().iter().all(|value| value.is_finite()));
            }
        }
    });
}

#[test]
fn latent_group() {
    // 1 byte: the codec. 2 bytes each: latents, width. The rest: data.
    let seed = |codec: u8| {
        let data = LatentCodec::ALL[usize::from(codec)].encode(&[-1.5; 128]);
        [&[codec, 2, 0, 64, 0], &data[..]].concat()
    };
    c3_fuzz::check!("latent_group", MemoryBound::default(), (0..4).map(seed).collect(), |input| {
        let [codec, l0, l1, w0, w1, data @ ..] = input else { return };
        let parts = LatentGroupParts {
            latents: u16::from_le_bytes([*l0, *l1]).into(),
            width: u16::from_le_bytes([*w0, *w1]).into(),
            codec: LatentCodec::ALL[usize::from(*codec % 4)],
            data: Bytes::copy_from_slice(data),
            checksum: Bytes::copy_from_slice(blake3::hash(data).as_bytes()),
            provenance: Provenance { compressor: Fingerprint::of(b"compressor"), tokens: 40, ratio: 20 },
        };
        let values = (parts.latents * parts.width) as usize;
        if let Ok(group) = LatentGroup::new(parts) {
            assert_eq!(group.values().len(), values);
            assert!(group.values().iter().all(|value| value.is_finite()));
        }
    });
}

/// Parses a value, and checks that it parses as displayed.
fn parse<T: FromStr + Display + PartialEq + Debug>(typed: &str) {
    if let Ok(value) = typed.parse::<T>() {
        assert_eq!(value.to_string().parse().ok(), Some(value), "{typed:?}");
    }
}

#[test]
fn typed_values() {
    let id = DocumentId::of(b"text").to_string();
    let seeds =
        ["@team/notes/a.txt", "@書/x", "key=value", "1..2", "3..", "..", "q4_0", "night-run_1", "{\"a\":\"b\"}", &id];
    let seeds = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    c3_fuzz::check!("typed_values", MemoryBound::default(), seeds, |input| {
        let typed = String::from_utf8_lossy(input);
        parse::<ByteRange>(&typed);
        parse::<LineRange>(&typed);
        parse::<LatentCodec>(&typed);
        parse::<DocumentId>(&typed);
        parse::<ShardHash>(&typed);
        parse::<Fingerprint>(&typed);
        parse::<DocumentName>(&typed);
        parse::<DocumentRef>(&typed);
        parse::<Namespace>(&typed);
        parse::<UploadName>(&typed);
        let _ = (typed.parse::<IdPrefix>(), typed.parse::<Label>());
        if let Ok(labels) = serde_json::from_str::<Labels>(&typed) {
            assert_eq!(Labels::new(labels.to_map()), Ok(labels));
        }
        if let Ok(range) = typed.parse::<ByteRange>() {
            for bytes in [0, 1, 100, u64::MAX] {
                assert!(range.within(bytes).is_ok_and(|range| range.end <= bytes) || range.within(bytes).is_err());
            }
        }
    });
}
