//! GPU suite: speed of the stages on an NVIDIA GPU relative to PyTorch on the same card, and agreement with the CPU.
//!
//! The binary `accept` must be built with the feature `cuda`. Without a GPU, every quantity is skipped.

pub mod callers;
pub mod faults;
pub mod golden;
pub mod kernels;
pub mod memory;
pub mod mini;
pub mod portability;
pub mod published;
pub mod servers;
pub mod stored;
pub mod table;

use std::path::Path;

use anyhow::Result;
use c3_cascade::{DeviceChoice, Options};

use crate::suites::speed::stages::Stages;

/// Device file of the first GPU.
pub const CARD: &str = "/dev/nvidia0";

/// Ratio, in text tokens per latent, of measurements with a single ratio.
const RATIO: usize = 20;

/// Returns the options that load a stage on the first GPU. Returns `None` if this machine has no GPU.
fn options() -> Option<Options> {
    Path::new(CARD).exists().then(|| Options { device: DeviceChoice::Cuda(0), ..Default::default() })
}

/// Loads the stages of the default model on the first GPU. Returns `None` if this machine has no GPU.
fn stages() -> Result<Option<Stages>> {
    options().map(Stages::load).transpose()
}
