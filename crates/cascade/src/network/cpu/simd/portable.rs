//! [`Simd`] in plain Rust, for any CPU. Tests compare the other instruction sets with this one.

use half::f16;

use super::{LANES, Simd};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Simd for Portable {
    type F32s = [f32; LANES];
    type I32s = [i32; LANES];
    type Bytes = [u8; 4 * LANES];

    const ROWS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32s {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F32s {
        *x
    }

    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Self::F32s {
        x.map(|bits| f16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn store(self, x: Self::F32s, to: &mut [f32; LANES]) {
        *to = x;
    }

    #[inline(always)]
    fn mul(self, a: Self::F32s, b: Self::F32s) -> Self::F32s {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn fma(self, a: Self::F32s, b: Self::F32s, c: Self::F32s) -> Self::F32s {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    #[inline(always)]
    fn max(self, a: Self::F32s, b: Self::F32s) -> Self::F32s {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn to_f32(self, sums: Self::I32s) -> Self::F32s {
        sums.map(|sum| sum as f32)
    }

    #[inline(always)]
    fn max_abs(self, [a, b]: [Self::F32s; 2]) -> f32 {
        a.into_iter().chain(b).map(f32::abs).fold(0.0, f32::max)
    }

    #[inline(always)]
    fn quantise(self, [a, b]: [Self::F32s; 2], to: &mut [i8; 2 * LANES]) -> i32 {
        /// 1.5 * 2^23. Adding it rounds to an integer and leaves that integer in the low bits of the sum.
        const ROUND: f32 = 12_582_912.0;
        for (to, x) in to.iter_mut().zip(a.into_iter().chain(b)) {
            *to = (x + ROUND).to_bits() as i8;
        }
        to.iter().map(|value| i32::from(*value)).sum()
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I32s {
        [x; LANES]
    }

    #[inline(always)]
    fn load_i32(self, x: &[i32; LANES]) -> Self::I32s {
        *x
    }

    #[inline(always)]
    fn load_bytes(self, x: &[u8; 4 * LANES]) -> Self::Bytes {
        *x
    }

    #[inline(always)]
    fn split_nibbles(self, x: Self::Bytes) -> [Self::Bytes; 2] {
        [x.map(|byte| byte & 15), x.map(|byte| byte >> 4)]
    }

    #[inline(always)]
    fn dot_nibbles(self, sums: Self::I32s, weights: Self::Bytes, values: [i8; 4]) -> Self::I32s {
        self.dot_bytes(sums, weights, values)
    }

    #[inline(always)]
    fn dot_bytes(self, mut sums: Self::I32s, weights: Self::Bytes, values: [i8; 4]) -> Self::I32s {
        for (sum, weights) in sums.iter_mut().zip(weights.as_chunks::<4>().0) {
            for (weight, value) in weights.iter().zip(values) {
                *sum += i32::from(*weight) * i32::from(value);
            }
        }
        sums
    }

    #[inline(always)]
    fn dot_lanes(self, mut sums: Self::I32s, weights: Self::Bytes, values: Self::Bytes) -> Self::I32s {
        let lanes = weights.as_chunks::<4>().0.iter().zip(values.as_chunks::<4>().0);
        for (sum, (weights, values)) in sums.iter_mut().zip(lanes) {
            for (weight, value) in weights.iter().zip(values) {
                *sum += i32::from(*weight) * i32::from(*value as i8);
            }
        }
        sums
    }
}
