//! For any CPU.

use half::f16;

use super::{LANES, Simd};

/// Plain Rust.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Simd for Portable {
    type Floats = [f32; LANES];
    type Sums = [i32; LANES];
    type Bytes = [u8; 4 * LANES];

    const ROWS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Floats {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::Floats {
        *x
    }

    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Self::Floats {
        x.map(|bits| f16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn store(self, x: Self::Floats, to: &mut [f32; LANES]) {
        *to = x;
    }

    #[inline(always)]
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn fma(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    #[inline(always)]
    fn max(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn floats(self, sums: Self::Sums) -> Self::Floats {
        sums.map(|sum| sum as f32)
    }

    #[inline(always)]
    fn largest(self, [a, b]: [Self::Floats; 2]) -> f32 {
        a.into_iter().chain(b).map(f32::abs).fold(0.0, f32::max)
    }

    #[inline(always)]
    fn round(self, [a, b]: [Self::Floats; 2], to: &mut [i8; 2 * LANES]) -> i32 {
        /// Adding it rounds to a whole number and leaves that in the low bits.
        const ROUND: f32 = 12_582_912.0;
        for (to, x) in to.iter_mut().zip(a.into_iter().chain(b)) {
            *to = (x + ROUND).to_bits() as i8;
        }
        to.iter().map(|value| i32::from(*value)).sum()
    }

    #[inline(always)]
    fn sums(self, x: i32) -> Self::Sums {
        [x; LANES]
    }

    #[inline(always)]
    fn load_sums(self, x: &[i32; LANES]) -> Self::Sums {
        *x
    }

    #[inline(always)]
    fn bytes(self, x: &[u8; 4 * LANES]) -> Self::Bytes {
        *x
    }

    #[inline(always)]
    fn nibbles(self, x: Self::Bytes) -> [Self::Bytes; 2] {
        [x.map(|byte| byte & 15), x.map(|byte| byte >> 4)]
    }

    #[inline(always)]
    fn dot_nibbles(self, sums: Self::Sums, weights: Self::Bytes, values: [i8; 4]) -> Self::Sums {
        self.dot_bytes(sums, weights, values)
    }

    #[inline(always)]
    fn dot_bytes(self, mut sums: Self::Sums, weights: Self::Bytes, values: [i8; 4]) -> Self::Sums {
        for (sum, weights) in sums.iter_mut().zip(weights.as_chunks::<4>().0) {
            for (weight, value) in weights.iter().zip(values) {
                *sum += i32::from(*weight) * i32::from(value);
            }
        }
        sums
    }

    #[inline(always)]
    fn dot_lanes(self, mut sums: Self::Sums, weights: Self::Bytes, values: Self::Bytes) -> Self::Sums {
        let lanes = weights.as_chunks::<4>().0.iter().zip(values.as_chunks::<4>().0);
        for (sum, (weights, values)) in sums.iter_mut().zip(lanes) {
            for (weight, value) in weights.iter().zip(values) {
                *sum += i32::from(*weight) * i32::from(*value as i8);
            }
        }
        sums
    }
}
