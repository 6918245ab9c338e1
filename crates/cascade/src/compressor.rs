//! First stage: compresses text to latents.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use crate::checkpoint::{Checkpoint, Source, Stage};
use crate::layout::Layout;
use crate::network::{self, Input, InputLayer, KvCapacity, Network, Pattern, Sequence};
use crate::options::Options;
use crate::tokenizer::Tokenizer;
use crate::{Error, StageInfo, chat};

/// First stage of a cascade: the network that the published checkpoint calls `llm1`, and the query embedding.
pub struct Compressor {
    network: Box<dyn Network>,
    hidden: usize,
    layout: Layout,
    tokenizer: Arc<Tokenizer>,
    image_start_id: u32,
    info: StageInfo,
}

/// A window of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenWindow {
    /// Token ids of the text.
    pub tokens: Vec<u32>,
    /// Requested text tokens per latent.
    pub ratio: usize,
    /// Byte range of the window in the shard. It may begin or end inside a UTF-8 character.
    pub bytes: Range<usize>,
}

impl Compressor {
    /// Loads the compressor of a checkpoint, after checking the hash of every file. Fails with [`Error::Device`] if the
    /// device does not support `options`, with [`Error::Checkpoint`] or [`Error::Candle`] if a file is unusable.
    pub fn load(source: Source<'_>, options: &Options) -> Result<Self, Error> {
        let mut checkpoint = Checkpoint::open(source, Stage::Compressor, options)?;
        let query = checkpoint.query()?;
        let hidden = checkpoint.network.hidden;
        if query.dims() != [checkpoint.layout.latent_token_len, hidden] {
            let shape = query.dims();
            return Err(Error::checkpoint(format!(
                "the query embedding has shape {shape:?}, which does not match the network"
            )));
        }
        let input = InputLayer::Queries(query.flatten_all()?.to_vec1()?);
        let network = network::load(&mut checkpoint, input, Vec::new(), options)?;
        Ok(Self {
            info: checkpoint.info(hidden, network.arithmetic()),
            image_start_id: checkpoint.tokenizer.special("<img>")?,
            layout: checkpoint.layout,
            tokenizer: checkpoint.tokenizer,
            network,
            hidden,
        })
    }

    /// Fails with [`Error::Gpu`] if the device has failed: the program must restart to use it again.
    pub fn check_device(&self) -> Result<(), Error> {
        self.network.check_device()
    }

    /// Properties of the stage.
    pub fn info(&self) -> &StageInfo {
        &self.info
    }

    /// Tokenizes a shard and divides it into windows of at most `latent_token_len * ratio` tokens. Window lengths
    /// differ by at most one token. Special tokens are treated as text. Fails with [`Error::InvalidInput`] if the ratio
    /// is out of range, with [`Error::Checkpoint`] if the tokenizer does not preserve every byte.
    pub fn windows(&self, text: &str, ratio: usize) -> Result<Vec<TokenWindow>, Error> {
        let (min, max) = (self.info.ratio_min, self.info.ratio_max);
        if !(min..=max).contains(&ratio) {
            return Err(Error::input(format!("ratio {ratio} is out of range: use {min} to {max}")));
        }
        let tokens = self.tokenizer.document(text)?;
        let length = |id: &u32| self.tokenizer.text(*id).map_or(0, <[u8]>::len);
        let mut start = 0;
        let window = |range: Range<usize>| {
            let tokens = tokens[range].to_vec();
            let bytes = start..start + tokens.iter().map(length).sum::<usize>();
            start = bytes.end;
            TokenWindow { tokens, ratio, bytes }
        };
        Ok(self.layout.windows(tokens.len(), ratio).into_iter().map(window).collect())
    }

    /// Tokenizes a text as one window of the published chat. Special tokens are recognised. Fails with
    /// [`Error::InvalidInput`] if the text contains `<img>`: the published code raises an exception on such texts.
    pub fn chat_context(&self, text: &str) -> Result<TokenWindow, Error> {
        let tokens = self.tokenizer.prompt(text)?;
        chat::check_context(&tokens, &self.tokenizer, self.layout.latent_token_len)?;
        let ratio = tokens.len().div_ceil(self.layout.latent_token_len).max(1);
        Ok(TokenWindow { tokens, ratio, bytes: 0..text.len() })
    }

    /// Compresses a batch of windows. Returns the latents of each window, `[latents][latent_width]`. The result for a
    /// window does not depend on the other windows. Fails with [`Error::InvalidInput`] if a window has too few or too
    /// many tokens, or an id outside the vocabulary.
    pub fn compress(&self, windows: &[&TokenWindow]) -> Result<Vec<Vec<f32>>, Error> {
        if windows.is_empty() {
            return Ok(Vec::new());
        }
        windows.iter().try_for_each(|window| self.check(window))?;
        let latents = |window: &TokenWindow| self.layout.latents(window.tokens.len(), window.ratio);
        let mut caches = Vec::with_capacity(windows.len());
        for window in windows {
            let rows = window.tokens.len() + 1 + latents(window);
            caches.push(self.network.cache(KvCapacity::causal(rows), None)?);
        }
        let mut pass = Vec::with_capacity(windows.len());
        for (cache, window) in caches.iter_mut().zip(windows) {
            let ids = window.tokens.iter().copied().chain([self.image_start_id]).collect();
            pass.push(Sequence {
                cache,
                input: vec![Input::Tokens(ids), Input::Queries(latents(window))],
                positions: self.layout.compress_positions(window.tokens.len(), window.ratio),
                pattern: Pattern::Causal,
                outputs: latents(window),
            });
        }
        let hidden = self.network.hidden(&mut pass)?;
        let mut rest = hidden.as_slice();
        let mut of_windows = Vec::with_capacity(windows.len());
        for window in windows {
            let (own, others) = rest.split_at(latents(window) * self.hidden);
            of_windows.push(own);
            rest = others;
        }
        // Copied in parallel: a large batch of a GPU has megabytes of latents.
        Ok(of_windows.into_par_iter().map(<[f32]>::to_vec).collect())
    }

    fn check(&self, window: &TokenWindow) -> Result<(), Error> {
        let max = self.layout.latent_token_len * window.ratio;
        let min = usize::from(!self.layout.fixed_latents());
        if !(min..=max).contains(&window.tokens.len()) {
            let (tokens, ratio) = (window.tokens.len(), window.ratio);
            return Err(Error::input(format!("{tokens} tokens at ratio {ratio}: a window has {min} to {max}")));
        }
        match window.tokens.iter().find(|&&id| id as usize >= self.tokenizer.vocabulary()) {
            Some(id) => Err(Error::input(format!("token id {id} is outside the vocabulary"))),
            None => Ok(()),
        }
    }
}
