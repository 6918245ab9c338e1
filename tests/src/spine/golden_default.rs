//! The default layout against what the training code computes from the very weights.

use std::path::Path;

use anyhow::{Context, Result};
use c3_cascade::{
    Compressor, DecodeWindow, Decoder, Latents, Options, Precision, Source, Task, TokenWindow, VerifyWindow,
};
use c3_proto::LatentCodec;

use crate::row::Row;
use crate::vectors::{Vectors, largest_difference, largest_magnitude, text};

/// How far a path may be from f32 on another machine.
struct Bounds {
    /// Of latents, relative to the largest.
    latents: f64,
    /// Logits of a margin over which the argmax must be equal.
    margin: f32,
    /// Whether greedy tokens must be equal too.
    greedy: bool,
}

const F32: Bounds = Bounds { latents: 1e-4, margin: 0.01, greedy: true };
/// Activations in int8.
const SERVED: Bounds = Bounds { latents: 0.02, margin: 2.0, greedy: false };

/// All cases on one path.
pub(crate) fn rows(name: &str, model: &Path, vectors: &Vectors, options: &Options) -> Result<Vec<Row>> {
    let stages = Stages {
        compressor: Compressor::load(Source::Folder(model), options)?,
        decoder: Decoder::load(Source::Folder(model), options)?,
    };
    let bounds = if options.precision == Precision::F32 { F32 } else { SERVED };
    let mut worst = Worst::default();
    for case in vectors.list("cases")? {
        let ratio = case["ratio"].as_u64().context("no ratio")? as usize;
        let name = text(case, "name")?;
        worst.tokens_differ += usize::from(!stages.tokenizes(
            text(case, "text")?,
            ratio,
            &vectors.ids(&format!("{name}.token_ids"))?,
        )?);
        stages.case(name, ratio, vectors, &bounds, &mut worst)?;
    }
    let info = stages.decoder.info();
    let mut rows = vec![
        Row::seen(format!("{name}-path"), &info.arithmetic, true, "says which path ran"),
        Row::equal(format!("{name}-texts-tokenized-otherwise"), worst.tokens_differ, 0),
        Row::equal(format!("{name}-values-rounded-otherwise"), worst.rounding_differs, 0),
        Row::at_most(format!("{name}-latents"), worst.latents, bounds.latents),
        Row::at_most(format!("{name}-projected"), worst.projected, bounds.latents),
        Row::equal(format!("{name}-argmax-differs"), worst.argmax_differs, 0),
    ];
    if bounds.greedy {
        rows.push(Row::equal(format!("{name}-greedy-differs"), worst.greedy_differs, 0));
    }
    Ok(rows)
}

/// Largest differences so far, and tokens that differ.
#[derive(Default)]
struct Worst {
    latents: f64,
    projected: f64,
    tokens_differ: usize,
    rounding_differs: usize,
    argmax_differs: usize,
    greedy_differs: usize,
}

struct Stages {
    compressor: Compressor,
    decoder: Decoder,
}

impl Stages {
    fn case(
        &self,
        name: &str,
        ratio: usize,
        vectors: &Vectors,
        bounds: &Bounds,
        worst: &mut Worst,
    ) -> Result<()> {
        let tokens = vectors.ids(&format!("{name}.token_ids"))?;
        let window = TokenWindow { tokens: tokens.clone(), ratio, bytes: 0..0 };
        let computed = self.compressor.compress(&[&window])?.concat();
        let expected = vectors.floats(&format!("{name}.latents"))?;
        let off = largest_difference(&computed, &expected) / largest_magnitude(&expected);
        worst.latents = worst.latents.max(off);

        for rounding in ["", "_q4_0"] {
            let latents = self.latents(vectors.floats(&format!("{name}.latents{rounding}"))?);
            let argmax = vectors.ids(&format!("{name}.verify_argmax{rounding}"))?;
            let margins = vectors.floats(&format!("{name}.verify_margin{rounding}"))?;
            let verdicts =
                self.decoder.verify(&[VerifyWindow { latents: &latents, tokens: &tokens, ratio }])?.concat();
            let surely =
                verdicts.iter().zip(&argmax).zip(&margins).filter(|(_, margin)| **margin > bounds.margin);
            worst.argmax_differs +=
                surely.filter(|((verdict, argmax), _)| verdict.written != **argmax).count();
        }

        let rounded = LatentCodec::Q4_0.decode(&LatentCodec::Q4_0.encode(&expected));
        let expected_rounded = vectors.floats(&format!("{name}.latents_q4_0"))?;
        worst.rounding_differs += rounded.iter().zip(&expected_rounded).filter(|(a, b)| a != b).count();

        let latents = self.latents(expected);
        let projected = vectors.floats(&format!("{name}.projected"))?;
        let off = largest_difference(&self.decoder.projected(&latents)?, &projected)
            / largest_magnitude(&projected);
        worst.projected = worst.projected.max(off);
        if bounds.greedy {
            let greedy = self.greedy(latents, tokens.len(), ratio)?;
            let expected = vectors.ids(&format!("{name}.greedy_tokens"))?;
            worst.greedy_differs += greedy.iter().zip(&expected).filter(|(a, b)| a != b).count();
        }
        Ok(())
    }

    /// Whether the first tokens of a text are these.
    fn tokenizes(&self, text: &str, ratio: usize, tokens: &[u32]) -> Result<bool> {
        let windows = self.compressor.windows(text, ratio)?;
        let all: Vec<u32> = windows.into_iter().flat_map(|window| window.tokens).collect();
        Ok(all.starts_with(tokens))
    }

    fn latents(&self, values: Vec<f32>) -> Latents {
        let width = self.decoder.info().latent_width;
        Latents { count: values.len() / width, width, values }
    }

    /// Tokens that the decoder writes without help.
    fn greedy(&self, latents: Latents, tokens: usize, ratio: usize) -> Result<Vec<u32>> {
        let task = Task::Reconstruct { tokens, ratio, corrections: Vec::new() };
        let mut decoding = self.decoder.start(DecodeWindow { latents, task })?;
        while !decoding.done() {
            self.decoder.step(&mut [&mut decoding])?;
        }
        Ok(decoding.token_ids().to_vec())
    }
}
