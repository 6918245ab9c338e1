//! Sixteen lanes side by side, whatever a CPU has for them.
//!
//! A kernel is written once, over [`Simd`], and compiled for each [`Isa`]. All compute the same bits: dot products of
//! bytes are exact, floats are fused multiply-adds lane by lane, and no operation mixes lanes but where their order makes
//! no difference. What a kernel sums across lanes, it sums in one order that it names.

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

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// 32 floats, rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rounded {
    /// From -127 to 127.
    pub(crate) values: [i8; 2 * LANES],
    /// What one is worth.
    pub(crate) scale: f32,
    /// -128 times the sum of the values.
    pub(crate) offset: i32,
}

/// What a kernel may use. Values of these types exist only where the CPU has the instructions.
pub(crate) trait Simd: Copy + Send + Sync {
    /// 16 floats.
    type Floats: Copy;
    /// 16 sums in i32.
    type Sums: Copy;
    /// 64 bytes, four for each of the 16 sums.
    type Bytes: Copy;

    /// Rows that a product computes at once: as many as there are registers for.
    const ROWS: usize;

    /// The same float in all lanes.
    fn splat(self, x: f32) -> Self::Floats;
    /// From memory.
    fn load(self, x: &[f32; LANES]) -> Self::Floats;
    /// From memory, where they are kept in half precision.
    fn load_f16(self, x: &[u16; LANES]) -> Self::Floats;
    /// To memory.
    fn store(self, x: Self::Floats, to: &mut [f32; LANES]);
    /// `a * b`
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// `a` where it is larger, else `b`.
    fn max(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The nearest floats.
    fn floats(self, sums: Self::Sums) -> Self::Floats;
    /// The largest magnitude of all lanes.
    fn largest(self, x: [Self::Floats; 2]) -> f32;
    /// Rounds to the nearest, ties to even, values of a magnitude of at most 127, and returns their sum.
    fn round(self, x: [Self::Floats; 2], to: &mut [i8; 2 * LANES]) -> i32;

    /// Rounds 32 values so that the largest magnitude becomes 127.
    #[inline(always)]
    fn round_block(self, x: [Self::Floats; 2], to: &mut Rounded) {
        let most = self.largest(x);
        // Side by side, so that a CPU divides once.
        let [scale, steps] = [[most, 127.0], [127.0, most]].map(|[above, below]| above / below);
        let steps = self.splat(if most > 0.0 { steps } else { 0.0 });
        let sum = self.round([self.mul(x[0], steps), self.mul(x[1], steps)], &mut to.values);
        (to.scale, to.offset) = (scale, -128 * sum);
    }

    /// The same of 16 times 32 values, for CPUs that have a faster way for many.
    #[inline(always)]
    fn round_blocks(self, x: &[[f32; 2 * LANES]; LANES], to: &mut [Rounded; LANES]) {
        for (x, to) in x.iter().zip(to) {
            let halves = x.as_chunks().0;
            self.round_block([self.load(&halves[0]), self.load(&halves[1])], to);
        }
    }

    /// The same sum in all lanes.
    fn sums(self, x: i32) -> Self::Sums;
    /// From memory.
    fn load_sums(self, x: &[i32; LANES]) -> Self::Sums;
    /// From memory.
    fn bytes(self, x: &[u8; 4 * LANES]) -> Self::Bytes;
    /// The low and the high halves of bytes.
    fn nibbles(self, x: Self::Bytes) -> [Self::Bytes; 2];
    /// Adds to each sum the product of its four `weights`, each at most 15, with the four `values`.
    fn dot_nibbles(self, sums: Self::Sums, weights: Self::Bytes, values: [i8; 4]) -> Self::Sums;
    /// Adds to each sum the product of its four `weights` with the four `values`, none of which is -128.
    fn dot_bytes(self, sums: Self::Sums, weights: Self::Bytes, values: [i8; 4]) -> Self::Sums;
    /// The same, where each sum has four `values` of its own, to be read as i8.
    fn dot_lanes(self, sums: Self::Sums, weights: Self::Bytes, values: Self::Bytes) -> Self::Sums;
}

/// The instructions that kernels use.
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
    /// What was asked for. Errors: instructions that this CPU lacks.
    pub(crate) fn choose(asked: Kernels) -> Result<Self, Error> {
        let chosen = Self::all().into_iter().find(|(name, _)| asked == Kernels::Auto || *name == asked);
        let lacks = || {
            let has: Vec<String> = Self::all().iter().map(|(name, _)| name.to_string()).collect();
            Error::Device(format!(
                "this CPU has no instructions for --kernels {asked}: it has those for {}",
                has.join(", ")
            ))
        };
        chosen.map(|(_, isa)| isa).ok_or_else(lacks)
    }

    /// All that this CPU has, the fastest first.
    pub(crate) fn all() -> Vec<(Kernels, Self)> {
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

/// Defines `$name(isa, …)`, which runs `$body(simd, …)`, an `#[inline(always)]` function over [`Simd`], compiled for
/// `isa`.
macro_rules! kernel {
    ($(#[$doc:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) = $body:path;) => {
        $(#[$doc])*
        $visibility fn $name(isa: $crate::network::host::simd::Isa, $($argument: $type),*) {
            use $crate::network::host::simd::*;
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
                // SAFETY: the CPU has what `simd` exists for, here and below.
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
        let bytes = simd.bytes(weights);
        keep(simd.floats(simd.dot_bytes(simd.sums(7), bytes, *values)));
        let lanes =
            simd.bytes(&std::array::from_fn(|i| values[i % 4].wrapping_add(i as i8 / 4).max(-127) as u8));
        keep(simd.floats(simd.dot_lanes(simd.load_sums(&std::array::from_fn(|i| i as i32)), bytes, lanes)));
        for nibbles in simd.nibbles(bytes) {
            keep(simd.floats(simd.dot_nibbles(simd.sums(-7), nibbles, *values)));
        }
        let halves = simd.load_f16(halves);
        keep(halves);
        let mixed = simd.fma(halves, simd.splat(0.1), simd.mul(halves, simd.splat(3.3)));
        keep(mixed);
        let most = simd.largest([halves, mixed]);
        keep(simd.splat(most));
        keep(simd.max(halves, mixed));
        let mut rounded = [0; 32];
        let steps = simd.splat(127.0 / most);
        let sum = simd.round([simd.mul(halves, steps), simd.mul(mixed, steps)], &mut rounded);
        keep(simd.floats(simd.sums(sum)));
        let mut bytes = rounded.to_vec();
        let mut blocks = [[0.0; 32]; 16];
        let lanes = [lanes_of(halves), lanes_of(mixed)].concat();
        for (i, block) in blocks.iter_mut().enumerate() {
            // One of zeros, and each with its largest in another place.
            *block =
                std::array::from_fn(
                    |j| if i == 5 { 0.0 } else { lanes[(i * 7 + j) % 32] / (1 + i + j) as f32 },
                );
        }
        let mut many = [Rounded::default(); 16];
        simd.round_blocks(&blocks, &mut many);
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
            for (name, isa) in Isa::all() {
                assert_eq!(of(isa), portable, "{name}");
            }
        }
    }
}
