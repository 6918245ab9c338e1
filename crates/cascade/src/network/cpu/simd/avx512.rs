//! [`Simd`] with AVX-512 VNNI. A vector occupies one register.

use std::arch::x86_64::*;

use super::{ActivationBlock, LANES, Simd, avx2};

/// AVX-512 F, BW, VL, DQ and VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// Returns a value if the CPU supports all required features.
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

// SAFETY of all blocks below: `self` exists, so the CPU supports the instructions; every pointer comes from an array as
// long as the access; all loads and stores permit unaligned addresses.
#[allow(unsafe_code, clippy::undocumented_unsafe_blocks)]
impl Simd for Avx512 {
    type F32s = __m512;
    type I32s = __m512i;
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
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn to_f32(self, sums: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(sums) }
    }

    #[inline(always)]
    fn max_abs(self, x: [__m512; 2]) -> f32 {
        unsafe { _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(x[0]), _mm512_abs_ps(x[1]))) }
    }

    #[inline(always)]
    fn quantise(self, x: [__m512; 2], to: &mut [i8; 2 * LANES]) -> i32 {
        unsafe {
            let rounded = x.map(|x| _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
            let rounded = _mm256_set_m128i(rounded[1], rounded[0]);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), rounded);
            avx2::sum_bytes(rounded)
        }
    }

    #[inline(always)]
    fn quantise_blocks(self, x: &[[f32; 2 * LANES]; LANES], to: &mut [ActivationBlock; LANES]) {
        unsafe { quantise_blocks(x, to) }
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(x) }
    }

    #[inline(always)]
    fn load_i32(self, x: &[i32; LANES]) -> __m512i {
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }

    #[inline(always)]
    fn load_bytes(self, x: &[u8; 4 * LANES]) -> __m512i {
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }

    #[inline(always)]
    fn split_nibbles(self, x: __m512i) -> [__m512i; 2] {
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

/// Implements [`Simd::quantise_blocks`]. Divisions, maxima and sums are computed for all 16 blocks together.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn quantise_blocks(x: &[[f32; 2 * LANES]; LANES], to: &mut [ActivationBlock; LANES]) {
    let max = max_abs_of_each(x);
    let whole = _mm512_set1_ps(127.0);
    let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(max, _mm512_setzero_ps());
    let scales = lanes(_mm512_castps_si512(_mm512_div_ps(max, whole)));
    let steps = lanes(_mm512_castps_si512(_mm512_maskz_div_ps(positive, whole, max)));
    let mut sums = [_mm512_setzero_si512(); LANES / 2];
    for (i, sums) in sums.iter_mut().enumerate() {
        let steps = [steps[2 * i], steps[2 * i + 1]].map(|bits| f32::from_bits(bits as u32));
        let rounded = quantise_two([&x[2 * i], &x[2 * i + 1]], steps);
        store_bytes(_mm512_castsi512_si256(rounded), &mut to[2 * i].values);
        store_bytes(_mm512_extracti64x4_epi64::<1>(rounded), &mut to[2 * i + 1].values);
        // Adds 128 to each byte by flipping its sign bit: `_mm512_sad_epu8` adds unsigned bytes. `bias` corrects this.
        let unsigned = _mm512_xor_si512(rounded, _mm512_set1_epi8(-128));
        *sums = _mm512_sad_epu8(unsigned, _mm512_setzero_si512());
    }
    let bias = _mm512_set1_epi32(128 * 128 * 2 * LANES as i32);
    let offsets = lanes(_mm512_sub_epi32(bias, _mm512_slli_epi32::<7>(sum_of_each(sums))));
    for ((to, scale), offset) in to.iter_mut().zip(scales).zip(offsets) {
        (to.scale, to.offset) = (f32::from_bits(scale as u32), offset);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn halves(x: &[f32; 2 * LANES]) -> [__m512; 2] {
    // SAFETY: `x` is as long as the two loads.
    #[allow(unsafe_code)]
    unsafe {
        [_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(LANES))]
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn lanes(x: __m512i) -> [i32; LANES] {
    let mut lanes = [0; LANES];
    // SAFETY: `lanes` is as long as the store.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_storeu_si512(lanes.as_mut_ptr().cast(), x);
    }
    lanes
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_bytes(x: __m256i, to: &mut [i8; 2 * LANES]) {
    // SAFETY: `to` is as long as the store.
    #[allow(unsafe_code)]
    unsafe {
        _mm256_storeu_si256(to.as_mut_ptr().cast(), x);
    }
}

/// Returns the largest absolute value of each of 16 blocks. Each of four rounds interleaves pairs of vectors and takes
/// the lane-wise maximum.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn max_abs_of_each(x: &[[f32; 2 * LANES]; LANES]) -> __m512 {
    let (four, _) = x.as_chunks();
    let a = max_halves(max_abs_of_four(&four[0]), max_abs_of_four(&four[1]));
    let b = max_halves(max_abs_of_four(&four[2]), max_abs_of_four(&four[3]));
    let even = _mm512_shuffle_f32x4::<0b_10_00_10_00>(a, b);
    _mm512_max_ps(even, _mm512_shuffle_f32x4::<0b_11_01_11_01>(a, b))
}

/// Reduces four blocks: each 128-bit lane of the result contains, for every block, the maximum over a quarter of it.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn max_abs_of_four([a, b, c, d]: &[[f32; 2 * LANES]; 4]) -> __m512 {
    let (a, b) = (max_abs_of_two(a, b), max_abs_of_two(c, d));
    let low = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
    _mm512_max_ps(low, _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn max_abs_of_two(a: &[f32; 2 * LANES], b: &[f32; 2 * LANES]) -> __m512d {
    let ([a, other_a], [b, other_b]) = (halves(a), halves(b));
    let a = _mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(other_a));
    let b = _mm512_max_ps(_mm512_abs_ps(b), _mm512_abs_ps(other_b));
    _mm512_castps_pd(_mm512_max_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn max_halves(a: __m512, b: __m512) -> __m512 {
    let low = _mm512_shuffle_f32x4::<0b_01_00_01_00>(a, b);
    _mm512_max_ps(low, _mm512_shuffle_f32x4::<0b_11_10_11_10>(a, b))
}

/// Multiplies two blocks by their `steps` and rounds them to int8.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn quantise_two([a, b]: [&[f32; 2 * LANES]; 2], steps: [f32; 2]) -> __m512i {
    let (a, b) = (quantise_to_i16(a, steps[0]), quantise_to_i16(b, steps[1]));
    // Pack instructions process each 128-bit lane separately. The permutation restores the order of the values.
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_permutexvar_epi32(order, _mm512_packs_epi16(a, b))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn quantise_to_i16(x: &[f32; 2 * LANES], steps: f32) -> __m512i {
    let ([a, b], steps) = (halves(x), _mm512_set1_ps(steps));
    let a = _mm512_cvtps_epi32(_mm512_mul_ps(a, steps));
    _mm512_packs_epi32(a, _mm512_cvtps_epi32(_mm512_mul_ps(b, steps)))
}

/// Adds the four partial sums of each block. Each input vector contains the partial sums of two blocks.
#[inline]
#[target_feature(enable = "avx512f")]
fn sum_of_each([a, b, c, d, e, f, g, h]: [__m512i; LANES / 2]) -> __m512i {
    let first = pack_pairs(add_neighbours(a, b), add_neighbours(c, d));
    let second = pack_pairs(add_neighbours(e, f), add_neighbours(g, h));
    let even = _mm512_shuffle_i32x4::<0b_10_00_10_00>(first, second);
    let mixed = _mm512_add_epi32(even, _mm512_shuffle_i32x4::<0b_11_01_11_01>(first, second));
    let order = _mm512_setr_epi32(0, 4, 2, 6, 1, 5, 3, 7, 8, 12, 10, 14, 9, 13, 11, 15);
    _mm512_permutexvar_epi32(order, mixed)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add_neighbours(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
}

/// Packs two vectors of 64-bit sums into one vector of 32-bit sums. Every sum must fit in 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn pack_pairs(a: __m512i, b: __m512i) -> __m512i {
    _mm512_or_si512(a, _mm512_slli_epi64::<32>(b))
}
