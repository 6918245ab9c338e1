//! Comparison of all kernels with a CPU, over windows of many sizes and batches of many numbers.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use c3_cascade::{DeviceChoice, Dtype, Kernels, Latents, Options, Source, TokenVerdict, TokenWindow};

use super::{RATIO, options};
use crate::harness::fixtures::Corpus;
use crate::harness::golden::relative_error;
use crate::harness::quantity::Quantity;
use crate::harness::random_checkpoint::{self, Shape};
use crate::suites::speed::stages::Stages;

/// Tokens of the windows: around the limits of blocks, tiles and warps.
const WINDOW_TOKENS: [usize; 12] = [65, 2, 1, 15, 16, 19, 20, 21, 33, 128, 300, 640];
/// Windows per batch. One and four rows per step have kernels of their own.
const BATCHES: [usize; 3] = [1, 4, 12];
/// Ratios of the default model, in text tokens per latent.
const RATIOS: [usize; 3] = [20, 10, 80];
/// Latents per window of the random checkpoints.
const LATENTS: usize = 32;
/// Random checkpoints with the head widths 16, 64 and 128. They differ in what their kernels support.
const SHAPES: [Shape; 3] = [
    Shape { hidden: 64, layers: 2, heads: 4, key_heads: 2, intermediate: 160, vocabulary: 16384 },
    Shape { hidden: 192, layers: 2, heads: 3, key_heads: 1, intermediate: 512, vocabulary: 16384 },
    Shape { hidden: 256, layers: 2, heads: 2, key_heads: 1, intermediate: 704, vocabulary: 16384 },
];
/// Data types with the maximum error of latents and logit margins, relative to f32 on a CPU in the Euclidean norm.
const DTYPES: [(Dtype, &str, f64); 3] =
    [(Dtype::F32, "f32", 1e-4), (Dtype::F16, "f16", 0.01), (Dtype::Bf16, "bf16", 0.05)];
/// A token that the GPU decodes may have a lower logit on the CPU than another, by at most this many times the
/// tolerance, relative to the root mean square of margins.
const DEVIATIONS: f64 = 6.0;
/// Tools of compute-sanitizer that look for faults in all kernels, with the line that reports none.
const TOOLS: [(&str, &str); 2] = [("memcheck", "ERROR SUMMARY: 0 errors"), ("synccheck", "ERROR SUMMARY: 0 errors")];
/// Beginning of the names of cuBLAS' kernels for Hopper. racecheck finds races in them too, and crashes if it is told
/// to exclude them.
const CUBLAS_KERNELS: &str = "nvjet";

/// Extent of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Number of [`WINDOW_TOKENS`], [`BATCHES`] and [`RATIOS`], from the first on.
    windows: usize,
    batches: usize,
    ratios: usize,
    /// True to compare each of [`SHAPES`] in each of [`DTYPES`]; false to compare each in one of them.
    all_dtypes: bool,
}

/// All windows, batches, ratios and data types.
pub const WHOLE: Extent =
    Extent { windows: WINDOW_TOKENS.len(), batches: BATCHES.len(), ratios: RATIOS.len(), all_dtypes: true };
/// Enough to run each kernel or another instance of the same template, for tools that slow a program down a lot.
pub const SMALL: Extent = Extent { windows: 2, batches: 1, ratios: 1, all_dtypes: false };

/// Compares the kernels with a CPU. The int8 decoder must agree bit for bit, all other results within tolerances.
pub fn agreement(corpus: Corpus, extent: Extent) -> Result<Vec<Quantity>> {
    let Some(on_gpu) = options() else {
        return Ok(vec![Quantity::skipped("kernels", "NVIDIA GPU", "as on a CPU")]);
    };
    let mut quantities = int8(corpus, extent, on_gpu)?;
    for (number, shape) in SHAPES.into_iter().enumerate() {
        let folder = random_checkpoint::write(corpus, shape, shape, LATENTS)?;
        let on_cpu = Options { device: DeviceChoice::Cpu, dtype: Dtype::F32, ..Default::default() };
        let cpu = Stages::of(Source::Folder(folder.path()), &on_cpu)?;
        let dtypes = if extent.all_dtypes { &DTYPES[..] } else { &DTYPES[number..=number] };
        for &(dtype, name, tolerance) in dtypes {
            let gpu = Stages::of(Source::Folder(folder.path()), &Options { dtype, ..on_gpu })?;
            let name = format!("kernels-{name}-{}", shape.hidden / shape.heads);
            let windows = windows(&cpu, corpus, RATIO, extent)?;
            quantities.extend(dense(&windows, extent, [&cpu, &gpu], &name, tolerance)?);
        }
    }
    Ok(quantities)
}

/// Runs [`agreement`] to the extent [`SMALL`] under compute-sanitizer, which must find nothing in our kernels.
pub fn sanitizer() -> Result<Vec<Quantity>> {
    let installed = Command::new("compute-sanitizer").arg("--version").output().is_ok();
    if options().is_none() || !installed {
        return Ok(vec![Quantity::skipped("sanitizer", "NVIDIA GPU or compute-sanitizer", "no findings")]);
    }
    let mut quantities = Vec::new();
    for (tool, clean) in TOOLS {
        let (succeeded, printed) = sanitize(tool)?;
        let findings: Vec<&str> = printed.lines().filter(|line| line.starts_with("=========")).take(40).collect();
        let found = succeeded && printed.contains(clean);
        quantities.push(Quantity::observed(format!("sanitizer-{tool}"), findings, found, clean));
    }
    let (_, printed) = sanitize("racecheck")?;
    ensure!(printed.contains("RACECHECK SUMMARY") && !printed.contains("Internal Sanitizer Error"), "{printed}");
    let (ours, cublas) = races(&printed);
    quantities.push(Quantity::observed("sanitizer-racecheck", &ours, ours.is_empty(), "no race in our kernels"));
    quantities.push(Quantity::reported("sanitizer-racecheck-cublas", cublas as f64));
    Ok(quantities)
}

/// Runs `kernels-small` under a tool of compute-sanitizer. Returns whether it succeeded, and all that it printed.
fn sanitize(tool: &str) -> Result<(bool, String)> {
    let mut command = Command::new("compute-sanitizer");
    command.args(["--tool", tool, "--print-limit", "1000"]).arg(std::env::current_exe()?);
    let output =
        command.args(["speed-gpu", "kernels-small"]).output().context("compute-sanitizer cannot be started")?;
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Ok((output.status.success(), printed.into_owned()))
}

/// Returns the lines of racecheck that report a race in our kernels, and the number of those about cuBLAS.
fn races(printed: &str) -> (Vec<&str>, usize) {
    let reported = printed.lines().filter(|line| line.contains("Race reported"));
    let is_cublas = |line: &&str| line.contains(&format!(" at {CUBLAS_KERNELS}"));
    let (cublas, ours): (Vec<_>, Vec<_>) = reported.partition(is_cublas);
    (ours, cublas.len())
}

/// Cuts windows of the first [`WINDOW_TOKENS`] from a text.
fn windows(stages: &Stages, corpus: Corpus, ratio: usize, extent: Extent) -> Result<Vec<TokenWindow>> {
    let text = corpus.whole_book("dickens-and-music")?;
    let long = stages.windows(&text, ratio, extent.windows)?;
    let cut = |(window, tokens): (TokenWindow, usize)| {
        let tokens = window.tokens[..tokens.min(window.tokens.len())].to_vec();
        TokenWindow { tokens, ..window }
    };
    ensure!(long.len() == extent.windows, "the text has only {} windows", long.len());
    Ok(long.into_iter().zip(WINDOW_TOKENS).map(cut).collect())
}

/// Compares the default model: its compressor within a tolerance, its decoder bit for bit.
fn int8(corpus: Corpus, extent: Extent, on_gpu: Options) -> Result<Vec<Quantity>> {
    let (cpu, gpu) = (Stages::served(Kernels::Auto)?, Stages::load(on_gpu)?);
    let (mut error, mut verdicts, mut texts) = (0.0f64, 0, 0);
    for &ratio in &RATIOS[..extent.ratios] {
        let windows = windows(&cpu, corpus, ratio, extent)?;
        for &batch in &BATCHES[..extent.batches] {
            for windows in windows.chunks(batch) {
                let latents = cpu.stored(windows)?;
                error = error.max(relative_error(&values(&gpu.compress(windows)?), &values(&cpu.compress(windows)?)));
                let (ours, reference) = (gpu.verify(windows, &latents)?, cpu.verify(windows, &latents)?);
                verdicts += ours.iter().flatten().zip(reference.iter().flatten()).filter(|(a, b)| a != b).count();
                let (ours, reference) = (gpu.decode(windows, &latents, 1)?, cpu.decode(windows, &latents, 0)?);
                texts += ours.iter().zip(&reference).filter(|(a, b)| a != b).count();
            }
        }
    }
    Ok(vec![
        Quantity::at_most("kernels-default-compress-error", error, 0.03),
        Quantity::equal("kernels-int8-verdicts", verdicts, 0),
        Quantity::equal("kernels-int8-texts", texts, 0),
    ])
}

/// Compares a random checkpoint. Tokens that the GPU decodes must be the best on the CPU too, or nearly so.
fn dense(
    windows: &[TokenWindow],
    extent: Extent,
    [cpu, gpu]: [&Stages; 2],
    name: &str,
    tolerance: f64,
) -> Result<Vec<Quantity>> {
    let latents = cpu.compress(windows)?;
    let reference = margins(&cpu.verify(windows, &latents)?);
    let scale = (reference.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / reference.len() as f64).sqrt();
    let (mut of_latents, mut of_margins, mut lead) = (0.0f64, 0.0f64, 0.0f64);
    for &batch in &BATCHES[..extent.batches] {
        let (mut ours, mut own_margins) = (Vec::new(), Vec::new());
        for (windows, latents) in windows.chunks(batch).zip(latents.chunks(batch)) {
            ours.extend(gpu.compress(windows)?);
            own_margins.extend(margins(&gpu.verify(windows, latents)?));
            let decoded = gpu.decode(windows, latents, 1)?.into_iter().zip(windows);
            let decoded: Vec<_> = decoded.map(|(tokens, window)| TokenWindow { tokens, ..window.clone() }).collect();
            let by_cpu = margins(&cpu.verify(&decoded, latents)?);
            lead = by_cpu.into_iter().map(|margin| f64::from(-margin) / scale).fold(lead, f64::max);
        }
        of_latents = of_latents.max(relative_error(&values(&ours), &values(&latents)));
        of_margins = of_margins.max(relative_error(&own_margins, &reference));
    }
    Ok(vec![
        Quantity::at_most(format!("{name}-compress-error"), of_latents, tolerance),
        Quantity::at_most(format!("{name}-margins-error"), of_margins, tolerance),
        Quantity::at_most(format!("{name}-decode-lead"), lead, DEVIATIONS * tolerance),
    ])
}

fn values(latents: &[Latents]) -> Vec<f32> {
    latents.iter().flat_map(|latents| latents.values.iter().copied()).collect()
}

fn margins(verdicts: &[Vec<TokenVerdict>]) -> Vec<f32> {
    verdicts.iter().flatten().map(|verdict| verdict.margin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn races_in_our_kernels_are_told_from_those_in_cublas() {
        let printed = "========= COMPUTE-SANITIZER\n\
            ========= Error: Race reported between Write access at int8_gemm_small+0x1ed0\n\
            =========     and Read access at int8_gemm_small+0x2250 [1920 hazards]\n\
            ========= Error: Race reported between Read access at nvjet_sm90_hss_64x8_64x16_2x4_h_badd_TNT+0xb00\n\
            =========     and Write access at nvjet_sm90_hss_64x8_64x16_2x4_h_badd_TNT+0x2840 [480 hazards]\n\
            ========= RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)\n";
        let (ours, cublas) = races(printed);
        assert_eq!((ours.len(), cublas), (1, 1));
        assert!(ours[0].contains("int8_gemm_small"), "{ours:?}");
    }
}
