//! Latents and corrections that one kind of device wrote are read on the other.

use anyhow::Result;
use c3_cascade::{DecodeSession, DecodeWindow, Kernels, Latents, Task, TokenVerdict, TokenWindow};

use super::stages;
use crate::harness::fixtures::Corpus;
use crate::harness::quantity::Quantity;
use crate::suites::speed::stages::Stages;

/// Margin below which a token gets a correction: the gateway's default.
const MARGIN: f32 = 2.0;
/// Windows per ratio and direction.
const WINDOWS: usize = 1000;
/// Windows that are compressed, verified or decoded together.
const BATCH: usize = 64;

/// Writes 1,000 windows at 20x and 40x on the CPU and reads them on the GPU, and the reverse (a tenth without `--full`).
/// Every text must be identical. Verification on the reading device must give the same verdicts, bit for bit.
pub fn portability(corpus: Corpus) -> Result<Vec<Quantity>> {
    let Some(gpu) = stages()? else {
        return Ok(vec![Quantity::skipped("portability", "NVIDIA GPU", "all windows identical")]);
    };
    let cpu = Stages::served(Kernels::Auto)?;
    let count = if corpus.full { WINDOWS } else { WINDOWS / 10 };
    let text = corpus.books()?;
    let mut quantities = Vec::new();
    for ratio in [20, 40] {
        for (name, writer, reader) in [("cpu-to-gpu", &cpu, &gpu), ("gpu-to-cpu", &gpu, &cpu)] {
            let windows = writer.windows(&text.repeat(3), ratio, count)?;
            let (mut wrong, mut differing) = (0, 0);
            for batch in windows.chunks(BATCH) {
                let latents = writer.stored(batch)?;
                let written = writer.verify(batch, &latents)?;
                let read = reader.verify(batch, &latents)?;
                differing += written.iter().flatten().zip(read.iter().flatten()).filter(|(a, b)| a != b).count();
                wrong += wrong_windows(reader, batch, &latents, &written)?;
            }
            quantities.push(Quantity::equal(format!("portability-{name}-{ratio}x-windows"), windows.len(), count));
            quantities.push(Quantity::equal(format!("portability-{name}-{ratio}x-wrong"), wrong, 0));
            quantities.push(Quantity::equal(format!("portability-{name}-{ratio}x-verdicts"), differing, 0));
        }
    }
    Ok(quantities)
}

/// Decodes windows with the corrections that `verdicts` require. Returns how many differ from their text.
fn wrong_windows(
    reader: &Stages,
    windows: &[TokenWindow],
    latents: &[Latents],
    verdicts: &[Vec<TokenVerdict>],
) -> Result<usize> {
    let mut sessions: Vec<DecodeSession> = Vec::with_capacity(windows.len());
    for ((window, latents), verdicts) in windows.iter().zip(latents).zip(verdicts) {
        let uncertain = |(_, verdict): &(usize, &TokenVerdict)| !verdict.correct || verdict.margin < MARGIN;
        let corrections = verdicts.iter().enumerate().filter(uncertain);
        let corrections = corrections.map(|(i, _)| (i as u32, window.tokens[i])).collect();
        let task = Task::Reconstruct { tokens: window.tokens.len(), ratio: window.ratio, corrections };
        sessions.push(reader.decoder.start(DecodeWindow { latents: latents.clone(), task })?);
    }
    while sessions.iter().any(|session| !session.done()) {
        reader.decoder.step(&mut sessions.iter_mut().collect::<Vec<_>>())?;
    }
    Ok(sessions.iter().zip(windows).filter(|(session, window)| session.token_ids() != window.tokens).count())
}
