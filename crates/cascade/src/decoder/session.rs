//! Decode sessions: each has the state of one window that is being decoded. [`step`] advances a batch of sessions.

use rayon::prelude::*;

use super::{Decoder, Latents};
use crate::Error;
use crate::chat::Generation;
use crate::network::{Argmax, Input, KvCache, KvCapacity, Pattern, Sequence};
use crate::prompt::{Prompt, WindowLayout};

/// Decoding task for the latents of a window.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Reconstruct the text of the window.
    Reconstruct {
        /// Length of the text in tokens.
        tokens: usize,
        /// Text tokens per latent.
        ratio: usize,
        /// Position in the window and id of each token to force, sorted by position.
        corrections: Vec<(u32, u32)>,
    },
    /// Answer a prompt about the text, as the published chat does.
    Generate {
        /// Prompt. Special tokens in it are recognised.
        prompt: String,
        /// Maximum tokens of the answer. 0 means [`chat::TOKENS_MAX`](crate::chat::TOKENS_MAX).
        tokens_max: usize,
    },
}

/// A window to decode.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodeWindow {
    /// Latents of the window.
    pub latents: Latents,
    /// Decoding task.
    pub task: Task,
}

/// State of a window that is being decoded. Created by [`Decoder::start`], advanced by [`Decoder::step`].
pub struct DecodeSession {
    latents: Latents,
    cache: KvCache,
    progress: Progress,
    text_taken: bool,
}

enum Progress {
    Reconstruct(Reconstruction),
    Generate { prompt: Prompt, generation: Generation },
}

/// Reconstruction of a window. All blocks advance together, one token per step.
struct Reconstruction {
    layout: WindowLayout,
    corrections: Vec<(u32, u32)>,
    tokens: Vec<u32>,
    text: Vec<u8>,
    step: usize,
}

impl DecodeSession {
    pub(super) fn new(decoder: &Decoder, window: DecodeWindow) -> Result<Self, Error> {
        let DecodeWindow { latents, task } = window;
        let progress = match task {
            Task::Reconstruct { tokens, ratio, corrections } => {
                let layout = decoder.window_layout(&latents, tokens, ratio)?;
                decoder.text(&corrections.iter().map(|(_, token)| *token).collect::<Vec<_>>())?;
                let tokens = vec![0; tokens];
                Progress::Reconstruct(Reconstruction { layout, corrections, tokens, text: Vec::new(), step: 0 })
            }
            Task::Generate { .. } if !decoder.info().takes_prompt => {
                let cascade = &decoder.info().cascade;
                return Err(Error::input(format!("{cascade} only reconstructs text and takes no prompt: omit it")));
            }
            Task::Generate { prompt, tokens_max } => Progress::Generate {
                generation: decoder.generation(&prompt, latents.count, tokens_max)?,
                prompt: Prompt::new(&decoder.tokenizer, &prompt)?,
            },
        };
        decoder.check_shape(&latents)?;
        let capacity = match &progress {
            Progress::Reconstruct(window) => KvCapacity::blocks(window.layout.blocks),
            Progress::Generate { generation, .. } => KvCapacity::causal(generation.rows_max()),
        };
        let cache = decoder.network.cache(capacity, Some(&decoder.prefix_cache))?;
        Ok(Self { latents, cache, progress, text_taken: false })
    }

    /// Returns true if decoding has finished.
    pub fn done(&self) -> bool {
        match &self.progress {
            Progress::Reconstruct(window) => window.step == window.layout.blocks.steps(),
            Progress::Generate { generation, .. } => generation.done(),
        }
    }

    /// Takes the decoded bytes. Returns an empty vector before the session has finished and after the first take.
    pub fn take_text(&mut self) -> Vec<u8> {
        if !self.done() || std::mem::replace(&mut self.text_taken, true) {
            return Vec::new();
        }
        match &mut self.progress {
            Progress::Reconstruct(window) => std::mem::take(&mut window.text),
            Progress::Generate { generation, .. } => generation.text().into_bytes(),
        }
    }

    /// Number of tokens decoded so far, including special tokens of an answer.
    pub fn tokens(&self) -> usize {
        match &self.progress {
            Progress::Reconstruct(window) => (0..window.step).map(|step| window.layout.blocks.active(step)).sum(),
            Progress::Generate { generation, .. } => generation.tokens().len(),
        }
    }

    /// Token ids in text order. In a reconstruction, ids that are not decoded yet are 0.
    pub fn token_ids(&self) -> &[u32] {
        match &self.progress {
            Progress::Reconstruct(window) => &window.tokens,
            Progress::Generate { generation, .. } => generation.tokens(),
        }
    }

    /// Maximum rows that the session's KV cache can reach.
    pub fn kv_rows(&self) -> usize {
        match &self.progress {
            Progress::Reconstruct(window) => window.layout.blocks.prompt + window.layout.blocks.tokens,
            Progress::Generate { generation, .. } => generation.rows_max(),
        }
    }

    /// Returns the rows of the next step.
    fn next_rows(&mut self, decoder: &Decoder) -> Sequence<'_> {
        let prefix = decoder.prefix_cache.rows();
        let first_step = self.cache.rows() == prefix;
        let pattern = self.pattern();
        let latents = Input::Latents(&self.latents.values);
        let (input, positions, outputs) = match &self.progress {
            Progress::Reconstruct(window) => {
                let layout = &window.layout;
                let slots = || layout.blocks.slots(window.step);
                let ids: Vec<u32> = slots().map(|slot| layout.input_token(slot, &window.tokens)).collect();
                let positions: Vec<u32> = slots().map(|slot| layout.slot_position(slot)).collect();
                let outputs = ids.len();
                if first_step {
                    let suffix = layout.suffix_rows(&decoder.reconstruct_prompt.suffix);
                    let positions = [layout.prompt_positions(&decoder.layout), positions].concat();
                    (vec![latents, Input::Tokens(suffix), Input::Tokens(ids)], positions, outputs)
                } else {
                    (vec![Input::Tokens(ids)], positions, outputs)
                }
            }
            Progress::Generate { prompt, .. } if first_step => {
                let rows = self.latents.count + prompt.suffix.len();
                let positions = (prefix as u32..).take(rows).collect();
                (vec![latents, Input::Tokens(prompt.suffix.clone())], positions, 1)
            }
            Progress::Generate { generation, .. } => {
                let last = generation.tokens().last().copied().unwrap_or_default();
                (vec![Input::Tokens(vec![last])], vec![self.cache.rows() as u32], 1)
            }
        };
        Sequence { cache: &mut self.cache, input, positions, pattern, outputs }
    }

    /// Returns the ids that may not be the next token of an answer.
    fn banned(&self) -> Vec<u32> {
        match &self.progress {
            Progress::Generate { generation, .. } => generation.banned(),
            Progress::Reconstruct(_) => Vec::new(),
        }
    }

    fn is_generation(&self) -> bool {
        matches!(self.progress, Progress::Generate { .. })
    }

    fn pattern(&self) -> Pattern {
        match &self.progress {
            Progress::Reconstruct(window) => Pattern::blocks(window.layout.blocks),
            Progress::Generate { .. } => Pattern::Causal,
        }
    }
}

impl Reconstruction {
    /// Adds a token to every block that has a slot at this step: the correction if there is one, otherwise the argmax.
    fn push(&mut self, decoder: &Decoder, argmax: &[Argmax]) -> Result<(), Error> {
        for (slot, argmax) in self.layout.blocks.slots(self.step).zip(argmax) {
            let forced = self.corrections.binary_search_by_key(&(slot as u32), |(position, _)| *position);
            self.tokens[slot] = forced.map_or(argmax.id, |i| self.corrections[i].1);
        }
        self.step += 1;
        if self.step == self.layout.blocks.steps() {
            self.text = decoder.text(&self.tokens)?;
        }
        Ok(())
    }
}

/// See [`Decoder::step`].
pub(super) fn step(decoder: &Decoder, sessions: &mut [&mut DecodeSession]) -> Result<(), Error> {
    let active = sessions.iter_mut().map(|session| &mut **session).filter(|session| !session.done());
    let (mut generations, mut reconstructions): (Vec<_>, Vec<_>) = active.partition(|session| session.is_generation());
    if !generations.is_empty() {
        let banned = generations.iter().map(|session| session.banned()).collect::<Vec<_>>();
        let mut pass: Vec<_> = generations.iter_mut().map(|session| session.next_rows(decoder)).collect();
        let ids = decoder.network.greedy(&mut pass, &banned)?;
        for (session, id) in generations.into_iter().zip(ids) {
            if let Progress::Generate { generation, .. } = &mut session.progress {
                generation.push(id);
            }
        }
    }
    if !reconstructions.is_empty() {
        let mut pass: Vec<_> = reconstructions.par_iter_mut().map(|session| session.next_rows(decoder)).collect();
        let argmax = decoder.network.argmax(&mut pass, None)?;
        let mut rest = argmax.as_slice();
        let mut windows = Vec::with_capacity(reconstructions.len());
        for session in reconstructions {
            if let Progress::Reconstruct(window) = &mut session.progress {
                let (own, others) = rest.split_at(window.layout.blocks.active(window.step));
                windows.push((window, own));
                rest = others;
            }
        }
        windows.into_par_iter().try_for_each(|(window, own)| window.push(decoder, own))?;
    }
    Ok(())
}
