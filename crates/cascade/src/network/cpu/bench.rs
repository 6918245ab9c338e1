//! Public entry points that run single kernels, for `cargo bench`.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::activations::Activations;
use super::packed_weight::PackedWeight;
use super::simd::{Isa, LANES, Simd, kernel};
use crate::{Error, Kernels};

/// A GEMM with synthetic operands.
pub struct Gemm {
    isa: Isa,
    weight: PackedWeight,
    x: Activations,
    panels: Vec<[f32; LANES]>,
}

impl Gemm {
    /// Prepares a weight `[outputs, inputs]` in Q4_0 (Q8_0 if `q8`) and `rows` rows of activations. Fails with
    /// [`Error::Device`] if the CPU does not support `kernels`.
    pub fn new([outputs, inputs]: [usize; 2], q8: bool, rows: usize, kernels: Kernels) -> Result<Self, Error> {
        let isa = Isa::select(kernels)?;
        let numbers = |count: usize| (0..count).map(|i| (i * 7919 % 199) as f32 / 100.0 - 1.0).collect::<Vec<_>>();
        let dense = Tensor::from_vec(numbers(outputs * inputs), (outputs, inputs), &Device::Cpu)?;
        let stored = QTensor::quantize(&dense, if q8 { GgmlDType::Q8_0 } else { GgmlDType::Q4_0 })?;
        let weight = PackedWeight::pack(&[&stored], None)?;
        let mut x = Activations::default();
        x.quantise(isa, &numbers(rows * inputs), inputs);
        let panels = vec![[0.0; LANES]; weight.tiles() * rows];
        Ok(Self { isa, weight, x, panels })
    }

    /// Runs the GEMM on the calling thread.
    pub fn run(&mut self) {
        let panels = self.panels.chunks_exact_mut(self.x.count).enumerate();
        panels.for_each(|(tile, panel)| self.weight.gemm_tile(self.isa, tile, &self.x, panel));
    }
}

/// Multiply-adds that each thread computes in one round of [`peak`].
pub const PEAK_MACS: usize = 8 * 4 * LANES;

/// Runs `rounds` rounds of int8 dot products on every thread, with operands in registers. No GEMM can be faster.
pub fn peak(kernels: Kernels, rounds: usize) -> Result<i64, Error> {
    let isa = Isa::select(kernels)?;
    let sums = (0..rayon::current_num_threads()).into_par_iter().map(|_| {
        let mut out = [0.0; LANES];
        dots(isa, rounds, &mut out);
        out.iter().map(|sum| *sum as i64).sum::<i64>()
    });
    Ok(sums.sum())
}

kernel! {
    fn dots(rounds: usize, out: &mut [f32; LANES]) = dots_body;
}

#[inline(always)]
fn dots_body<S: Simd>(simd: S, rounds: usize, out: &mut [f32; LANES]) {
    let mut sums = [simd.splat_i32(0); 8];
    let (weights, values) = std::hint::black_box((simd.load_bytes(&[3; 4 * LANES]), simd.load_bytes(&[1; 4 * LANES])));
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = simd.dot_lanes(*sum, weights, values);
        }
    }
    for sum in sums {
        let mut lanes = [0.0; LANES];
        simd.store(simd.to_f32(sum), &mut lanes);
        out.iter_mut().zip(lanes).for_each(|(out, lane)| *out += lane);
    }
}
