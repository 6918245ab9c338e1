//! Both stages of a checkpoint, loaded in this process.

use anyhow::{Result, ensure};
use c3_cascade::{
    Compressor, DecodeSession, DecodeWindow, Decoder, DeviceChoice, Dtype, Kernels, Latents, Options, Source, Task,
    TokenVerdict, TokenWindow, VerifyWindow,
};
use c3_types::LatentCodec;

use crate::harness::fixtures;

/// Compressor and decoder.
pub struct Stages {
    /// First stage.
    pub compressor: Compressor,
    /// Second stage.
    pub decoder: Decoder,
}

impl Stages {
    /// Loads the stages on the CPU with these kernels and the default data type of nodes. Fails if this CPU cannot run the
    /// kernels.
    pub fn served(kernels: Kernels) -> Result<Self> {
        Self::load(Options { kernels, device: DeviceChoice::Cpu, ..Default::default() })
    }

    /// Loads the stages on the CPU with f32 arithmetic.
    pub fn f32() -> Result<Self> {
        Self::load(Options { dtype: Dtype::F32, device: DeviceChoice::Cpu, ..Default::default() })
    }

    /// Loads the stages with these options.
    pub fn load(options: Options) -> Result<Self> {
        Self::of(Source::Folder(&fixtures::default_model()), &options)
    }

    /// Loads the stages of any checkpoint.
    pub fn of(source: Source<'_>, options: &Options) -> Result<Self> {
        Ok(Self { compressor: Compressor::load(source, options)?, decoder: Decoder::load(source, options)? })
    }

    /// Returns the first `count` windows of a text, or all if there are fewer. Fails if there are none.
    pub fn windows(&self, text: &str, ratio: usize, count: usize) -> Result<Vec<TokenWindow>> {
        let mut windows = self.compressor.windows(text, ratio)?;
        windows.truncate(count);
        ensure!(!windows.is_empty(), "the text has no window");
        Ok(windows)
    }

    /// Compresses windows as one batch.
    pub fn compress(&self, windows: &[TokenWindow]) -> Result<Vec<Latents>> {
        let width = self.compressor.info().latent_width;
        let latents = self.compressor.compress(&windows.iter().collect::<Vec<_>>())?;
        let latents = latents.into_iter().map(|values| Latents { count: values.len() / width, values, width });
        Ok(latents.collect())
    }

    /// Compresses windows and rounds the latents to their stored codec.
    pub fn stored(&self, windows: &[TokenWindow]) -> Result<Vec<Latents>> {
        let codec: LatentCodec = self.compressor.info().latent_codec.parse()?;
        let rounded = |latents: Latents| Latents { values: codec.decode(&codec.encode(&latents.values)), ..latents };
        Ok(self.compress(windows)?.into_iter().map(rounded).collect())
    }

    /// Verifies windows as one batch.
    pub fn verify(&self, windows: &[TokenWindow], latents: &[Latents]) -> Result<Vec<Vec<TokenVerdict>>> {
        let windows: Vec<_> = windows
            .iter()
            .zip(latents)
            .map(|(window, latents)| VerifyWindow { latents, tokens: &window.tokens, ratio: window.ratio })
            .collect();
        Ok(self.decoder.verify(&windows)?)
    }

    /// Starts decoding a window.
    pub fn start(&self, window: &TokenWindow, latents: &Latents) -> Result<DecodeSession> {
        let task = Task::Reconstruct { tokens: window.tokens.len(), ratio: window.ratio, corrections: Vec::new() };
        Ok(self.decoder.start(DecodeWindow { latents: latents.clone(), task })?)
    }

    /// Decodes windows as a running batch and returns their token ids. Each window joins the batch `stagger` steps
    /// after the previous one. If `stagger` is 0, all join before the first step.
    pub fn decode(&self, windows: &[TokenWindow], latents: &[Latents], stagger: usize) -> Result<Vec<Vec<u32>>> {
        let mut waiting = windows.iter().zip(latents);
        let mut live: Vec<DecodeSession> = Vec::new();
        let mut steps = 0;
        loop {
            while stagger == 0 || steps >= live.len() * stagger {
                let Some((window, latents)) = waiting.next() else { break };
                live.push(self.start(window, latents)?);
            }
            if live.len() == windows.len() && live.iter().all(DecodeSession::done) {
                return Ok(live.iter().map(|window| window.token_ids().to_vec()).collect());
            }
            self.decoder.step(&mut live.iter_mut().collect::<Vec<_>>())?;
            steps += 1;
        }
    }
}

/// Returns the number of text tokens of all windows together.
pub fn tokens(windows: &[TokenWindow]) -> usize {
    windows.iter().map(|window| window.tokens.len()).sum()
}
