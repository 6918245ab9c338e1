//! Portable 16-lane SIMD.
//!
//! A kernel is written once, generic over [`Simd`], and compiled for each [`Isa`]. All instruction sets compute the
//! same bits: byte dot products are exact, and float arithmetic is lane-wise with fused multiply-adds. The only
//! operations across lanes are maximum and integer sum, whose results do not depend on the order of the lanes. Kernels
//! that need a float sum across lanes add the lanes in a fixed order.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use portable::Portable;

use crate::{Error, Kernels};

/// Number of lanes of a vector.
pub(crate) const LANES: usize = 16;

/// 32 activations quantised to int8 with a shared scale (compare `block_q8_1` in ggml).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ActivationBlock {
    /// Quantised values, -127 to 127.
    pub(crate) values: [i8; 2 * LANES],
    /// Dequantisation factor: the float is `value * scale`.
    pub(crate) scale: f32,
    /// -128 times the sum of `values`. Corrects dot products with weights to which an offset of 128 was added.
    pub(crate) offset: i32,
}

/// Vector operations available to kernels.
///
/// A value of an implementing type proves that the CPU supports the instructions of that type.
pub(crate) trait Simd: Copy + Send + Sync {
    /// 16 floats.
    type F32s: Copy;
    /// 16 i32 accumulators.
    type I32s: Copy;
    /// 64 bytes, four per accumulator.
    type Bytes: Copy;

    /// Maximum rows that the GEMM micro-kernel computes at once. The number of registers limits it.
    const ROWS: usize;

    /// Sets all lanes to `x`.
    fn splat(self, x: f32) -> Self::F32s;
    fn load(self, x: &[f32; LANES]) -> Self::F32s;
    /// Loads 16 half-precision floats, given as their bits, and widens them to f32.
    fn load_f16(self, x: &[u16; LANES]) -> Self::F32s;
    fn store(self, x: Self::F32s, to: &mut [f32; LANES]);
    fn mul(self, a: Self::F32s, b: Self::F32s) -> Self::F32s;
    /// Returns `a * b + c`, rounded once.
    fn fma(self, a: Self::F32s, b: Self::F32s, c: Self::F32s) -> Self::F32s;
    /// Returns, per lane, the larger of `a` and `b`; `b` if either is NaN.
    fn max(self, a: Self::F32s, b: Self::F32s) -> Self::F32s;
    /// Converts integers to the nearest floats.
    fn to_f32(self, x: Self::I32s) -> Self::F32s;
    /// Returns the largest absolute value of all 32 lanes.
    fn max_abs(self, x: [Self::F32s; 2]) -> f32;
    /// Rounds 32 values of magnitude at most 127 to the nearest integer, ties to even, and returns their sum.
    fn quantise(self, x: [Self::F32s; 2], to: &mut [i8; 2 * LANES]) -> i32;

    /// Quantises 32 values symmetrically: the largest magnitude becomes 127.
    #[inline(always)]
    fn quantise_block(self, x: [Self::F32s; 2], to: &mut ActivationBlock) {
        let max = self.max_abs(x);
        // Written as one array so that the compiler emits a single vector division.
        let [scale, steps] = [[max, 127.0], [127.0, max]].map(|[above, below]| above / below);
        let steps = self.splat(if max > 0.0 { steps } else { 0.0 });
        let sum = self.quantise([self.mul(x[0], steps), self.mul(x[1], steps)], &mut to.values);
        (to.scale, to.offset) = (scale, -128 * sum);
    }

    /// Quantises 16 blocks of 32 values each. AVX-512 overrides this with a faster method for many blocks.
    #[inline(always)]
    fn quantise_blocks(self, x: &[[f32; 2 * LANES]; LANES], to: &mut [ActivationBlock; LANES]) {
        for (x, to) in x.iter().zip(to) {
            let halves = x.as_chunks().0;
            self.quantise_block([self.load(&halves[0]), self.load(&halves[1])], to);
        }
    }

    /// Sets all i32 lanes to `x`.
    fn splat_i32(self, x: i32) -> Self::I32s;
    fn load_i32(self, x: &[i32; LANES]) -> Self::I32s;
    fn load_bytes(self, x: &[u8; 4 * LANES]) -> Self::Bytes;
    /// Splits each byte into its low and its high nibble.
    fn split_nibbles(self, x: Self::Bytes) -> [Self::Bytes; 2];
    /// Adds to each lane the dot product of its own four `weights`, each at most 15, with the same four `values`.
    fn dot_nibbles(self, sums: Self::I32s, weights: Self::Bytes, values: [i8; 4]) -> Self::I32s;
    /// Like [`Simd::dot_nibbles`], but with any unsigned `weights`. No value may be -128.
    fn dot_bytes(self, sums: Self::I32s, weights: Self::Bytes, values: [i8; 4]) -> Self::I32s;
    /// Like [`Simd::dot_bytes`], but each lane has its own four `values`, read as i8.
    fn dot_lanes(self, sums: Self::I32s, weights: Self::Bytes, values: Self::Bytes) -> Self::I32s;
}

/// Instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(Avx2<true>),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2<false>),
    Portable(Portable),
}

impl Isa {
    /// Returns the requested instruction set; for [`Kernels::Auto`], the fastest that the CPU supports. Fails with
    /// [`Error::Device`] if the CPU does not support the requested one.
    pub(crate) fn select(requested: Kernels) -> Result<Self, Error> {
        let supported = Self::supported();
        let fits = |(name, _): &&(Kernels, Self)| requested == Kernels::Auto || *name == requested;
        supported.iter().find(fits).map(|(_, isa)| *isa).ok_or_else(|| {
            let names: Vec<String> = supported.iter().map(|(name, _)| name.to_string()).collect();
            Error::Device(format!("this CPU does not support --kernels {requested}: use {}", names.join(", ")))
        })
    }

    /// Returns all instruction sets that this CPU supports, fastest first.
    pub(crate) fn supported() -> Vec<(Kernels, Self)> {
        #[cfg(target_arch = "x86_64")]
        let special = [
            Avx512::detect().map(|isa| (Kernels::Avx512, Self::Avx512(isa))),
            Avx2::detect().map(|isa| (Kernels::AvxVnni, Self::AvxVnni(isa))),
            Avx2::detect().map(|isa| (Kernels::Avx2, Self::Avx2(isa))),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let special: [Option<(Kernels, Self)>; 0] = [];
        special.into_iter().flatten().chain([(Kernels::Portable, Self::Portable(Portable))]).collect()
    }
}

/// Defines the function `$name(isa, …)`, which calls the version of `$body(simd, …)` that is compiled for `isa`.
///
/// `$body` must be an `#[inline(always)]` function generic over [`Simd`].
macro_rules! kernel {
    ($(#[$doc:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) = $body:path;) => {
        $(#[$doc])*
        $visibility fn $name(isa: $crate::network::cpu::simd::Isa, $($argument: $type),*) {
            use $crate::network::cpu::simd::*;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
            fn avx512(simd: Avx512, $($argument: $type),*) {
                $body(simd, $($argument),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
            fn avx_vnni(simd: Avx2<true>, $($argument: $type),*) {
                $body(simd, $($argument),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2(simd: Avx2<false>, $($argument: $type),*) {
                $body(simd, $($argument),*);
            }
            match isa {
                // SAFETY: `simd` exists only if the CPU supports the enabled target features.
                #[cfg(target_arch = "x86_64")]
                #[allow(unsafe_code)]
                Isa::Avx512(simd) => unsafe { avx512(simd, $($argument),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                #[allow(unsafe_code)]
                Isa::AvxVnni(simd) => unsafe { avx_vnni(simd, $($argument),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                #[allow(unsafe_code)]
                Isa::Avx2(simd) => unsafe { avx2(simd, $($argument),*) },
                Isa::Portable(simd) => $body(simd, $($argument),*),
            }
        }
    };
}

pub(crate) use kernel;

#[cfg(test)]
mod tests {
    use super::*;

    type Case = ([u8; 64], [i8; 4], [u16; 16]);

    #[inline(always)]
    fn everything<S: Simd>(simd: S, case: &Case, out: &mut Vec<[f32; 16]>) {
        let (weights, values, halves) = case;
        let lanes_of = |floats| {
            let mut lanes = [0.0; 16];
            simd.store(floats, &mut lanes);
            lanes
        };
        let mut keep = |floats| out.push(lanes_of(floats));
        let bytes = simd.load_bytes(weights);
        keep(simd.to_f32(simd.dot_bytes(simd.splat_i32(7), bytes, *values)));
        let lanes = simd.load_bytes(&std::array::from_fn(|i| values[i % 4].wrapping_add(i as i8 / 4).max(-127) as u8));
        keep(simd.to_f32(simd.dot_lanes(simd.load_i32(&std::array::from_fn(|i| i as i32)), bytes, lanes)));
        for nibbles in simd.split_nibbles(bytes) {
            keep(simd.to_f32(simd.dot_nibbles(simd.splat_i32(-7), nibbles, *values)));
        }
        let halves = simd.load_f16(halves);
        keep(halves);
        let mixed = simd.fma(halves, simd.splat(0.1), simd.mul(halves, simd.splat(3.3)));
        keep(mixed);
        let most = simd.max_abs([halves, mixed]);
        keep(simd.splat(most));
        keep(simd.max(halves, mixed));
        let mut rounded = [0; 32];
        let steps = simd.splat(127.0 / most);
        let sum = simd.quantise([simd.mul(halves, steps), simd.mul(mixed, steps)], &mut rounded);
        keep(simd.to_f32(simd.splat_i32(sum)));
        let mut bytes = rounded.to_vec();
        let mut blocks = [[0.0; 32]; 16];
        let lanes = [lanes_of(halves), lanes_of(mixed)].concat();
        for (i, block) in blocks.iter_mut().enumerate() {
            // Block 5 is all zeros. The position of the largest value varies among the other blocks.
            *block = std::array::from_fn(|j| if i == 5 { 0.0 } else { lanes[(i * 7 + j) % 32] / (1 + i + j) as f32 });
        }
        let mut many = [ActivationBlock::default(); 16];
        simd.quantise_blocks(&blocks, &mut many);
        out.extend([many.map(|block| block.scale), many.map(|block| block.offset as f32)]);
        bytes.extend(many.iter().flat_map(|block| block.values));
        out.extend(bytes.as_chunks().0.iter().map(|half: &[i8; 16]| half.map(f32::from)));
    }

    kernel! {
        fn run(case: &Case, out: &mut Vec<[f32; 16]>) = everything;
    }

    #[test]
    fn all_cpus_compute_the_same_bits() {
        let mut seed = 1u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) as u16
        };
        for round in 0..500 {
            let extreme = |value: u16, most: u16| if round % 5 == 0 { most } else { value };
            let weights = std::array::from_fn(|_| extreme(next(), 255) as u8);
            let values = std::array::from_fn(|_| (extreme(next() % 255, 254) as i16 - 127) as i8);
            let halves = std::array::from_fn(|_| next() & 0x7bff | (next() & 0x8000));
            let case = (weights, values, halves);
            let of = |isa| {
                let mut out = Vec::new();
                run(isa, &case, &mut out);
                out
            };
            let portable = of(Isa::Portable(Portable));
            for (name, isa) in Isa::supported() {
                assert_eq!(of(isa), portable, "{name}");
            }
        }
    }
}
