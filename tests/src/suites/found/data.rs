//! Guarantees of stored documents, and reads that overlap with changes.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use c3_proto::pb;
use c3_proto::pb::gateway_client::GatewayClient;
use c3_types::limits;
use futures::TryStreamExt;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;
use crate::suites::store::ops::{default_options, delete, fsck, large_text, small_text, sweep};

/// Names of the measurements in this module.
pub const ROWS: &[&str] = &["put-weakens-document", "overtaken-read"];

/// HTTP/2 flow-control window of a slow reader, in bytes. The gateway decodes at most a few pieces of text ahead of
/// such a reader.
const SLOW_READER_WINDOW: u32 = 4 << 10;
/// Number of texts that two gateways put at the same time.
const CONTENDED: usize = 8;
/// Time to live of a weaker put, in seconds.
const TTL_SECONDS: u64 = 1;

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str) -> Result<Vec<Quantity>> {
    match row {
        "put-weakens-document" => put_weakens_document().await,
        "overtaken-read" => overtaken_read().await,
        row => bail!("no measurement is named `{row}`"),
    }
}

/// Puts stored texts again with a time to live and without verification; the documents must stay verified and must not
/// expire. Also puts texts through two gateways at once, and changes a time to live by a recode, which is permitted.
async fn put_weakens_document() -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let text = small_text(1);
    let name = Some(pb::PutName { name: "keep".to_owned(), ..Default::default() });
    let labels = [("kind".to_owned(), "letter".to_owned())].into();
    let first = put(&api, &text, pb::WriteOptions { name, labels, ..default_options() }).await?;
    let weaker = pb::WriteOptions { ttl_seconds: TTL_SECONDS, skip_verification: true, ..default_options() };
    let second = put(&api, &text, weaker).await?;
    let due = SystemTime::now() + Duration::from_secs(TTL_SECONDS);
    until("the time to live to pass", Duration::from_secs(60), async || (SystemTime::now() > due).then_some(()))
        .await?;
    let named = api.stat("@keep").await.map_err(|status| format!("{:?}", status.code()));
    let read = api.get(&id_of(&first)).await.is_ok_and(|got| got.text == text.as_bytes());
    let mut quantities = vec![
        Quantity::equal("put-again-expires", second.expires_unix_ms, None),
        Quantity::equal("put-again-created", second.created_unix_ms, first.created_unix_ms),
        Quantity::holds("put-again-stays-verified", second.verified, "verified"),
        Quantity::equal("put-again-name", named.as_ref().map(id_of), Ok(id_of(&first))),
        Quantity::holds("put-again-labels", named.is_ok_and(|named| named.labels.len() == 1), "the label stays"),
        Quantity::holds("put-again-read", read, "identical"),
    ];
    quantities.push(Quantity::equal("puts-at-once-weakened", weakened_by_puts_at_once(&cluster).await?, Vec::new()));
    quantities.extend(recode_of_the_ttl(&api, &text).await?);
    Ok(quantities)
}

/// Puts each text through two gateways at once. One put is unverified and has no expiry, the other is verified and has
/// an expiry. Returns the documents that afterwards are not verified or have an expiry.
async fn weakened_by_puts_at_once(cluster: &Cluster) -> Result<Vec<String>> {
    let second = cluster.start_second_gateway().await?;
    let (api, other) = (cluster.api()?, GatewayApi::to(&second)?);
    let mut weakened = Vec::new();
    for number in 0..CONTENDED {
        let text = small_text(100 + number);
        let unverified = pb::WriteOptions { skip_verification: true, ..default_options() };
        let expiring = pb::WriteOptions { ttl_seconds: 3600, ..default_options() };
        let puts = tokio::join!(put(&api, &text, unverified), put(&other, &text, expiring));
        let id = id_of(&puts.0?);
        puts.1?;
        let stored = api.stat(&id).await?;
        if !stored.verified || stored.expires_unix_ms.is_some() {
            weakened.push(format!("verified {}, expires {:?}", stored.verified, stored.expires_unix_ms));
        }
    }
    Ok(weakened)
}

/// Recodes the document of a text with a time to live as the only option; this must change the expiry and nothing else.
async fn recode_of_the_ttl(api: &GatewayApi, text: &str) -> Result<Vec<Quantity>> {
    let before = put(api, text, default_options()).await?;
    let ttl = pb::WriteOptions { ttl_seconds: 3600, ..Default::default() };
    let after = recode(api, &id_of(&before), ttl).await?;
    let same = pb::Document { expires_unix_ms: None, stored_bytes: before.stored_bytes, ..after.clone() };
    let unchanged = same == pb::Document { labels: same.labels.clone(), ..before };
    Ok(vec![
        Quantity::holds("recode-ttl-expires", after.expires_unix_ms.is_some(), "an expiry"),
        Quantity::holds("recode-ttl-changes-nothing-else", unchanged, "the same document"),
    ])
}

/// Recodes, replaces or deletes documents while slow readers read them, and collects the old objects; a document that
/// still exists must be read to its end, and a deleted one must give NOT_FOUND. A read of latents that a recode
/// overtakes must fail with UNAVAILABLE, since it has to be repeated.
async fn overtaken_read() -> Result<Vec<Quantity>> {
    // Disables the cache. Otherwise, a recode would leave the old shards (parts of a text) that it reads in the cache,
    // where the slow readers would find them.
    let env = vec![("C3_CACHE_SIZE".to_owned(), "0".to_owned())];
    let mut cluster = ClusterSpec { env, ..ClusterSpec::with_gateway_args(&["--look-ahead", "1"]) }.start().await?;
    let texts = [1, 2, 3, 4].map(large_text);
    let mut ids = Vec::new();
    // The last document is the one whose latents are read. It has more latents than the gateway buffers for a slow
    // reader.
    let many_latents = pb::WriteOptions { ratio: 8, codec: pb::LatentCodec::F32 as i32, ..Default::default() };
    let options = [default_options(), default_options(), default_options(), many_latents];
    for (text, options) in texts.iter().zip(options) {
        ids.push(id_of(&put(&cluster.api()?, text, options).await?));
    }
    // The memory cache of a new gateway is cold.
    cluster.restart_gateway().await?;
    let api = cluster.api()?;
    let mut readers = Vec::new();
    for id in &ids[..3] {
        readers.push(SlowReader::start(&cluster, id).await?);
    }
    let mut latents = latents_of(&cluster, &ids[3]).await?;

    let coarse = pb::WriteOptions { ratio: 40, ..Default::default() };
    recode(&api, &ids[0], coarse.clone()).await?;
    delete(&api, &ids[1]).await?;
    put(&api, &texts[1], coarse.clone()).await?;
    delete(&api, &ids[2]).await?;
    recode(&api, &ids[3], coarse).await?;
    let removed = sweep(&api, 0).await?.removed;

    let mut read = Vec::new();
    for reader in readers {
        read.push(reader.finish().await.map_err(|status| format!("{:?}", status.code())));
    }
    let is_text = |number: usize| read[number].as_deref() == Ok(texts[number].as_bytes());
    let latents = loop {
        match latents.message().await {
            Ok(Some(_)) => {}
            Ok(None) => break "complete".to_owned(),
            Err(status) => break format!("{:?}", status.code()),
        }
    };
    let found = |number: usize| read[number].as_ref().map_or_else(Clone::clone, |text| format!("{} bytes", text.len()));
    Ok(vec![
        Quantity::at_least("overtaken-objects-removed", removed as f64, 1.0),
        Quantity::observed("overtaken-by-recode", found(0), is_text(0), "the text"),
        Quantity::observed("overtaken-by-delete-and-put", found(1), is_text(1), "the text"),
        Quantity::equal("overtaken-by-delete", found(2), "NotFound".to_owned()),
        // The new latents may belong to other windows (parts of the text), so the caller has to repeat the call from
        // the start.
        Quantity::equal("overtaken-latents", latents, "Unavailable".to_owned()),
        Quantity::equal("overtaken-findings", fsck(&api, false).await?.len(), 0),
    ])
}

/// Reader of a document that has read the header only. Its small flow-control window soon stops the gateway from
/// sending more.
struct SlowReader(tonic::Streaming<pb::GetTextResponse>);

impl SlowReader {
    async fn start(cluster: &Cluster, id: &str) -> Result<Self> {
        let request = pb::GetTextRequest { id: id.to_owned(), start: None, end: None };
        let mut parts = slow_client(cluster)?.get_text(request).await?.into_inner();
        let header = parts.message().await?;
        ensure!(header.is_some(), "the stream has no header");
        Ok(Self(parts))
    }

    /// Reads the text.
    async fn finish(self) -> Result<Vec<u8>, Status> {
        let texts = self.0.try_filter_map(async |message| match message.part {
            Some(pb::get_text_response::Part::Text(text)) => Ok(Some(text)),
            _ => Ok(None),
        });
        Ok(texts.try_collect::<Vec<_>>().await?.concat())
    }
}

/// Begins to read the latents of a document, up to the header.
async fn latents_of(cluster: &Cluster, id: &str) -> Result<tonic::Streaming<pb::GetLatentsResponse>> {
    let request = pb::GetLatentsRequest { id: id.to_owned() };
    let mut parts = slow_client(cluster)?.get_latents(request).await?.into_inner();
    parts.message().await?.context("the stream has no header")?;
    Ok(parts)
}

fn slow_client(cluster: &Cluster) -> Result<GatewayClient<Channel>> {
    let endpoint = Endpoint::from_shared(cluster.gateway.url())?.initial_stream_window_size(SLOW_READER_WINDOW);
    Ok(GatewayClient::new(endpoint.connect_lazy()).max_decoding_message_size(limits::MESSAGE_BYTES_MAX))
}

async fn put(api: &GatewayApi, text: &str, options: pb::WriteOptions) -> Result<pb::Document> {
    api.put(text.as_bytes(), options).await?.document.context("no document")
}

async fn recode(api: &GatewayApi, id: &str, options: pb::WriteOptions) -> Result<pb::Document> {
    let request = pb::RecodeRequest { id: id.to_owned(), options: Some(options) };
    let mut events = api.stub().recode(request).await?.into_inner();
    let mut document = None;
    while let Some(event) = events.message().await? {
        if let Some(pb::put_document_response::Event::Result(result)) = event.event {
            document = result.document;
        }
    }
    let document = document.context("the recode ended without a result")?;
    ensure!(id_of(&document) == id, "the recode changed the text");
    Ok(document)
}
