//! Recoding of documents, which is to write them again with other options: undisturbed, during deletes, and with killed
//! gateways.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use c3_proto::{ToWire, pb};
use c3_types::LatentCodec;
use prost::Message;
use tonic::{Code, Status, Streaming};

use super::ops::{dangling, fsck};
use crate::harness::cluster::{Cluster, ClusterSpec, files_under};
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;

/// Maximum time until a recode has written an object.
const WRITE_LIMIT: Duration = Duration::from_secs(120);
/// Ratios to which [`kills`] recodes, one after another. Only a recode to a new pair of ratio and codec writes new
/// objects.
const RATIOS: std::ops::RangeInclusive<u32> = 9..=80;

/// Number of bytes read from either end of the document after each kill.
const PART_BYTES: usize = 150;

/// Recodes a document to every codec, to 40 tokens per latent and back to 20; the text must stay identical, and the
/// original latents must return at the end. Also recodes an unknown document, which must fail.
pub async fn codecs(text: &str) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let document = api.put_at(text.as_bytes(), 20).await?.document.context("no document")?;
    let id = id_of(&document);
    let windows = digest(&api, &id).await?;
    let codec = |codec: LatentCodec| pb::WriteOptions { codec: codec.to_wire(), ..Default::default() };
    let mut steps = Vec::from_iter(LatentCodec::ALL.map(|to| (to.to_string(), codec(to))));
    steps.push(("40x".to_owned(), pb::WriteOptions { ratio: 40, ..Default::default() }));
    steps.push(("20x".to_owned(), pb::WriteOptions { ratio: 20, ..Default::default() }));

    let mut quantities = Vec::new();
    let mut last = document.clone();
    for (to, options) in steps {
        let expected = (
            if options.codec == 0 { last.codec } else { options.codec },
            if options.ratio == 0 { last.ratio } else { options.ratio },
        );
        last = finish(recode(&api, &id, options).await?).await?;
        let stored = api.stat(&id).await?;
        quantities.push(Quantity::equal(format!("recode-{to}-recorded"), (stored.codec, stored.ratio), expected));
        let same = api.get(&id).await?.text == text.as_bytes() && stored.verified;
        quantities.push(Quantity::holds(format!("recode-{to}-identical"), same, "identical, and verified"));
    }
    quantities.push(Quantity::equal("recode-back-objects", digest(&api, &id).await?, windows));
    quantities.push(Quantity::equal("recode-created", last.created_unix_ms, document.created_unix_ms));
    quantities.push(Quantity::equal("recode-documents", api.ids().await?, vec![id]));
    let nothing = recode(&api, "abcdef", pb::WriteOptions::default()).await;
    let refused = match nothing {
        Ok(events) => finish(events).await.err(),
        Err(status) => Some(status),
    };
    quantities.push(Quantity::equal(
        "recode-unknown",
        refused.map(|status| format!("{:?}", status.code())),
        Some("NotFound".to_owned()),
    ));
    Ok(quantities)
}

/// Deletes a document during a recode; it must stay deleted.
pub async fn deleted(text: &str) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let id = id_of(&api.put_at(text.as_bytes(), 20).await?.document.context("no document")?);
    let before = stored_bytes(&cluster.data())?;
    let events = recode(&api, &id, pb::WriteOptions { ratio: 40, ..Default::default() }).await?;
    let recoding = tokio::spawn(finish(events));
    grows(&cluster, before).await?;
    api.stub().delete(pb::DeleteRequest { id: id.clone() }).await?;
    let outcome = recoding.await?.err().map(|status| format!("{:?}", status.code()));
    let stat = api.stat(&id).await.err().map(|status| status.code());
    Ok(vec![
        Quantity::equal("recode-deleted-answer", outcome, Some("NotFound".to_owned())),
        Quantity::holds("recode-deleted-stays", stat == Some(Code::NotFound), "NotFound"),
    ])
}

/// Kills the gateway during `count` recodes; each time, the document must have either its old or its new ratio and
/// codec, and both ends of its text must be intact. At the end, the whole text must be intact and no reference may
/// dangle.
pub async fn kills(text: &str, count: usize) -> Result<Vec<Quantity>> {
    let mut cluster = ClusterSpec::with_gateway_args(&["--shards-in-flight", "1"]).start().await?;
    let id = id_of(&cluster.api()?.put_at(text.as_bytes(), 8).await?.document.context("no document")?);
    let (mut lost, mut between, mut old) = (0, 0, cluster.api()?.stat(&id).await?);
    let codecs = LatentCodec::ALL.into_iter().cycle().flat_map(|codec| RATIOS.map(move |ratio| (ratio, codec)));
    for (ratio, codec) in codecs.take(count) {
        let before = stored_bytes(&cluster.data())?;
        let options = pb::WriteOptions { ratio, codec: codec.to_wire(), ..Default::default() };
        let recoding = tokio::spawn(finish(recode(&cluster.api()?, &id, options).await?));
        grows(&cluster, before).await?;
        cluster.restart_gateway().await?;
        recoding.abort();
        let api = cluster.api()?;
        let now = api.stat(&id).await;
        let mut whole = true;
        for part in [0..PART_BYTES, text.len() - PART_BYTES..text.len()] {
            let got = api.get_range(&id, part.start as u64..part.end as u64).await;
            whole &= got.is_ok_and(|got| got.text == text.as_bytes()[part]);
        }
        let known = now.as_ref().is_ok_and(|now| {
            between += usize::from((now.ratio, now.codec) == (old.ratio, old.codec));
            [(old.ratio, old.codec), (ratio, codec.to_wire())].contains(&(now.ratio, now.codec))
        });
        lost += usize::from(!(whole && known));
        old = now?;
    }
    let api = cluster.api()?;
    let same = api.get(&id).await?.text == text.as_bytes();
    let findings = fsck(&api, false).await?;
    let last = finish(recode(&api, &id, pb::WriteOptions { ratio: 20, ..Default::default() }).await?);
    let after = last.await?.ratio;
    let share = between as f64 / count as f64;
    Ok(vec![
        Quantity::equal("recode-kills-lost", lost, 0),
        Quantity::at_least(format!("recode-kills-between-writes ({count} kills)"), share, 0.8),
        Quantity::holds("recode-kills-identical", same, "identical"),
        Quantity::equal("recode-kills-dangling", dangling(&findings), 0),
        Quantity::equal("recode-kills-findings", findings.len(), 0),
        Quantity::equal("recode-after-kills", after, 20),
    ])
}

async fn recode(
    api: &GatewayApi,
    id: &str,
    options: pb::WriteOptions,
) -> Result<Streaming<pb::PutDocumentResponse>, Status> {
    let request = pb::RecodeRequest { id: id.to_owned(), options: Some(options) };
    Ok(api.stub().recode(request).await?.into_inner())
}

async fn finish(mut events: Streaming<pb::PutDocumentResponse>) -> Result<pb::Document, Status> {
    let mut document = None;
    while let Some(event) = events.message().await? {
        if let Some(pb::put_document_response::Event::Result(result)) = event.event {
            document = result.document;
        }
    }
    document.ok_or_else(|| Status::internal("the recode ended without a result"))
}

/// Waits until more bytes are stored than `before`.
async fn grows(cluster: &Cluster, before: u64) -> Result<()> {
    let data = cluster.data();
    until("the recode to write", WRITE_LIMIT, async || {
        // The scan fails if a file is deleted meanwhile. The next poll repeats it.
        stored_bytes(&data).ok().filter(|&now| now > before).map(drop)
    })
    .await
}

fn stored_bytes(data: &Path) -> Result<u64> {
    files_under(data)?.iter().map(|file| Ok(file.metadata()?.len())).sum()
}

/// Returns a hash over all windows of a document.
async fn digest(api: &GatewayApi, id: &str) -> Result<String> {
    let windows = api.windows(id).await?;
    let bytes = windows.iter().map(Message::encode_to_vec).collect::<Vec<_>>().concat();
    Ok(blake3::hash(&bytes).to_hex().to_string())
}
