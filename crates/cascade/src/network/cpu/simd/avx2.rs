//! [`Simd`] with AVX2, with or without AVX-VNNI. A vector occupies two registers.

use std::arch::x86_64::*;

use super::{LANES, Simd};

/// AVX2, FMA and F16C; also AVX-VNNI if `VNNI` is true.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2<const VNNI: bool>(());

impl<const VNNI: bool> Avx2<VNNI> {
    /// Returns a value if the CPU supports all required features.
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && (!VNNI || is_x86_feature_detected!("avxvnni"));
        has.then_some(Self(()))
    }
}

/// Returns the sum of 32 signed bytes.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn sum_bytes(bytes: __m256i) -> i32 {
    // SAFETY: only methods of `Simd` types call this function, and a value of such a type proves AVX2 support.
    unsafe {
        let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
        let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
        let sums = _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256::<1>(fours));
        let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0b_01_00_11_10>(sums));
        _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_shuffle_epi32::<0b_10_11_00_01>(sums)))
    }
}

fn word(values: [i8; 4]) -> i32 {
    i32::from_ne_bytes(values.map(|value| value as u8))
}

// SAFETY of all blocks below: `self` exists, so the CPU supports the instructions; every pointer comes from an array as
// long as the access; all loads and stores permit unaligned addresses.
#[allow(unsafe_code, clippy::undocumented_unsafe_blocks)]
impl<const VNNI: bool> Simd for Avx2<VNNI> {
    type F32s = [__m256; 2];
    type I32s = [__m256i; 2];
    type Bytes = [__m256i; 2];

    const ROWS: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> [__m256; 2] {
        [unsafe { _mm256_set1_ps(x) }; 2]
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> [__m256; 2] {
        unsafe { [_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))] }
    }

    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> [__m256; 2] {
        let half = |i: usize| unsafe { _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().add(8 * i).cast())) };
        [half(0), half(1)]
    }

    #[inline(always)]
    fn store(self, x: [__m256; 2], to: &mut [f32; LANES]) {
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), x[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), x[1]);
        }
    }

    #[inline(always)]
    fn mul(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn fma(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }

    #[inline(always)]
    fn max(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn to_f32(self, sums: [__m256i; 2]) -> [__m256; 2] {
        unsafe { [_mm256_cvtepi32_ps(sums[0]), _mm256_cvtepi32_ps(sums[1])] }
    }

    #[inline(always)]
    fn max_abs(self, [[a, b], [c, d]]: [[__m256; 2]; 2]) -> f32 {
        unsafe {
            let abs = |x| _mm256_andnot_ps(_mm256_set1_ps(-0.0), x);
            let max = _mm256_max_ps(_mm256_max_ps(abs(a), abs(b)), _mm256_max_ps(abs(c), abs(d)));
            let max = _mm_max_ps(_mm256_castps256_ps128(max), _mm256_extractf128_ps::<1>(max));
            let max = _mm_max_ps(max, _mm_movehl_ps(max, max));
            _mm_cvtss_f32(_mm_max_ss(max, _mm_movehdup_ps(max)))
        }
    }

    #[inline(always)]
    fn quantise(self, x: [[__m256; 2]; 2], to: &mut [i8; 2 * LANES]) -> i32 {
        unsafe {
            let pairs = x.map(|[low, high]| _mm256_packs_epi32(_mm256_cvtps_epi32(low), _mm256_cvtps_epi32(high)));
            // Pack instructions process each 128-bit half separately. The permutation restores the order of the values.
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            let rounded = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(pairs[0], pairs[1]), order);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), rounded);
            sum_bytes(rounded)
        }
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> [__m256i; 2] {
        [unsafe { _mm256_set1_epi32(x) }; 2]
    }

    #[inline(always)]
    fn load_i32(self, x: &[i32; LANES]) -> [__m256i; 2] {
        unsafe { [_mm256_loadu_si256(x.as_ptr().cast()), _mm256_loadu_si256(x.as_ptr().add(8).cast())] }
    }

    #[inline(always)]
    fn load_bytes(self, x: &[u8; 4 * LANES]) -> [__m256i; 2] {
        unsafe { [_mm256_loadu_si256(x.as_ptr().cast()), _mm256_loadu_si256(x.as_ptr().add(32).cast())] }
    }

    #[inline(always)]
    fn split_nibbles(self, x: [__m256i; 2]) -> [[__m256i; 2]; 2] {
        unsafe {
            let low = _mm256_set1_epi8(15);
            let high = |x| _mm256_and_si256(_mm256_srli_epi16::<4>(x), low);
            [[_mm256_and_si256(x[0], low), _mm256_and_si256(x[1], low)], [high(x[0]), high(x[1])]]
        }
    }

    // A product of a nibble with an int8 is at most 15 * 128 in magnitude, so the sum of two products fits in 16 bits.
    #[inline(always)]
    fn dot_nibbles(self, sums: [__m256i; 2], weights: [__m256i; 2], values: [i8; 4]) -> [__m256i; 2] {
        if VNNI {
            return self.dot_bytes(sums, weights, values);
        }
        unsafe {
            let values = _mm256_set1_epi32(word(values));
            let add = |sum, weights| {
                let pairs = _mm256_maddubs_epi16(weights, values);
                _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
            };
            [add(sums[0], weights[0]), add(sums[1], weights[1])]
        }
    }

    #[inline(always)]
    fn dot_bytes(self, sums: [__m256i; 2], weights: [__m256i; 2], values: [i8; 4]) -> [__m256i; 2] {
        self.dot_lanes(sums, weights, [unsafe { _mm256_set1_epi32(word(values)) }; 2])
    }

    // Without VNNI, computes `weight * value` as `(weight - 128) * value + 128 * value`. The first product is at most
    // 128 * 127 in magnitude, so the sum of two such products fits in 16 bits.
    #[inline(always)]
    fn dot_lanes(self, sums: [__m256i; 2], weights: [__m256i; 2], values: [__m256i; 2]) -> [__m256i; 2] {
        if VNNI {
            let dot = |sum, weights, values| unsafe { _mm256_dpbusd_avx_epi32(sum, weights, values) };
            return [dot(sums[0], weights[0], values[0]), dot(sums[1], weights[1], values[1])];
        }
        unsafe {
            let add = |sum, weights, values| {
                let weights = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
                let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(values, weights));
                let dot = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
                let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), values);
                let offset = _mm256_madd_epi16(pairs, _mm256_set1_epi16(128));
                _mm256_add_epi32(_mm256_add_epi32(sum, dot), offset)
            };
            [add(sums[0], weights[0], values[0]), add(sums[1], weights[1], values[1])]
        }
    }
}
