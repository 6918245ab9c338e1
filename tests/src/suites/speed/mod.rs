//! Speed suite: measures throughput and latency on a CPU, and checks that optimisations change no result.
//!
//! Rates are compared only within a run, over interleaved rounds, because machines differ and their speed varies.

pub mod end_to_end;
pub mod exact;
pub mod llama;
pub mod nodes;
pub mod rates;
pub mod stages;
pub mod table;

use std::time::Instant;

/// Runs `work`, which processes `amount` units, and returns units per second.
fn rate<T>(amount: usize, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<f64> {
    let started = Instant::now();
    work()?;
    Ok(amount as f64 / started.elapsed().as_secs_f64())
}
