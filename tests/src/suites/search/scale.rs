//! Speed and memory of search over ten million tokens.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use c3_proto::pb;
use c3_search::{Sketch, TermKey, WindowText};
use c3_store::Store;
use c3_store::manifest::{Manifest, ShardEntry};
use c3_store::object::version::Version;
use c3_store::shard::{ShardCorrections, ShardLatents, Sketches};
use c3_types::{DocumentId, ShardHash};
use futures::{StreamExt, TryStreamExt, stream};

use super::{READ_LIMIT, search, wait_until_found};
use crate::harness::cluster::ClusterSpec;
use crate::harness::fixtures::middle;
use crate::harness::gateway_api::GatewayApi;
use crate::harness::process::Process;
use crate::harness::quantity::{Quantity, median};
use crate::harness::wait::until;
use crate::suites::store::ops::Rng;

/// Windows of ten million tokens, at 640 tokens each.
const WINDOWS: usize = 15_600;
/// Tokens of all windows, in millions.
const MILLIONS: f64 = 10.0;
/// Text that is stored by the pipeline: about 200 windows, whose latents and corrections all other documents have too.
const REAL_BYTES: usize = 420_000;
/// Shards that are written concurrently.
const WRITES_IN_FLIGHT: usize = 16;
/// Searches whose time is measured.
const SEARCHES: usize = 500;
/// Searches with snippets that are compared with reads.
const SNIPPET_SEARCHES: usize = 21;
/// Hits with snippets.
const SNIPPETS: u32 = 3;

/// Fills a store and measures a gateway over it.
pub(super) async fn scale(books: &str) -> Result<Vec<Quantity>> {
    let mut cluster = ClusterSpec::default().start().await?;
    let real = middle(books, REAL_BYTES);
    let id = cluster.api()?.put(real.as_bytes(), pb::WriteOptions::default()).await?;
    let id = id.document.context("a put returns a document")?.hex_id;
    fill(&cluster.data().display().to_string(), id.parse()?, books).await?;

    cluster.gateway.terminate().await?;
    let without = cluster.with_gateway_args(&["--search-memory", "0"]).await?;
    let base = without.resident_bytes()?;
    drop(without);
    let started = Instant::now();
    cluster.restart_gateway().await?;
    let api = cluster.api()?;
    let mut rng = Rng::new(30);
    let query = words(books, &mut rng, 3);
    until("all sketches to be read", READ_LIMIT, async || {
        let page = search(&api, pb::SearchRequest { query: query.clone(), ..Default::default() }).await.ok()?;
        (!page.partial).then_some(())
    })
    .await?;
    let rebuild = started.elapsed().as_secs_f64();
    wait_until_found(&api, &[id]).await?;
    let resident = settled(&cluster.gateway).await?.saturating_sub(base);
    let index = cluster.gateway_metric("c3_search_index_bytes", "").await?;
    let per_million = |bytes: f64| bytes / f64::from(1 << 20) / MILLIONS;
    let mut quantities = vec![
        Quantity::at_most("scale-rebuild-seconds", rebuild, 20.0),
        Quantity::at_most("scale-index-mib-per-million-tokens", per_million(index), 4.0),
        // Includes what the allocator keeps after the sketches were read.
        Quantity::reported("scale-resident-mib-per-million-tokens", per_million(resident as f64)),
    ];
    let mut times = Vec::new();
    for _ in 0..SEARCHES {
        let query = words(books, &mut rng, 3);
        let started = Instant::now();
        search(&api, pb::SearchRequest { query, ..Default::default() }).await?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    quantities.push(Quantity::at_most("scale-search-p50-ms", times[SEARCHES / 2], 5.0));
    quantities.push(Quantity::at_most("scale-search-p99-ms", times[SEARCHES * 99 / 100], 20.0));
    quantities.push(snippets(&api, books, &mut rng).await?);
    Ok(quantities)
}

/// Writes documents with the latents and corrections of a stored one, and with sketches of other texts.
async fn fill(data: &str, id: DocumentId, books: &str) -> Result<()> {
    let store = &Store::open(data).await?;
    let secret = store.search_secret().await?;
    let key = &(TermKey::derive(secret.secret.expose()), secret.id);
    let real = &store.manifest(id).await?.value;
    let mut parts = Vec::new();
    for entry in &real.shards {
        parts.push((entry, store.shard_parts(real, entry).await?));
    }
    let windows: usize = real.shards.iter().map(|entry| entry.window_bytes.len()).sum();
    for document in 1..WINDOWS.div_ceil(windows) {
        let writes = Vec::from_iter(parts.iter().enumerate().map(|(number, (entry, (latents, corrections)))| {
            write_shard(store, key, real, entry, (latents, corrections), Made { document, number, books })
        }));
        let shards: Vec<ShardEntry> = stream::iter(writes).buffered(WRITES_IN_FLIGHT).try_collect().await?;
        let id = DocumentId::of(&document.to_le_bytes());
        let manifest = Manifest { id, version: Version::NONE, shards, subtrees: Vec::new(), ..real.clone() };
        store.put_manifest(manifest).await?;
    }
    Ok(())
}

/// A shard that is made up.
struct Made<'a> {
    document: usize,
    number: usize,
    books: &'a str,
}

async fn write_shard(
    store: &Store,
    (key, secret): &(TermKey, u32),
    real: &Manifest,
    entry: &ShardEntry,
    (latents, corrections): (&ShardLatents, &ShardCorrections),
    made: Made<'_>,
) -> Result<ShardEntry> {
    let Made { document, number, books } = made;
    let mut rng = Rng::new((document * 100_000 + number) as u64);
    let windows = latents.windows.len();
    let texts = Vec::from_iter((0..windows).map(|_| sentences(books, &mut rng, 2_400)));
    let sketch = |text: &String| {
        let whole = WindowText { bytes: 0..text.len(), limit: 350 };
        Sketch::of_windows(text, &[whole], key).iter().map(|sketch| sketch.encode().into()).collect::<Vec<_>>()
    };
    let sketches = Sketches { secret: *secret, windows: texts.iter().flat_map(sketch).collect() };
    let hash = ShardHash::of(texts.concat().as_bytes());
    let prefixes = real.key_prefixes(&ShardEntry { hash, ..entry.clone() });
    let latents = store.put_latents(&prefixes.latents, latents.clone().into_encoded()).await?;
    let corrections = ShardCorrections { latents: latents.digest, sketches, ..corrections.clone() };
    let prefix = prefixes.corrections.context("the document is verified")?;
    let corrections = store.put_corrections(&prefix, corrections.into_encoded()).await?;
    let in_objects = ShardEntry::in_objects(hash, &latents, Some(&corrections));
    Ok(ShardEntry { window_newlines: entry.window_newlines.clone(), ..in_objects })
}

/// Returns sentences from places all over the text, at least `bytes` bytes in all.
fn sentences(text: &str, rng: &mut Rng, bytes: usize) -> String {
    let mut made = String::new();
    while made.len() < bytes {
        let start = text.floor_char_boundary(rng.below(text.len() - 1_000));
        let rest = &text[start..text.floor_char_boundary(start + 1_000)];
        let sentence = rest.split_once(". ").and_then(|(_, rest)| rest.split_once(". ")).map(|(sentence, _)| sentence);
        made.push_str(sentence.unwrap_or_default());
        made.push_str(". ");
    }
    made
}

/// Returns words from places all over the text.
fn words(text: &str, rng: &mut Rng, count: usize) -> String {
    let word = |rng: &mut Rng| {
        let start = text.floor_char_boundary(rng.below(text.len() - 1_000));
        let rest = &text[start..text.floor_char_boundary(start + 1_000)];
        let mut words = rest.split_whitespace().skip(1).map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
        words.find(|word| word.len() > 3).unwrap_or("lamp").to_owned()
    };
    Vec::from_iter((0..count).map(|_| word(rng))).join(" ")
}

/// Compares searches with snippets with reads of the same windows in parallel.
async fn snippets(api: &GatewayApi, books: &str, rng: &mut Rng) -> Result<Quantity> {
    let (mut searches, mut reads) = (Vec::new(), Vec::new());
    for _ in 0..SNIPPET_SEARCHES {
        let query = words(books, rng, 2);
        let request = pb::SearchRequest { query, limit: SNIPPETS, snippet_bytes: 200, ..Default::default() };
        let started = Instant::now();
        let hits = search(api, request).await?.hits;
        searches.push(started.elapsed().as_secs_f64());
        let started = Instant::now();
        let windows = hits.iter().map(|hit| api.get_range(&hit.hex_document, hit.start..hit.end));
        futures::future::try_join_all(windows).await?;
        reads.push(started.elapsed().as_secs_f64());
    }
    Ok(Quantity::at_most("scale-snippets-over-reads", median(searches) / median(reads), 1.15))
}

/// Returns the resident memory once it does not change any more.
async fn settled(process: &Process) -> Result<u64> {
    let mut last = process.resident_bytes()?;
    until("the memory to settle", Duration::from_secs(30), async || {
        let now = process.resident_bytes().ok()?;
        let is_settled = now.abs_diff(last) < 1 << 20;
        last = now;
        is_settled.then_some(now)
    })
    .await
}
