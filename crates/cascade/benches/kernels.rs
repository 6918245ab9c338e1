//! The kernels on one thread, and the roof that they stand under.
//!
//! `cargo bench -p c3-cascade --bench kernels`

use c3_cascade::{Kernels, bench};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

fn main() {
    divan::main();
}

/// Weights of the default model: queries, keys and values; gate; down; head.
const SHAPES: [[usize; 2]; 4] = [[960, 576], [1536, 576], [576, 1536], [16_384, 576]];
const KERNELS: [Kernels; 4] = [Kernels::Avx512, Kernels::AvxVnni, Kernels::Avx2, Kernels::Portable];

/// Multiply-adds a second of a product.
fn product(bencher: Bencher<'_, '_>, shape: [usize; 2], q8: bool, rows: usize, kernels: Kernels) {
    if let Ok(mut product) = bench::Product::new(shape, q8, rows, kernels) {
        bencher.counter(ItemsCount::new(shape[0] * shape[1] * rows)).bench_local(|| product.run());
    }
}

#[divan::bench(args = SHAPES, consts = [1, 8, 64])]
fn q4_0<const ROWS: usize>(bencher: Bencher<'_, '_>, shape: [usize; 2]) {
    product(bencher, shape, false, ROWS, Kernels::Auto);
}

#[divan::bench(args = SHAPES, consts = [64])]
fn q8_0<const ROWS: usize>(bencher: Bencher<'_, '_>, shape: [usize; 2]) {
    product(bencher, shape, true, ROWS, Kernels::Auto);
}

#[divan::bench(args = KERNELS)]
fn by_kernels(bencher: Bencher<'_, '_>, kernels: Kernels) {
    product(bencher, SHAPES[1], false, 64, kernels);
}

/// Multiply-adds a second of all threads, where nothing is loaded or stored.
#[divan::bench]
fn peak(bencher: Bencher<'_, '_>) {
    const ROUNDS: usize = 100_000;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let macs = ItemsCount::new(ROUNDS * bench::PEAK_MACS * threads);
    bencher.counter(macs).bench_local(|| bench::peak(Kernels::Auto, ROUNDS));
}

/// Bytes a second that one thread reads from memory.
#[divan::bench]
fn memory(bencher: Bencher<'_, '_>) {
    let numbers = vec![1u64; 32 << 20];
    bencher
        .counter(BytesCount::of_slice(&numbers))
        .bench_local(|| numbers.iter().fold(0u64, |sum, number| sum.wrapping_add(*number)));
}
