//! How fast the system is on a CPU, and that its speed costs nothing.
//!
//! Rates are compared as ratios of medians of interleaved rounds in one run: machines are noisy, and differ.

pub mod exact;
pub mod llama;
pub mod nodes;
pub mod rates;
pub mod stages;
pub mod table;
pub mod whole;

/// How much happens a second when `work`, which does `amount`, is done.
fn rate<T>(amount: usize, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<f64> {
    let began = std::time::Instant::now();
    work()?;
    Ok(amount as f64 / began.elapsed().as_secs_f64())
}
