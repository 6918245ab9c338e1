//! The inner loops of the int8 product: one tile of 16 outputs for a run of rows.

use std::ops::Range;

use super::{BLOCK, Block, Rows, TILE};
use crate::network::cpu::Isa;

/// Computes a tile's 16 sums for each of `range`'s rows and hands them to `write`.
#[inline]
pub(super) fn tile(
    isa: Isa,
    blocks: &[Block],
    rows: &Rows,
    range: Range<usize>,
    write: impl Fn(usize, [f32; TILE]),
) {
    assert!(range.end <= rows.count && blocks.len() * BLOCK == rows.width);
    let mut row = range.start;
    while row < range.end {
        let sums: ([[f32; TILE]; 8], usize) = match range.end - row {
            8.. => (several::<8>(isa, blocks, rows, row), 8),
            4.. => (several::<4>(isa, blocks, rows, row), 4),
            2.. => (several::<2>(isa, blocks, rows, row), 2),
            _ => (several::<1>(isa, blocks, rows, row), 1),
        };
        for (m, sums) in sums.0.into_iter().take(sums.1).enumerate() {
            write(row + m, sums);
        }
        row += sums.1;
    }
}

/// The sums of `M` rows from `first` on; what is past them is 0.
#[inline]
fn several<const M: usize>(isa: Isa, blocks: &[Block], rows: &Rows, first: usize) -> [[f32; TILE]; 8] {
    let mut sums = [[0.0; TILE]; 8];
    match isa {
        // SAFETY: the CPU has what `isa` says; `tile` checked that the rows are there.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Isa::Avx512Vnni => unsafe { x86::vnni::<M>(blocks, rows, first, &mut sums) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Isa::Avx2 => unsafe { x86::avx2::<M>(blocks, rows, first, &mut sums) },
        Isa::Portable => portable::<M>(blocks, rows, first, &mut sums),
    }
    sums
}

fn portable<const M: usize>(blocks: &[Block], rows: &Rows, first: usize, sums: &mut [[f32; TILE]; 8]) {
    for (column, block) in blocks.iter().enumerate() {
        for (m, sums) in sums.iter_mut().take(M).enumerate() {
            let at = (first + m) * blocks.len() + column;
            let x = &rows.values[at * BLOCK..(at + 1) * BLOCK];
            for (out, sum) in sums.iter_mut().enumerate() {
                let mut dot = rows.offsets[at];
                for (i, nibbles) in block.nibbles.iter().enumerate() {
                    for j in 0..4 {
                        let nibbles = nibbles[4 * out + j];
                        dot += i32::from(nibbles & 15) * i32::from(x[8 * i + j]);
                        dot += i32::from(nibbles >> 4) * i32::from(x[8 * i + 4 + j]);
                    }
                }
                *sum = (dot as f32).mul_add(block.scales[out] * rows.scales[at], *sum);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, Block, Rows, TILE};

    /// Four activations as one word.
    ///
    /// # Safety
    /// `at + 4` values must be there.
    #[inline(always)]
    unsafe fn four(values: *const i8, at: usize) -> i32 {
        // SAFETY: promised by the caller.
        unsafe { values.add(at).cast::<i32>().read_unaligned() }
    }

    /// # Safety
    /// The rows `first..first + M` must be there, each of `blocks.len()` blocks.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    pub(super) unsafe fn vnni<const M: usize>(
        blocks: &[Block],
        rows: &Rows,
        first: usize,
        sums: &mut [[f32; TILE]; 8],
    ) {
        let low = _mm512_set1_epi8(15);
        let mut totals = [_mm512_setzero_ps(); M];
        for (column, block) in blocks.iter().enumerate() {
            let mut dots = [_mm512_setzero_si512(); M];
            for (m, dot) in dots.iter_mut().enumerate() {
                *dot = _mm512_set1_epi32(rows.offsets[(first + m) * blocks.len() + column]);
            }
            for (i, nibbles) in block.nibbles.iter().enumerate() {
                // SAFETY: 64 bytes, aligned as the block is.
                let nibbles = unsafe { _mm512_load_si512(nibbles.as_ptr().cast()) };
                let even = _mm512_and_si512(nibbles, low);
                let odd = _mm512_and_si512(_mm512_srli_epi16::<4>(nibbles), low);
                for (m, dot) in dots.iter_mut().enumerate() {
                    let at = ((first + m) * blocks.len() + column) * BLOCK + 8 * i;
                    // SAFETY: the row is there, promised by the caller.
                    let (x, y) =
                        unsafe { (four(rows.values.as_ptr(), at), four(rows.values.as_ptr(), at + 4)) };
                    *dot = _mm512_dpbusd_epi32(*dot, even, _mm512_set1_epi32(x));
                    *dot = _mm512_dpbusd_epi32(*dot, odd, _mm512_set1_epi32(y));
                }
            }
            // SAFETY: 16 floats.
            let scales = unsafe { _mm512_loadu_ps(block.scales.as_ptr()) };
            for (m, (total, dot)) in totals.iter_mut().zip(dots).enumerate() {
                let scale = _mm512_set1_ps(rows.scales[(first + m) * blocks.len() + column]);
                *total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(scales, scale), *total);
            }
        }
        for (sums, total) in sums.iter_mut().zip(totals) {
            // SAFETY: 16 floats.
            unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), total) };
        }
    }

    /// Two halves of 8 outputs. A product of a nibble with an int8 is at most 15 * 127, so pairs fit 16 bits.
    ///
    /// # Safety
    /// The rows `first..first + M` must be there, each of `blocks.len()` blocks.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2<const M: usize>(
        blocks: &[Block],
        rows: &Rows,
        first: usize,
        sums: &mut [[f32; TILE]; 8],
    ) {
        let low = _mm256_set1_epi8(15);
        let ones = _mm256_set1_epi16(1);
        for half in 0..2 {
            let mut totals = [_mm256_setzero_ps(); M];
            for (column, block) in blocks.iter().enumerate() {
                let mut dots = [_mm256_setzero_si256(); M];
                for (m, dot) in dots.iter_mut().enumerate() {
                    *dot = _mm256_set1_epi32(rows.offsets[(first + m) * blocks.len() + column]);
                }
                for (i, nibbles) in block.nibbles.iter().enumerate() {
                    // SAFETY: the half's 32 bytes of 64.
                    let nibbles = unsafe { _mm256_loadu_si256(nibbles.as_ptr().add(32 * half).cast()) };
                    let even = _mm256_and_si256(nibbles, low);
                    let odd = _mm256_and_si256(_mm256_srli_epi16::<4>(nibbles), low);
                    for (m, dot) in dots.iter_mut().enumerate() {
                        let at = ((first + m) * blocks.len() + column) * BLOCK + 8 * i;
                        // SAFETY: the row is there, promised by the caller.
                        let (x, y) =
                            unsafe { (four(rows.values.as_ptr(), at), four(rows.values.as_ptr(), at + 4)) };
                        let pairs = _mm256_add_epi16(
                            _mm256_maddubs_epi16(even, _mm256_set1_epi32(x)),
                            _mm256_maddubs_epi16(odd, _mm256_set1_epi32(y)),
                        );
                        *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(pairs, ones));
                    }
                }
                // SAFETY: the half's 8 floats of 16.
                let scales = unsafe { _mm256_loadu_ps(block.scales.as_ptr().add(8 * half)) };
                for (m, (total, dot)) in totals.iter_mut().zip(dots).enumerate() {
                    let scale = _mm256_set1_ps(rows.scales[(first + m) * blocks.len() + column]);
                    *total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(scales, scale), *total);
                }
            }
            for (sums, total) in sums.iter_mut().zip(totals) {
                // SAFETY: the half's 8 floats of 16.
                unsafe { _mm256_storeu_ps(sums.as_mut_ptr().add(8 * half), total) };
            }
        }
    }
}
