//! The gate of the MLP: `silu(gate) * up`.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::cpu::for_this_cpu;
use super::exp::exp;
use crate::Error;

/// Values that one task takes.
const TASK_VALUES: usize = 1 << 13;

/// `silu(gate) * up`, value by value.
pub(super) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor, Error> {
    if !gate.device().is_cpu() {
        return Ok((candle_nn::ops::silu(gate)? * up)?);
    }
    let mut gated = gate.flatten_all()?.to_vec1::<f32>()?;
    let up = up.flatten_all()?.to_vec1::<f32>()?;
    gated
        .par_chunks_mut(TASK_VALUES)
        .zip(up.par_chunks(TASK_VALUES))
        .for_each(|(gated, up)| gate_values(gated, up));
    Ok(Tensor::from_vec(gated, gate.dims(), &Device::Cpu)?)
}

for_this_cpu! {
    /// Replaces each `gate` by `silu(gate) * up`.
    fn gate_values(gate: &mut [f32], up: &[f32]) = gate_values_body;
}

#[inline(always)]
fn gate_values_body(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        let x = *gate;
        let e = exp(-x.abs());
        let sigmoid = if x >= 0.0 { 1.0 } else { e } / (1.0 + e);
        *gate = x * sigmoid * up;
    }
}
