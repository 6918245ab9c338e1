//! The spine's table.

use std::fs;

use anyhow::{Result, bail};

use super::{
    bare, by_hand, damage, faults, fidelity, golden, gpu, reading, requests, roundtrip, startup, texts, trace,
};
use crate::fixtures::{self, Shared, middle};
use crate::row::Row;

/// Its rows, in the order.
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
/// Fidelity that little-colonels-hero must reach at each ratio.
const FIDELITY_MIN: [(u32, f64); 3] = [(20, 0.9995), (40, 0.996), (80, 0.94)];
/// Clients that put and get at once.
const CLIENTS: usize = 32;
/// Size of a page and of a client's text.
const PAGE_BYTES: usize = 3000;

/// Measures a row of the table.
pub async fn measure(row: &str, shared: Shared) -> Result<Vec<Row>> {
    let hero = || shared.book("little-colonels-hero");
    let dickens = || shared.book("dickens-and-music");
    match row {
        "bare-clone" | "ci" if !shared.full => Ok(Vec::new()),
        "bare-clone" => bare::first_command(),
        "ci" => bare::ci(),
        "ratios" => roundtrip::ratios(&hero()?, &FIDELITY_MIN).await,
        "by-hand" => by_hand::by_hand(&dickens()?).await,
        "golden" => golden::vectors(shared, "cpu"),
        "golden-model" => golden::model(shared, &page(shared)?).await,
        "fidelity" => computed_fidelity(shared).await,
        "gpu" => gpu::gpu(shared).await,
        "range" => reading::range(&hero()?, 500, 2).await,
        "reuse" => reading::reuse(&hero()?, 3).await,
        "failover" => faults::failover(&hero()?).await,
        "memory" => roundtrip::memory(&shared.long_text(1_000_000)?, 256).await,
        "clients" => clients(shared).await,
        "trace" => traced(shared).await,
        "bad-texts" => bad_texts(shared).await,
        "bad-calls" => bad_calls(shared).await,
        row => bail!("nothing measures `{row}`"),
    }
}

/// About a page of a book.
fn page(shared: Shared) -> Result<String> {
    Ok(middle(&shared.whole_book("dickens-and-music")?, PAGE_BYTES).to_owned())
}

/// At 20x and, where more tokens are wrong, at 40x.
async fn computed_fidelity(shared: Shared) -> Result<Vec<Row>> {
    let hero = shared.whole_book("little-colonels-hero")?;
    let mut rows = fidelity::fidelity("fidelity-20", &shared.book("little-colonels-hero")?, 20).await?;
    rows.extend(fidelity::fidelity("fidelity-40", middle(&hero, 4 * PAGE_BYTES), 40).await?);
    Ok(rows)
}

async fn clients(shared: Shared) -> Result<Vec<Row>> {
    let book = shared.whole_book("critical-and-historical-essays")?;
    let share = book.len() / CLIENTS;
    let from = |client: usize| &book[book.floor_char_boundary(client * share)..];
    let texts: Vec<&str> =
        (0..CLIENTS).map(|client| &from(client)[..from(client).floor_char_boundary(PAGE_BYTES)]).collect();
    roundtrip::clients(&texts).await
}

async fn traced(shared: Shared) -> Result<Vec<Row>> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), page(shared)?)?;
    trace::trace(file.path()).await
}

/// Rows of the table of bad input that are about texts.
async fn bad_texts(shared: Shared) -> Result<Vec<Row>> {
    const LINE_BYTES: usize = 200_000;
    let page = page(shared)?;
    let mut rows = texts::odd_texts(if shared.full { LINE_BYTES } else { LINE_BYTES / 10 }).await?;
    rows.extend(texts::not_utf8(&page).await?);
    rows.extend(texts::too_large(&page).await?);
    Ok(rows)
}

/// The other rows of the table of bad input.
async fn bad_calls(shared: Shared) -> Result<Vec<Row>> {
    let page = page(shared)?;
    let long = fixtures::middle(&shared.whole_book("dickens-and-music")?, 10 * PAGE_BYTES).to_owned();
    let mut rows = Row::of("bad-ratios", requests::ratios(&page).await);
    rows.extend(Row::of("bad-ids", requests::ids().await));
    rows.extend(Row::of("other-model", requests::other_model(&page).await));
    rows.extend(Row::of("flipped-bits", damage::flipped_bits(&page).await));
    rows.extend(Row::of("no-node", faults::no_node(&page).await));
    rows.extend(Row::of("refused-starts", startup::refusals().await));
    rows.extend(Row::of("callers-leave", faults::callers_leave(&long).await));
    Ok(rows)
}
