//! AVX-512 with VNNI: one register a vector.

use std::arch::x86_64::*;

use super::{LANES, Simd, avx2};

/// AVX-512 F, BW, VL, DQ and VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// Where the CPU has all of it.
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Self(()))
    }
}

// SAFETY of all blocks below: `self` exists, so the CPU has the instructions; pointers come from arrays of the length
// that is read or written, and none of these loads and stores needs alignment.
#[allow(unsafe_code, clippy::undocumented_unsafe_blocks)]
impl Simd for Avx512 {
    type Floats = __m512;
    type Sums = __m512i;
    type Bytes = __m512i;

    const ROWS: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> __m512 {
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }

    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())) }
    }

    #[inline(always)]
    fn store(self, x: __m512, to: &mut [f32; LANES]) {
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), x) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn floats(self, sums: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(sums) }
    }

    #[inline(always)]
    fn largest(self, x: [__m512; 2]) -> f32 {
        unsafe { _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(x[0]), _mm512_abs_ps(x[1]))) }
    }

    #[inline(always)]
    fn round(self, x: [__m512; 2], to: &mut [i8; 2 * LANES]) -> i32 {
        unsafe {
            let rounded = x.map(|x| _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
            let rounded = _mm256_set_m128i(rounded[1], rounded[0]);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), rounded);
            avx2::sum_bytes(rounded)
        }
    }

    #[inline(always)]
    fn sums(self, x: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(x) }
    }

    #[inline(always)]
    fn load_sums(self, x: &[i32; LANES]) -> __m512i {
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }

    #[inline(always)]
    fn bytes(self, x: &[u8; 4 * LANES]) -> __m512i {
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }

    #[inline(always)]
    fn nibbles(self, x: __m512i) -> [__m512i; 2] {
        unsafe {
            let low = _mm512_set1_epi8(15);
            [_mm512_and_si512(x, low), _mm512_and_si512(_mm512_srli_epi16::<4>(x), low)]
        }
    }

    #[inline(always)]
    fn dot_nibbles(self, sums: __m512i, weights: __m512i, values: [i8; 4]) -> __m512i {
        self.dot_bytes(sums, weights, values)
    }

    #[inline(always)]
    fn dot_bytes(self, sums: __m512i, weights: __m512i, values: [i8; 4]) -> __m512i {
        let values = i32::from_ne_bytes(values.map(|value| value as u8));
        unsafe { _mm512_dpbusd_epi32(sums, weights, _mm512_set1_epi32(values)) }
    }

    #[inline(always)]
    fn dot_lanes(self, sums: __m512i, weights: __m512i, values: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, weights, values) }
    }
}
