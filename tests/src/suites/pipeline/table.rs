//! Maps each measurement of the pipeline suite, by name, to the function that runs it.

use std::fs;

use anyhow::{Result, bail};

use super::{
    bit_flips, clean_clone, failover, fidelity, golden, gpu, reading, readme, requests, roundtrip, startup, texts,
    trace,
};
use crate::harness::fixtures::{self, Corpus, middle};
use crate::harness::quantity::Quantity;

/// Names of the measurements, as given to `accept` in its argument `ROW`.
pub const ROWS: [&str; 16] = [
    "bare-clone",
    "ratios",
    "by-hand",
    "golden",
    "golden-model",
    "fidelity",
    "gpu",
    "range",
    "reuse",
    "failover",
    "memory",
    "clients",
    "trace",
    "bad-texts",
    "bad-calls",
    "ci",
];
/// Minimum fidelity of little-colonels-hero at each ratio.
const FIDELITY_MIN: [(u32, f64); 3] = [(20, 0.9995), (40, 0.996), (80, 0.94)];
/// Number of concurrent clients.
const CLIENTS: usize = 32;
/// Bytes of a page and of each client's text.
const PAGE_BYTES: usize = 3000;

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str, corpus: Corpus) -> Result<Vec<Quantity>> {
    let hero = || corpus.book("little-colonels-hero");
    let dickens = || corpus.book("dickens-and-music");
    match row {
        "bare-clone" | "ci" if !corpus.full => Ok(Vec::new()),
        "bare-clone" => clean_clone::readme(),
        "ci" => clean_clone::ci(),
        "ratios" => roundtrip::ratios(&hero()?, &FIDELITY_MIN).await,
        "by-hand" => readme::quick_start(&dickens()?).await,
        "golden" => golden::vectors(corpus, "cpu"),
        "golden-model" => golden::model(corpus, &page(corpus)?).await,
        "fidelity" => computed_fidelity(corpus).await,
        "gpu" => gpu::gpu(corpus).await,
        "range" => reading::range(&hero()?, 500, 2).await,
        "reuse" => reading::reuse(&hero()?, 3).await,
        "failover" => failover::failover(&hero()?).await,
        "memory" => roundtrip::memory(&corpus.long_text(1_000_000)?, 256).await,
        "clients" => clients(corpus).await,
        "trace" => traced(corpus).await,
        "bad-texts" => bad_texts(corpus).await,
        "bad-calls" => bad_calls(corpus).await,
        row => bail!("no measurement is named `{row}`"),
    }
}

/// Returns about a page of a book.
fn page(corpus: Corpus) -> Result<String> {
    Ok(middle(&corpus.whole_book("dickens-and-music")?, PAGE_BYTES).to_owned())
}

/// Computes the fidelity of a text at 20x, and of a shorter text at 40x, where more tokens are wrong; it must equal the
/// fidelity that the gateway reports.
async fn computed_fidelity(corpus: Corpus) -> Result<Vec<Quantity>> {
    let hero = corpus.whole_book("little-colonels-hero")?;
    let mut quantities = fidelity::fidelity("fidelity-20", &corpus.book("little-colonels-hero")?, 20).await?;
    quantities.extend(fidelity::fidelity("fidelity-40", middle(&hero, 4 * PAGE_BYTES), 40).await?);
    Ok(quantities)
}

/// Roundtrips a text for each of [`CLIENTS`] concurrent clients; all texts must come back identical.
async fn clients(corpus: Corpus) -> Result<Vec<Quantity>> {
    let book = corpus.whole_book("critical-and-historical-essays")?;
    let share = book.len() / CLIENTS;
    let from = |client: usize| &book[book.floor_char_boundary(client * share)..];
    let texts: Vec<&str> =
        (0..CLIENTS).map(|client| &from(client)[..from(client).floor_char_boundary(PAGE_BYTES)]).collect();
    roundtrip::clients(&texts).await
}

/// Puts and gets a page while all programs export spans; the spans must form one trace.
async fn traced(corpus: Corpus) -> Result<Vec<Quantity>> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), page(corpus)?)?;
    trace::trace(file.path()).await
}

/// Puts unusual texts, which must come back identical, and invalid or too long texts, which must be refused.
async fn bad_texts(corpus: Corpus) -> Result<Vec<Quantity>> {
    const LINE_BYTES: usize = 200_000;
    let page = page(corpus)?;
    let mut quantities = texts::unusual_texts(if corpus.full { LINE_BYTES } else { LINE_BYTES / 10 }).await?;
    quantities.extend(texts::not_utf8(&page).await?);
    quantities.extend(texts::too_large(&page).await?);
    Ok(quantities)
}

/// Makes requests that cannot succeed; each must fail with an error that says what is wrong. Covers invalid ratios, ids
/// and latents, corrupt data, lost nodes, failed starts, and clients that disconnect.
async fn bad_calls(corpus: Corpus) -> Result<Vec<Quantity>> {
    let page = page(corpus)?;
    let long = fixtures::middle(&corpus.whole_book("dickens-and-music")?, 10 * PAGE_BYTES).to_owned();
    let mut quantities = Quantity::from_result("bad-ratios", requests::ratios(&page).await);
    quantities.extend(Quantity::from_result("bad-ids", requests::ids().await));
    quantities.extend(Quantity::from_result("other-model", requests::other_model(&page).await));
    quantities.extend(Quantity::from_result("flipped-bits", bit_flips::flipped_bits(&page).await));
    quantities.extend(Quantity::from_result("no-node", failover::no_node(&page).await));
    quantities.extend(Quantity::from_result("refused-starts", startup::refusals().await));
    quantities.extend(Quantity::from_result("clients-leave", failover::client_disconnects(&long).await));
    Ok(quantities)
}
