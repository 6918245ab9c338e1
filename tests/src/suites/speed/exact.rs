//! Checks that optimisations change no bit, and that int8 arithmetic costs almost no fidelity.

use anyhow::{Context, Result};
use c3_cascade::{Kernels, Latents, TokenVerdict, TokenWindow};

use super::stages::{Stages, tokens};
use crate::harness::quantity::Quantity;

/// All results of the stages for a set of windows, with floats as bits.
#[derive(Debug, PartialEq)]
struct Outputs {
    latents: Vec<Vec<u32>>,
    margins: Vec<Vec<(u32, u32)>>,
    decoded: Vec<Vec<u32>>,
}

impl Outputs {
    fn of(latents: &[Latents], verdicts: Vec<Vec<TokenVerdict>>, decoded: Vec<Vec<u32>>) -> Self {
        let bits = |latents: &Latents| latents.values.iter().map(|value| value.to_bits()).collect();
        let margins = |verdicts: Vec<TokenVerdict>| {
            verdicts.into_iter().map(|verdict| (verdict.predicted, verdict.margin.to_bits())).collect()
        };
        Self {
            latents: latents.iter().map(bits).collect(),
            margins: verdicts.into_iter().map(margins).collect(),
            decoded,
        }
    }

    /// Computes all windows as one batch.
    fn together(stages: &Stages, windows: &[TokenWindow]) -> Result<Self> {
        let latents = stages.compress(windows)?;
        let verdicts = stages.verify(windows, &latents)?;
        Ok(Self::of(&latents, verdicts, stages.decode(windows, &latents, 0)?))
    }

    /// Compresses and verifies each window alone. Decodes them in one batch, which each window joins three steps after
    /// the previous one.
    fn apart(stages: &Stages, windows: &[TokenWindow]) -> Result<Self> {
        let (mut latents, mut verdicts) = (Vec::new(), Vec::new());
        for window in windows.chunks(1) {
            latents.extend(stages.compress(window)?);
            verdicts.extend(stages.verify(window, &latents[latents.len() - 1..])?);
        }
        let decoded = stages.decode(windows, &latents, 3)?;
        Ok(Self::of(&latents, verdicts, decoded))
    }
}

/// Compares results across batches, thread counts and instruction sets; they must be identical bit by bit.
pub fn identical(text: &str, windows_max: usize) -> Result<Vec<Quantity>> {
    let stages = Stages::served(Kernels::Auto)?;
    let mut windows = Vec::new();
    for ratio in [10, 20, 40, 80] {
        windows.extend(stages.windows(text, ratio, windows_max.div_ceil(ratio / 10))?);
    }
    // Adds a short window with fewer blocks than SIMD lanes and an incomplete last block. A block is the run of tokens
    // that one latent stands for.
    let short = windows[0].tokens[..45].to_vec();
    windows.push(TokenWindow { tokens: short, ratio: 20, bytes: 0..0 });
    let expected = Outputs::together(&stages, &windows)?;
    let same = |name: &str, computed: Outputs| {
        Quantity::holds(format!("identical-{name}"), computed == expected, "bit-identical")
    };
    let mut quantities = vec![same("alone", Outputs::apart(&stages, &windows)?)];
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let computed = pool.install(|| Outputs::together(&stages, &windows))?;
        quantities.push(same(&format!("threads-{threads}"), computed));
    }
    let narrow = [Kernels::Avx512, Kernels::AvxVnni, Kernels::Avx2, Kernels::Portable];
    // The portable kernels emulate fused multiply-adds and are slow, so they compute only the shortest windows.
    let mut few = windows.clone();
    few.sort_by_key(|window| window.tokens.len());
    few.truncate(windows_max.min(2));
    let expected_of_few = Outputs::together(&stages, &few)?;
    for kernels in narrow {
        let name = format!("identical-{kernels}");
        match Stages::served(kernels) {
            Ok(stages) if kernels == Kernels::Portable => {
                let computed = Outputs::together(&stages, &few)?;
                quantities.push(Quantity::holds(name, computed == expected_of_few, "bit-identical"));
            }
            Ok(stages) => quantities.push(same(&kernels.to_string(), Outputs::together(&stages, &windows)?)),
            Err(_) => {
                quantities.push(Quantity::observed(name, "not on this CPU", true, "bit-identical where there is one"))
            }
        }
    }
    Ok(quantities)
}

/// Compares the fidelity of int8 arithmetic with that of f32 arithmetic; int8 may lose at most 0.05 % of the tokens.
/// Fidelity is the fraction of tokens that the decoder predicts correctly, here from latents that are rounded to their
/// stored codec.
pub fn fidelity(texts: &[(&str, String)], windows: usize) -> Result<Vec<Quantity>> {
    let (served, exact) = (Stages::served(Kernels::Auto)?, Stages::f32()?);
    let mut quantities = Vec::new();
    for ratio in [20, 40] {
        for (name, text) in texts {
            let windows = served.windows(text, ratio, (windows * 20).div_ceil(ratio))?;
            let right = |stages: &Stages| -> Result<f64> {
                let mut right = 0;
                for window in windows.chunks(1) {
                    let verdicts = stages.verify(window, &stages.stored(window)?)?;
                    right += verdicts.first().context("no verdict")?.iter().filter(|v| v.correct).count();
                }
                Ok(right as f64 / tokens(&windows) as f64)
            };
            let (int8, f32) = (right(&served)?, right(&exact)?);
            let name = format!("fidelity-{ratio}-{name}");
            quantities.push(Quantity::reported(format!("{name}-int8-f32"), [int8, f32]));
            quantities.push(Quantity::at_most(format!("{name}-lost"), f32 - int8, 0.0005));
        }
    }
    Ok(quantities)
}
