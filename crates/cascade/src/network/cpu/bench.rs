//! The kernels by themselves, for `cargo bench`.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::rows::Rows;
use super::simd::{Isa, LANES, Simd, kernel};
use super::weight::Weight;
use crate::{Error, Kernels};

/// A product of a weight with rows.
pub struct Product {
    isa: Isa,
    weight: Weight,
    rows: Rows,
    panels: Vec<[f32; LANES]>,
}

impl Product {
    /// Of a weight `[outputs, inputs]` in Q4_0 or, with `q8`, Q8_0, with `rows` rows. Errors: kernels that this CPU
    /// lacks.
    pub fn new(
        [outputs, inputs]: [usize; 2],
        q8: bool,
        rows: usize,
        kernels: Kernels,
    ) -> Result<Self, Error> {
        let isa = Isa::choose(kernels)?;
        let numbers =
            |count: usize| (0..count).map(|i| (i * 7919 % 199) as f32 / 100.0 - 1.0).collect::<Vec<_>>();
        let dense = Tensor::from_vec(numbers(outputs * inputs), (outputs, inputs), &Device::Cpu)?;
        let stored = QTensor::quantize(&dense, if q8 { GgmlDType::Q8_0 } else { GgmlDType::Q4_0 })?;
        let weight = Weight::pack(&[&stored], None)?;
        let mut rounded = Rows::default();
        rounded.round(isa, &numbers(rows * inputs), inputs);
        let panels = vec![[0.0; LANES]; weight.tiles() * rows];
        Ok(Self { isa, weight, rows: rounded, panels })
    }

    /// Computes it on one thread.
    pub fn run(&mut self) {
        let panels = self.panels.chunks_exact_mut(self.rows.count).enumerate();
        panels.for_each(|(tile, panel)| self.weight.panel(self.isa, tile, &self.rows, panel));
    }
}

/// Multiply-adds of a [`peak`] a thread and round.
pub const PEAK_MACS: usize = 8 * 4 * LANES;

/// Dot products in registers on every thread, `rounds` times: the most multiply-adds of int8 that the CPU does.
pub fn peak(kernels: Kernels, rounds: usize) -> Result<i64, Error> {
    let isa = Isa::choose(kernels)?;
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
    let mut sums = [simd.sums(0); 8];
    let (weights, values) = std::hint::black_box((simd.bytes(&[3; 4 * LANES]), simd.bytes(&[1; 4 * LANES])));
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = simd.dot_lanes(*sum, weights, values);
        }
    }
    for sum in sums {
        let mut lanes = [0.0; LANES];
        simd.store(simd.floats(sum), &mut lanes);
        out.iter_mut().zip(lanes).for_each(|(out, lane)| *out += lane);
    }
}
