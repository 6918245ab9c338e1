//! Recall of search compared with BM25 over the text, size of sketches, and their CPU time.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use c3_proto::pb;
use c3_search::evaluation::{Found, found_by_index, found_by_text, index};
use c3_search::{IndexedWindow, Sketch, TermKey, WindowText};
use c3_store::Store;
use c3_types::DocumentId;

use super::questions::{self, QuestionSet};
use super::{search, wait_until_found};
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::gateway_api::GatewayApi;
use crate::harness::quantity::{Quantity, median};

/// Keys over which recall is averaged. The key decides which hashes collide: recall with a single key varies by about
/// two points.
const KEYS: u8 = 8;
/// Maximum bytes of the sketch of a full window.
const SKETCH_BYTES: usize = 350;
/// Repetitions of the measurement of CPU time.
const ROUNDS: usize = 5;

/// Measures each language in a store of its own.
pub(super) async fn recall() -> Result<Vec<Quantity>> {
    let mut quantities = Vec::new();
    for mut set in questions::all()? {
        let cluster = ClusterSpec::default().start().await?;
        let api = cluster.api()?;
        let language = set.language;
        let before = cpu_seconds(&cluster)?;
        let mut ids = Vec::new();
        for source in &mut set.sources {
            let stored = api.put(source.text.as_bytes(), pb::WriteOptions::default()).await?;
            let id = stored.document.context("a put returns a document")?.hex_id;
            let windows = api.windows(&id).await?;
            source.windows = windows.iter().map(|window| window.start as usize..window.end as usize).collect();
            ids.push(id);
        }
        wait_until_found(&api, &ids).await?;
        let put_seconds = cpu_seconds(&cluster)? - before;
        quantities.push(Quantity::at_least(format!("recall-{language}-questions"), set.questions.len() as f64, 500.0));
        quantities.extend(of_keys(&set)?);
        let found = found_by_gateway(&api, &set, &ids).await?;
        let name = format!("recall-{language}-found-by-gateway");
        let count = set.questions.len() as f64;
        quantities.push(Quantity::reported(name, [found.at_1 as f64 / count, found.at_10 as f64 / count]));
        quantities.push(size(&cluster, &set, &ids).await?);
        let share = sketch_seconds(&set)? / put_seconds;
        quantities.push(Quantity::at_most(format!("recall-{language}-cpu-of-sketches-over-put"), share, 0.03));
    }
    Ok(quantities)
}

/// Compares sketches over the gateway's windows with the text of the same windows.
fn of_keys(set: &QuestionSet) -> Result<[Quantity; 2]> {
    let by_text = found_by_text(&set.sources, &set.questions)?;
    let mut sum = Found::default();
    for number in 0..KEYS {
        let key = TermKey::derive(&[number; 32]);
        let found = found_by_index(&index(&set.sources, SKETCH_BYTES, &key)?, &set.sources, &set.questions)?;
        sum = Found { at_1: sum.at_1 + found.at_1, at_10: sum.at_10 + found.at_10 };
    }
    let ratio = |sketches: usize, text: usize| sketches as f64 / f64::from(KEYS) / text as f64;
    let name = |rank: usize| format!("recall-{}-at-{rank}-over-text", set.language);
    Ok([
        Quantity::at_least(name(1), ratio(sum.at_1, by_text.at_1), 0.97),
        Quantity::at_least(name(10), ratio(sum.at_10, by_text.at_10), 0.99),
    ])
}

/// Asks the gateway all questions.
async fn found_by_gateway(api: &GatewayApi, set: &QuestionSet, ids: &[String]) -> Result<Found> {
    let mut found = Found::default();
    for question in &set.questions {
        let hits = search(api, pb::SearchRequest { query: question.text.clone(), ..Default::default() }).await?.hits;
        let answer = question.answer as u64;
        let is_answer =
            |hit: &pb::SearchHit| hit.hex_document == ids[question.source] && (hit.start..hit.end).contains(&answer);
        let rank = hits.iter().position(is_answer);
        found.at_1 += usize::from(rank == Some(0));
        found.at_10 += usize::from(rank.is_some());
    }
    Ok(found)
}

/// Compares the bytes of sketches and of latents in the store.
async fn size(cluster: &Cluster, set: &QuestionSet, ids: &[String]) -> Result<Quantity> {
    let (store, api) = (Store::open(cluster.data().display().to_string().as_str()).await?, cluster.api()?);
    let secret = store.search_secret().await?.id;
    let (mut sketches, mut latents) = (0, 0);
    for id in ids {
        let manifest = store.manifest(id.parse::<DocumentId>()?).await?.value;
        let of_document = store.sketches(&manifest, secret).await?;
        ensure!(of_document.missing == 0, "{} windows have no sketch", of_document.missing);
        sketches += of_document.windows.iter().map(|window| window.sketch.len()).sum::<usize>();
        for window in api.windows(id).await? {
            latents += window.group.context("a window has latents")?.data.len();
        }
    }
    let share = sketches as f64 / latents as f64;
    Ok(Quantity::at_most(format!("recall-{}-bytes-of-sketches-over-latents", set.language), share, 0.035))
}

/// Returns the seconds that one core takes to sketch the texts and to build an index of them.
fn sketch_seconds(set: &QuestionSet) -> Result<f64> {
    let key = TermKey::derive(&[1; 32]);
    let mut seconds = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let built = c3_search::Index::new(key.clone(), 1 << 30);
        for source in &set.sources {
            let windows = source.windows.iter().map(|bytes| WindowText { bytes: bytes.clone(), limit: SKETCH_BYTES });
            let encoded = Sketch::of_windows(&source.text, &Vec::from_iter(windows), &key);
            let encoded = Vec::from_iter(encoded.iter().map(Sketch::encode));
            let windows = source.windows.iter().zip(&encoded).map(|(bytes, sketch)| {
                let sketch = Sketch::decode(sketch)?;
                anyhow::Ok(IndexedWindow { bytes: bytes.start as u64..bytes.end as u64, sketch })
            });
            built.insert(DocumentId::of(source.text.as_bytes()), windows.collect::<Result<_>>()?)?;
        }
        seconds.push(started.elapsed().as_secs_f64());
    }
    Ok(median(seconds))
}

fn cpu_seconds(cluster: &Cluster) -> Result<f64> {
    let nodes = cluster.compressors.iter().chain(&cluster.decoders);
    nodes.chain([&cluster.gateway]).map(|process| process.cpu_seconds()).sum()
}
