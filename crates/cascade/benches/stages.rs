//! Throughput of the stages with the default model, in tokens per second.
//!
//! `cargo bench -p c3-cascade --bench stages`

use std::path::Path;

use c3_cascade::{Compressor, DecodeWindow, Decoder, Latents, Options, Source, Task, TokenWindow, VerifyWindow};
use divan::Bencher;
use divan::counter::ItemsCount;

/// Number of windows, and the ratio of all windows.
type Case = [usize; 2];

fn main() {
    divan::main();
}

struct Stages {
    compressor: Compressor,
    decoder: Decoder,
    windows: Vec<TokenWindow>,
    latents: Vec<Latents>,
}

impl Stages {
    /// Loads both stages and compresses the first windows of a long text.
    fn new([count, ratio]: Case) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/c3-mini");
        let source = Source::Folder(&folder);
        let options = Options::default();
        let compressor = Compressor::load(source, &options).expect("the default model loads");
        let decoder = Decoder::load(source, &options).expect("the default model loads");
        let text = include_str!("../../../tests/fixtures/texts/chapter.txt").repeat(10);
        let mut windows = compressor.windows(&text, ratio).expect("the ratio is in range");
        windows.truncate(count);
        let latents = compressor.compress(&windows.iter().collect::<Vec<_>>()).expect("the windows are valid");
        let width = compressor.info().latent_width;
        let latents = latents.into_iter().map(|values| Latents { count: values.len() / width, values, width });
        Self { latents: latents.collect(), compressor, decoder, windows }
    }

    fn tokens(&self) -> usize {
        self.windows.iter().map(|window| window.tokens.len()).sum()
    }

    fn decode(&self) {
        let windows = self.latents.iter().zip(&self.windows).map(|(latents, window)| DecodeWindow {
            latents: latents.clone(),
            task: Task::Reconstruct { tokens: window.tokens.len(), ratio: window.ratio, corrections: Vec::new() },
        });
        let sessions: Result<Vec<_>, _> = windows.map(|window| self.decoder.start(window)).collect();
        let mut sessions = sessions.expect("the latents have the right shape");
        while sessions.iter().any(|window| !window.done()) {
            self.decoder.step(&mut sessions.iter_mut().collect::<Vec<_>>()).expect("the step succeeds");
        }
    }
}

#[divan::bench(args = [[1, 20], [8, 20], [2, 80]])]
fn compress(bencher: Bencher<'_, '_>, case: Case) {
    let stages = Stages::new(case);
    let windows: Vec<&TokenWindow> = stages.windows.iter().collect();
    bencher.counter(ItemsCount::new(stages.tokens())).bench_local(|| stages.compressor.compress(&windows));
}

/// Compresses 16 windows: of 1 to 2,560 tokens if `mixed`, otherwise of 1,280 tokens each, about the same in total.
#[divan::bench(args = [true, false])]
fn compress_mixed(bencher: Bencher<'_, '_>, mixed: bool) {
    let stages = Stages::new([1, 20]);
    let text: Vec<u32> = stages.windows[0].tokens.iter().copied().cycle().take(2560).collect();
    let length = |i: usize| if mixed { 1 + i * 7 % 16 * 2559 / 15 } else { 1280 };
    let window = |i: usize| TokenWindow { tokens: text[..length(i)].to_vec(), ratio: 80, bytes: 0..0 };
    let windows = Vec::from_iter((0..16).map(window));
    let windows: Vec<&TokenWindow> = windows.iter().collect();
    let tokens = windows.iter().map(|window| window.tokens.len()).sum::<usize>();
    bencher.counter(ItemsCount::new(tokens)).bench_local(|| stages.compressor.compress(&windows));
}

#[divan::bench(args = [[1, 20], [8, 20], [2, 80]])]
fn verify(bencher: Bencher<'_, '_>, case: Case) {
    let stages = Stages::new(case);
    let windows: Vec<_> = stages
        .latents
        .iter()
        .zip(&stages.windows)
        .map(|(latents, window)| VerifyWindow { latents, tokens: &window.tokens, ratio: window.ratio })
        .collect();
    bencher.counter(ItemsCount::new(stages.tokens())).bench_local(|| stages.decoder.verify(&windows));
}

#[divan::bench(args = [[1, 20], [4, 20], [20, 20]])]
fn decode(bencher: Bencher<'_, '_>, case: Case) {
    let stages = Stages::new(case);
    bencher.counter(ItemsCount::new(stages.tokens())).bench_local(|| stages.decode());
}
