//! `prove TOPIC [ROW] [--full]`: measures a topic's table anew and prints one JSON line a quantity.
//!
//! A row is `{"row", "value", "bound", "ok"}`; `ok` is null where this machine lacks the hardware. Ends with 1 where a
//! quantity is out of bounds. What a row took is told on standard error.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use c3_tests::fixtures::Shared;
use c3_tests::row::Row;
use c3_tests::{faults, speed, spine, store};
use clap::{Parser, ValueEnum};

/// The programs' own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures a topic's table anew on the real programs.
#[derive(Parser)]
struct Arguments {
    /// The topic.
    topic: Topic,
    /// One row of its table; all of them where none is given.
    row: Option<String>,
    /// Whole texts and counts, and what is built from nothing.
    #[arg(long)]
    full: bool,
}

/// What there are tables of.
#[derive(Clone, Copy, ValueEnum)]
enum Topic {
    /// A book goes through two nodes and a gateway, and comes back byte for byte.
    Spine,
    /// Speed on a CPU.
    SpeedCpu,
    /// The store and its tiers: nothing is lost, no wrong text, codecs and ratios.
    Store,
    /// Nodes die, hang, lie and drain, and no caller notices.
    Faults,
}

impl Topic {
    fn rows(self) -> &'static [&'static str] {
        match self {
            Self::Spine => &spine::table::ROWS,
            Self::SpeedCpu => &speed::table::ROWS,
            Self::Store => &store::table::ROWS,
            Self::Faults => &faults::table::ROWS,
        }
    }

    async fn measure(self, row: &str, shared: Shared) -> Result<Vec<Row>> {
        match self {
            Self::Spine => spine::table::measure(row, shared).await,
            Self::SpeedCpu => speed::table::measure(row, shared).await,
            Self::Store => store::table::measure(row, shared).await,
            Self::Faults => faults::table::measure(row, shared).await,
        }
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let Arguments { topic, row, full } = Arguments::parse();
    let known = topic.rows();
    let rows = match &row {
        Some(row) if known.contains(&row.as_str()) => vec![row.as_str()],
        Some(row) => bail!("there is no row `{row}`: {}", known.join(", ")),
        None => known.to_vec(),
    };
    ensure!(!rows.is_empty(), "the topic has no rows");
    let mut wrong = false;
    for name in rows {
        let begun = Instant::now();
        for row in Row::of(name, topic.measure(name, Shared { full }).await) {
            println!("{}", serde_json::to_string(&row)?);
            wrong |= row.is_wrong();
        }
        eprintln!("{name}: {:.0} s", begun.elapsed().as_secs_f64());
    }
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
