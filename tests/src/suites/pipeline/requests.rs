//! Invalid requests: ratios, ids, and latents of another model.

use std::collections::HashMap;

use anyhow::{Context, Result};
use c3_proto::ToWire;
use c3_proto::pb;
use c3_proto::pb::decode_request::Task;
use c3_proto::pb::decoder_client::DecoderClient;
use c3_types::{DocumentId, Fingerprint};
use futures::stream;
use tonic::{Code, Status};

use super::texts::refusal;
use crate::harness::cluster::ClusterSpec;
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::process::{Launch, Program};
use crate::harness::quantity::Quantity;

const RATIO: u32 = 20;
/// Number of leading hexadecimal digits that the ids of the two test documents share.
pub(crate) const SHARED_DIGITS: usize = 4;

/// Puts a text with ratios out of range; `c3` must exit with code 2, and the gateway must answer INVALID_ARGUMENT. Both
/// messages must contain the range.
pub async fn ratios(text: &str) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), text)?;
    let mut quantities = Vec::new();
    for ratio in ["0", "7", "81", "-3", "x"] {
        let c3 = Launch::new(Program::C3).args(["put", "--gateway", &cluster.gateway.url()]);
        let output = c3.arg(format!("--ratio={ratio}")).arg(file.path()).output().await?;
        let printed = String::from_utf8_lossy(&output.stderr);
        let ok = output.status.code() == Some(2) && printed.contains('8') && printed.contains("80");
        quantities.push(Quantity::observed(
            format!("ratio-{ratio}"),
            printed.trim(),
            ok,
            "exit code 2 and a message with 8 and 80",
        ));
    }
    let api = cluster.api()?;
    for ratio in [7, 81] {
        let refused = api.put_at(text.as_bytes(), ratio).await.err();
        let name = format!("ratio-{ratio}-by-call");
        quantities.push(refusal(&name, refused, Code::InvalidArgument, &["ratio", "8", "80"]));
    }
    quantities.push(Quantity::equal("ratio-documents-stored", api.ids().await?.len(), 0));
    Ok(quantities)
}

/// Reads documents by unknown ids, malformed ids and ambiguous prefixes, which must be refused, and by a unique prefix,
/// which must work.
pub async fn ids() -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let texts = texts_with_one_prefix();
    for text in &texts {
        api.put_at(text.as_bytes(), RATIO).await?;
    }
    let ids = texts.each_ref().map(|text| DocumentId::of(text.as_bytes()).to_string());
    let unknown = DocumentId::of(b"never stored").to_string();
    let mut quantities = Vec::new();
    for (name, id, code, says) in [
        ("unknown-id", unknown.as_str(), Code::NotFound, vec![]),
        ("malformed-id", "no-id", Code::InvalidArgument, vec!["no-id"]),
        ("ambiguous-prefix", &ids[0][..SHARED_DIGITS], Code::InvalidArgument, vec![ids[0].as_str(), &ids[1]]),
    ] {
        quantities.push(refusal(&format!("{name}-get"), api.get(id).await.err(), code, &says));
        quantities.push(refusal(&format!("{name}-stat"), api.stat(id).await.err(), code, &says));
    }
    let unique = ids[0].chars().zip(ids[1].chars()).take_while(|(a, b)| a == b).count() + 1;
    let got = api.get(&ids[0][..unique]).await?;
    quantities.push(Quantity::holds("unique-prefix", got.text == texts[0].as_bytes(), "identical"));
    Ok(quantities)
}

/// Returns two short texts whose ids share their first [`SHARED_DIGITS`] digits.
pub(crate) fn texts_with_one_prefix() -> [String; 2] {
    let mut seen = HashMap::new();
    for number in 0u32.. {
        let text = format!("text {number}");
        let prefix = DocumentId::of(text.as_bytes()).to_string()[..SHARED_DIGITS].to_owned();
        if let Some(other) = seen.insert(prefix, text.clone()) {
            return [other, text];
        }
    }
    unreachable!("there are more texts than prefixes")
}

/// Sends latents of another model to the gateway and to a decoder; they must be refused, and the error must contain the
/// fingerprints (hashes) of both models.
pub async fn other_model(text: &str) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let other = Fingerprint::of(b"another model");
    let served = cluster.describe_decoder().await?.cascade.context("no cascade")?.compressor_fingerprint;
    let served = Fingerprint::try_from(served.as_ref())?;
    let says = [other.to_string(), served.to_string()];
    let says = says.each_ref().map(String::as_str);

    let options = pb::WriteOptions { ratio: RATIO, ..Default::default() };
    let windows = api.compress(text.as_bytes(), options).await?;
    let of_other_model: Vec<_> = windows.into_iter().map(|window| with_fingerprint(window, other)).collect();
    let group = of_other_model[0].group.clone().context("no latents")?;

    let by_decoder = decode(DecoderClient::new(cluster.decoders[0].channel()?), group).await.err();
    let by_decompress = api.decompress(of_other_model.clone(), pb::DecompressOptions::default()).await.err();
    let by_put = put_latents_of(&api, text, of_other_model).await?;
    Ok(vec![
        refusal("other-model-decode", by_decoder, Code::FailedPrecondition, &says),
        refusal("other-model-decompress", by_decompress, Code::FailedPrecondition, &says),
        refusal("other-model-put-latents", by_put, Code::FailedPrecondition, &says),
        Quantity::equal("other-model-documents-stored", api.ids().await?.len(), 0),
    ])
}

fn with_fingerprint(mut window: pb::WindowLatents, compressor: Fingerprint) -> pb::WindowLatents {
    if let Some(group) = &mut window.group {
        group.compressor_fingerprint = compressor.to_wire();
    }
    window
}

async fn decode(mut decoder: DecoderClient<tonic::transport::Channel>, group: pb::LatentGroup) -> Result<(), Status> {
    let task = Task::Reconstruct(pb::Reconstruct { corrections: None });
    let request = pb::DecodeRequest { window: 0, group: Some(group), task: Some(task) };
    let mut pieces = decoder.decode(stream::iter([request])).await?.into_inner();
    while pieces.message().await?.is_some() {}
    Ok(())
}

async fn put_latents_of(
    api: &GatewayApi,
    text: &str,
    of_other_model: Vec<pb::WindowLatents>,
) -> Result<Option<Status>> {
    let mut document = api.put_at(text.as_bytes(), RATIO).await?.document.context("no document")?;
    api.stub().delete(pb::DeleteRequest { id: id_of(&document) }).await?;
    if let (Some(cascade), Some(group)) = (&mut document.cascade, &of_other_model[0].group) {
        cascade.compressor_fingerprint = group.compressor_fingerprint.clone();
    }
    Ok(api.put_latents(document, of_other_model).await.err())
}
