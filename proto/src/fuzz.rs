//! Fuzz targets: messages of the wire. The first byte of an input chooses the message; the rest is its encoding.

use std::collections::HashMap;
use std::fmt::Debug;

use bytes::Bytes;
use c3_fuzz::MemoryBound;
use c3_types::{
    Cascade, Corrections, DecompressOptions, Description, Document, DocumentId, DocumentLabels, DocumentName,
    DocumentPage, Fingerprint, FsckEvent, FsckMode, LatentCodec, LatentGroup, ListQuery, NamePage, NamedDocument,
    Namespace, Provenance, PutEvent, PutName, ReindexJob, SearchPage, SearchQuery, Stage, SweepSummary, Totals, Upload,
    Window, WindowHash, WriteOptions,
};
use prost::Message;

use crate::{FromWire, ToWire, pb};

/// A kind of message: decodes and converts it.
type Decode = fn(Bytes);

/// Decodes and converts a message that has no conversion back.
fn one_way<M: Message + Default, D: FromWire<M>>(bytes: Bytes) {
    if let Ok(message) = M::decode(bytes) {
        let _ = D::from_wire(message);
    }
}

/// Decodes and converts a message. What was accepted must survive the wire.
fn both_ways<M: Message + Default, D: FromWire<M> + ToWire<Wire = M> + Debug>(bytes: Bytes) {
    let Ok(message) = M::decode(bytes) else { return };
    let Ok(value) = D::from_wire(message) else { return };
    // Compared as text, since a float may be NaN in a response.
    let again = D::from_wire(value.to_wire()).map(|again| format!("{again:?}"));
    assert_eq!(again, Ok(format!("{value:?}")));
}

/// Messages that clients and gateways send.
const REQUESTS: &[Decode] = &[
    both_ways::<pb::WriteOptions, WriteOptions>,
    both_ways::<pb::WindowLatents, Window>,
    both_ways::<pb::ListRequest, ListQuery>,
    both_ways::<pb::Document, Document>,
    both_ways::<pb::DecompressOptions, DecompressOptions>,
    both_ways::<pb::LatentGroup, LatentGroup>,
    both_ways::<pb::CheckRequest, FsckMode>,
    both_ways::<pb::PutName, PutName>,
    both_ways::<pb::SearchRequest, SearchQuery>,
    |bytes| {
        let Ok(pb::SetNameRequest { namespace, name, .. }) = pb::SetNameRequest::decode(bytes) else { return };
        let _ = DocumentName::from_wire((namespace, name)).and_then(DocumentName::checked_as_new);
    },
    |bytes| {
        let Ok(pb::ListNamesRequest { namespace, .. }) = pb::ListNamesRequest::decode(bytes) else { return };
        let _ = Namespace::from_wire(namespace);
    },
    |bytes| {
        let Ok(request) = pb::DecodeRequest::decode(bytes) else { return };
        let Some(Ok(group)) = request.group.map(LatentGroup::from_wire) else { return };
        if let Some(pb::decode_request::Task::Reconstruct(task)) = request.task {
            let corrections = task.corrections.unwrap_or_default();
            let _ = Corrections::from_wire((&corrections, group.tokens()));
        }
    },
    |bytes| {
        let Ok(request) = pb::VerifyRequest::decode(bytes) else { return };
        let _ = request.group.map(LatentGroup::from_wire);
    },
    |bytes| {
        let Ok(request) = pb::AnnounceRequest::decode(bytes) else { return };
        let _ = (Stage::from_wire(request.stage), Fingerprint::try_from(request.fingerprint.as_ref()));
    },
];

/// Messages that nodes and gateways answer.
const RESPONSES: &[Decode] = &[
    both_ways::<pb::PutDocumentResponse, PutEvent>,
    both_ways::<pb::ListResponse, DocumentPage>,
    both_ways::<pb::SearchResponse, SearchPage>,
    both_ways::<pb::ReindexJob, ReindexJob>,
    both_ways::<pb::ListNamesResponse, NamePage>,
    one_way::<pb::NamedDocument, NamedDocument>,
    one_way::<pb::SetLabelsResponse, DocumentLabels>,
    one_way::<pb::TotalsResponse, Totals>,
    both_ways::<pb::SweepResponse, SweepSummary>,
    both_ways::<pb::CheckResponse, FsckEvent>,
    both_ways::<pb::Upload, Upload>,
    both_ways::<pb::WindowLatents, Window>,
    both_ways::<pb::Cascade, Cascade>,
    one_way::<pb::DescribeResponse, Description>,
    |bytes| {
        let Ok(response) = pb::NodesResponse::decode(bytes) else { return };
        drop(response);
    },
];

fn run(kinds: &[Decode], input: &[u8]) {
    let Some((kind, message)) = input.split_first() else { return };
    kinds[usize::from(*kind) % kinds.len()](Bytes::copy_from_slice(message));
}

/// Returns seeds: each message with each kind of decoder, since a decoder must also stand messages of other kinds.
fn seeds(kinds: &[Decode], messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let kinds = 0..kinds.len() as u8;
    kinds.flat_map(|kind| messages.iter().map(move |message| [&[kind], &message[..]].concat())).collect()
}

fn group() -> LatentGroup {
    let provenance = Provenance { compressor: Fingerprint::of(b"compressor"), tokens: 40, ratio: 20 };
    LatentGroup::encode(&[0.5; 64], 32, LatentCodec::Q4_0, provenance).unwrap()
}

fn corrections() -> pb::Corrections {
    pb::Corrections { positions: vec![3, 9], tokens: vec![7, 16_000] }
}

fn window() -> pb::WindowLatents {
    let hash = WindowHash::of(b"text").to_bytes();
    let (group, corrections) = (Some(group().to_wire()), Some(corrections()));
    pb::WindowLatents { shard: 1, start: 100, end: 220, group, hash, corrections }
}

fn cascade() -> pb::Cascade {
    let (compressor, decoder) = (Fingerprint::of(b"compressor"), Fingerprint::of(b"decoder"));
    pb::Cascade {
        name: "c3-mini".to_owned(),
        compressor_fingerprint: compressor.to_bytes(),
        decoder_fingerprint: decoder.to_bytes(),
    }
}

fn document() -> pb::Document {
    pb::Document {
        id: DocumentId::of(b"text").to_bytes(),
        bytes: 120,
        tokens: 40,
        latents: 2,
        ratio: 20,
        codec: pb::LatentCodec::Q40 as i32,
        verified: true,
        margin: 2.0,
        cascade: Some(cascade()),
        arithmetic: "f32".to_owned(),
        labels: HashMap::from([("lang".to_owned(), "de".to_owned())]),
        names: vec!["book".to_owned()],
        ..Default::default()
    }
}

#[test]
fn wire_requests() {
    let options = pb::WriteOptions {
        ratio: 0,
        margin: Some(2.0),
        bytes: Some(120),
        auto_ratio: Some(pb::AutoRatio { ratios: vec![10, 20], fidelity_min: Some(0.999), stored_bytes_max: None }),
        ttl_seconds: 60,
        upload: "night-run_1".to_owned(),
        name: Some(pb::PutName {
            namespace: "team".to_owned(),
            name: "a/b".to_owned(),
            expected: Some("t".to_owned()),
        }),
        labels: HashMap::from([("lang".to_owned(), "de".to_owned())]),
        ..Default::default()
    };
    let list = pb::ListRequest {
        prefix: "abcd".to_owned(),
        page_size: 10,
        page_token: DocumentId::of(b"text").to_string(),
        labels: HashMap::from([("lang".to_owned(), "de".to_owned())]),
        names: Some(pb::NamesFilter { namespace: "team".to_owned(), prefix: "a".to_owned() }),
        ..Default::default()
    };
    let task = pb::decode_request::Task::Reconstruct(pb::Reconstruct { corrections: Some(corrections()) });
    let decode = pb::DecodeRequest { group: Some(group().to_wire()), task: Some(task), ..Default::default() };
    let announcement = pb::AnnounceRequest {
        address: "http://node:7302".to_owned(),
        stage: pb::Stage::Decoder as i32,
        fingerprint: Fingerprint::of(b"decoder").to_bytes(),
    };
    let messages = [
        options.encode_to_vec(),
        window().encode_to_vec(),
        list.encode_to_vec(),
        document().encode_to_vec(),
        group().to_wire().encode_to_vec(),
        decode.encode_to_vec(),
        announcement.encode_to_vec(),
        pb::DecompressOptions { cascade: "c3-mini".to_owned(), prompt: Some("?".to_owned()), tokens_max: 9 }
            .encode_to_vec(),
    ];
    c3_fuzz::check!("wire_requests", MemoryBound::default(), seeds(REQUESTS, &messages), |input| run(REQUESTS, input));
}

#[test]
fn wire_responses() {
    let result = pb::PutResult { document: Some(document()), bound_met: Some(true), ..Default::default() };
    let event = Some(pb::put_document_response::Event::Result(result));
    let limits = pb::NodeLimits { shard_bytes_max: 16_384, ..Default::default() };
    let shape = pb::ModelShape {
        ratio_min: 1,
        ratio_max: 80,
        ratio_default: 20,
        codec: pb::LatentCodec::Q40 as i32,
        ..Default::default()
    };
    let description = pb::DescribeResponse {
        stage: pb::Stage::Decoder as i32,
        cascade: Some(cascade()),
        shape: Some(shape),
        limits: Some(limits),
        ..Default::default()
    };
    let finding =
        pb::Finding { object: "latents/x".to_owned(), problem: "is cut short".to_owned(), ..Default::default() };
    let messages = [
        pb::PutDocumentResponse { event }.encode_to_vec(),
        pb::ListResponse { documents: vec![document(); 2], ..Default::default() }.encode_to_vec(),
        pb::CheckResponse { part: Some(pb::check_response::Part::Finding(finding)) }.encode_to_vec(),
        pb::Upload { name: "night-run_1".to_owned(), bytes_done: 9, ..Default::default() }.encode_to_vec(),
        window().encode_to_vec(),
        cascade().encode_to_vec(),
        description.encode_to_vec(),
    ];
    // A list contains messages; an empty one takes 2 bytes on the wire and 400 in memory, before and after conversion.
    let bound = MemoryBound { factor: 1024, ..MemoryBound::default() };
    c3_fuzz::check!("wire_responses", bound, seeds(RESPONSES, &messages), |input| run(RESPONSES, input));
}
