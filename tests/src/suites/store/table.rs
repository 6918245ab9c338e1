//! The table of the store.

use anyhow::{Result, bail};

use super::resumed::Victim;
use super::{
    auto, batch, cloud, codecs, deletes, disk, edited, flips, gateways, hot, interchange, kills, kinds, long,
    names, recode, resumed, shared, syscalls,
};
use crate::fixtures::{self, Shared, middle, stretch};
use crate::row::Row;

/// Its rows, in the order.
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
/// Where all random choices begin.
const SEED: u64 = 6;

/// Measures a row of the table.
pub async fn measure(row: &str, shared: Shared) -> Result<Vec<Row>> {
    let sized = |few, many| if shared.full { many } else { few };
    let count = |all: usize| sized(all / 10, all);
    let prose = || shared.whole_book("little-colonels-hero");
    match row {
        "long" => {
            let books = shared.books()?;
            let sizes: &[usize] = if shared.full { &[1_080_000, 3_600_000] } else { &[108_000] };
            // What a noisy machine adds to one of a few seconds is not in the median of three.
            let mut rows = long::long(&books, sized(18_000, 180_000), sizes, sized(3, 1)).await?;
            rows.extend(long::spread(middle(&books, 30_000)).await?);
            Ok(rows)
        }
        "kills" => kills::kills(count(200), SEED).await,
        "syscalls" => syscalls::syscalls().await,
        "flips" => flips::flips(count(2000), SEED).await,
        "disk" => disk::disk().await,
        "s3" => cloud::faulty_s3(&prose()?, sized(20, 200)).await,
        "redis" => shared::killed_redis(&prose()?, sized(8, 40)).await,
        "hot-latents" => hot::hot_latents(&prose()?, sized(1, 3)).await,
        "batch" => batch::batch(count(10_000), sized(1, 2)).await,
        "deletes" => deletes::deletes(40, count(1000), SEED).await,
        "edited" => {
            let books = shared.books()?;
            let more = [60, 61].map(|number| stretch(&books, number, 10_000));
            let reading = if shared.full { edited::Reading::Whole } else { edited::Reading::AroundTheChange };
            edited::edited(stretch(&books, 0, 500_000), more, reading).await
        }
        "resumed" => {
            let (books, bytes) = (shared.books()?, sized(200_000, 2_000_000));
            // What is in flight when it is killed is done again: of a short text a shard is all that may be.
            let args: &[&str] = if shared.full { &[] } else { &["--shards-in-flight", "1"] };
            let texts = [1, 2].map(|variant| long::varied(&books, bytes, variant));
            let [first, second] = texts.each_ref().map(String::as_str);
            let puts = [(Victim::Gateway, first), (Victim::Client, second)];
            let puts = &puts[..sized(1, 2)];
            resumed::resumed(puts, args, Some(resumed::REDONE_MAX)).await
        }
        "gateways" => gateways::over_both(count(10_000), SEED).await,
        "names" => names::contended(count(1000)).await,
        "recode" => {
            let prose = prose()?;
            let mut rows = recode::codecs(middle(&prose, sized(3_000, 6_000))).await?;
            rows.extend(recode::deleted(middle(&prose, sized(9_000, 20_000))).await?);
            rows.extend(recode::kills(middle(&prose, sized(9_000, 20_000)), count(200)).await?);
            Ok(rows)
        }
        "codecs" => codecs::table(&kinds::all(&prose()?, sized(1_000, 20_000))?).await,
        "auto" => {
            let mut rows = auto::auto(&kinds::all(&prose()?, sized(40_000, 200_000))?).await?;
            // Texts of a few shards are sampled otherwise than those of many, and one of them tells little.
            rows.extend(auto::auto(&kinds::several(&prose()?, 18_000, sized(1, 3))?).await?);
            Ok(rows)
        }
        "safetensors" => {
            let text = fixtures::text("page.txt")?;
            let mut rows = interchange::again(&text).await?;
            rows.extend(interchange::by_torch(&text).await?);
            Ok(rows)
        }
        row => bail!("nothing measures `{row}`"),
    }
}
