//! What people type after `c3 bench`.

use std::path::PathBuf;

use crate::args::{AnywhereArgs, positive};
use crate::write::WriteArgs;

/// What `bench` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BenchOperation {
    /// Texts are stored.
    Put,
    /// Stored texts are read.
    Get,
}

/// When the calls of an open loop come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Arrivals {
    /// As far apart as can be, as those of wrk2, vegeta and k6.
    Even,
    /// At random times: a Poisson process, as many callers who know nothing of each other.
    Poisson,
}

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// The file that texts are cut from, UTF-8
    pub(crate) file: PathBuf,
    /// What to measure; given twice, both at once [default: get]
    #[arg(long = "op", value_name = "OPERATION")]
    pub(crate) operation: Vec<BenchOperation>,
    /// Size of a text
    #[arg(long, value_name = "BYTES", default_value_t = 2000)]
    pub(crate) bytes: usize,
    /// Callers of each operation, each calling again as soon as it was answered
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = positive)]
    pub(crate) clients: usize,
    /// Calls a second of each operation, whether or not those before were answered, in place of a number of callers
    #[arg(long, value_name = "RATE", conflicts_with = "clients", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// With `--rate`: when calls come
    #[arg(long, value_name = "HOW", requires = "rate", default_value = "even", value_enum)]
    pub(crate) arrivals: Arrivals,
    /// How long to call
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) seconds: u64,
    /// Documents that are stored to be read: more than callers at once, for what several read at once is decoded once
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    pub(crate) documents: usize,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
    #[command(flatten)]
    pub(crate) at: AnywhereArgs,
}

fn rate(typed: &str) -> Result<f64, String> {
    let rate = typed.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or("give a number of calls a second over 0".to_owned())
}
