//! Throughput of the GEMM kernels on one thread. For comparison, the CPU's peak and its memory bandwidth.
//!
//! `cargo bench -p c3-cascade --bench kernels`

use c3_cascade::{Kernels, bench};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

fn main() {
    divan::main();
}

/// Shapes `[outputs, inputs]` of weights of the default model: QKV, gate, down, LM head.
const SHAPES: [[usize; 2]; 4] = [[960, 576], [1536, 576], [576, 1536], [16_384, 576]];
const KERNELS: [Kernels; 4] = [Kernels::Avx512, Kernels::AvxVnni, Kernels::Avx2, Kernels::Portable];

/// Measures multiply-adds per second of a GEMM. Skips instruction sets that the CPU does not support.
fn gemm(bencher: Bencher<'_, '_>, shape: [usize; 2], q8: bool, rows: usize, kernels: Kernels) {
    if let Ok(mut gemm) = bench::Gemm::new(shape, q8, rows, kernels) {
        bencher.counter(ItemsCount::new(shape[0] * shape[1] * rows)).bench_local(|| gemm.run());
    }
}

#[divan::bench(args = SHAPES, consts = [1, 8, 64])]
fn q4_0<const ROWS: usize>(bencher: Bencher<'_, '_>, shape: [usize; 2]) {
    gemm(bencher, shape, false, ROWS, Kernels::Auto);
}

#[divan::bench(args = SHAPES, consts = [64])]
fn q8_0<const ROWS: usize>(bencher: Bencher<'_, '_>, shape: [usize; 2]) {
    gemm(bencher, shape, true, ROWS, Kernels::Auto);
}

#[divan::bench(args = KERNELS)]
fn by_kernels(bencher: Bencher<'_, '_>, kernels: Kernels) {
    gemm(bencher, SHAPES[1], false, 64, kernels);
}

/// Measures the peak multiply-adds per second of all threads together, without loads and stores.
#[divan::bench]
fn peak(bencher: Bencher<'_, '_>) {
    const ROUNDS: usize = 100_000;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let macs = ItemsCount::new(ROUNDS * bench::PEAK_MACS * threads);
    bencher.counter(macs).bench_local(|| bench::peak(Kernels::Auto, ROUNDS));
}

/// Measures the memory bandwidth of one thread, in bytes read per second.
#[divan::bench]
fn memory(bencher: Bencher<'_, '_>) {
    let numbers = vec![1u64; 32 << 20];
    bencher
        .counter(BytesCount::of_slice(&numbers))
        .bench_local(|| numbers.iter().fold(0u64, |sum, number| sum.wrapping_add(*number)));
}
