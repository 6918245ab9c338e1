//! Maps each measurement of the store suite, by name, to the function that runs it.

use anyhow::{Result, bail};

use super::resume::KilledProcess;
use super::{
    auto, batch, bit_flips, codecs, deletes, disk, edits, gateways, genres, hot_latents, kills, long, names, recode,
    redis, resume, s3_faults, safetensors, syscalls,
};
use crate::harness::fixtures::{self, Corpus, middle, stretch};
use crate::harness::quantity::Quantity;

/// Names of the measurements, as given to `accept` in its argument `ROW`.
pub const ROWS: [&str; 18] = [
    "long",
    "kills",
    "syscalls",
    "flips",
    "disk",
    "s3",
    "redis",
    "hot-latents",
    "batch",
    "edited",
    "auto",
    "resumed",
    "safetensors",
    "deletes",
    "gateways",
    "names",
    "recode",
    "codecs",
];
/// Seed of all random choices.
const SEED: u64 = 6;

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str, corpus: Corpus) -> Result<Vec<Quantity>> {
    let sized = |few, many| if corpus.full { many } else { few };
    let count = |all: usize| sized(all / 10, all);
    let prose = || corpus.whole_book("little-colonels-hero");
    match row {
        "long" => {
            let books = corpus.books()?;
            let sizes: &[usize] = if corpus.full { &[1_080_000, 3_600_000] } else { &[108_000] };
            // Short measurements have outliers, which the median of three rounds excludes.
            let mut quantities = long::long(&books, sized(18_000, 180_000), sizes, sized(3, 1)).await?;
            quantities.extend(long::spread(middle(&books, 30_000)).await?);
            Ok(quantities)
        }
        "kills" => kills::kills(count(200), SEED).await,
        "syscalls" => syscalls::syscalls().await,
        "flips" => bit_flips::bit_flips(count(2000), SEED).await,
        "disk" => disk::disk().await,
        "s3" => s3_faults::s3_faults(&prose()?, sized(20, 200)).await,
        "redis" => redis::killed_redis(&prose()?, sized(8, 40)).await,
        "hot-latents" => hot_latents::hot_latents(&prose()?, sized(1, 3)).await,
        "batch" => batch::batch(count(10_000), sized(1, 2)).await,
        "deletes" => deletes::deletes(40, count(1000), SEED).await,
        "edited" => {
            let books = corpus.books()?;
            let more = [60, 61].map(|number| stretch(&books, number, 10_000));
            let reading = if corpus.full { edits::Reading::Whole } else { edits::Reading::AroundTheChange };
            edits::edits(stretch(&books, 0, 500_000), more, reading).await
        }
        "resumed" => {
            let (books, bytes) = (corpus.books()?, sized(200_000, 2_000_000));
            // Shards (parts of the text) that are in flight at the kill are computed again. In a short text they would
            // be a large part, so only one shard may be in flight.
            let args: &[&str] = if corpus.full { &[] } else { &["--shards-in-flight", "1"] };
            let texts = [1, 2].map(|variant| long::unique_variant(&books, bytes, variant));
            let [first, second] = texts.each_ref().map(String::as_str);
            let puts = [(KilledProcess::Gateway, first), (KilledProcess::Client, second)];
            let puts = &puts[..sized(1, 2)];
            resume::resume(puts, args, Some(resume::REDONE_MAX)).await
        }
        "gateways" => gateways::over_both(count(10_000), SEED).await,
        "names" => names::contended(count(1000)).await,
        "recode" => {
            let prose = prose()?;
            let mut quantities = recode::codecs(middle(&prose, sized(3_000, 6_000))).await?;
            quantities.extend(recode::deleted(middle(&prose, sized(9_000, 20_000))).await?);
            quantities.extend(recode::kills(middle(&prose, sized(9_000, 20_000)), count(200)).await?);
            Ok(quantities)
        }
        "codecs" => codecs::table(&genres::all(&prose()?, sized(1_000, 20_000))?).await,
        "auto" => {
            let mut quantities = auto::auto(&genres::all(&prose()?, sized(40_000, 200_000))?).await?;
            // Texts of one to three shards, which are parts of about 10 KB.
            quantities.extend(auto::auto(&genres::several(&prose()?, 18_000, sized(1, 3))?).await?);
            Ok(quantities)
        }
        "safetensors" => {
            let text = fixtures::text("page.txt")?;
            let mut quantities = safetensors::again(&text).await?;
            quantities.extend(safetensors::by_torch(&text).await?);
            Ok(quantities)
        }
        row => bail!("no measurement is named `{row}`"),
    }
}
