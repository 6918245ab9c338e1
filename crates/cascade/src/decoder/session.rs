//! Decode sessions: each has the state of one window that is being decoded. [`step`] advances a batch of sessions.

use candle_core::Tensor;

use super::{Decoder, Latents};
use crate::Error;
use crate::chat::Generation;
use crate::network::{Argmax, KvCache, Pattern, Sequence};
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
        Ok(Self { latents, cache: decoder.prefix_cache.clone(), progress, text_taken: false })
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

    /// Returns the input rows of the next step, `[rows, hidden]`, their position ids, and the number of rows at the end
    /// that predict tokens.
    fn next_rows(&self, decoder: &Decoder) -> Result<(Tensor, Vec<u32>, usize), Error> {
        let prefix = decoder.prefix_cache.rows();
        let first_step = self.cache.rows() == prefix;
        match &self.progress {
            Progress::Reconstruct(window) => {
                let layout = &window.layout;
                let slots = || layout.blocks.slots(window.step);
                let ids: Vec<u32> = slots().map(|slot| layout.input_token(slot, &window.tokens)).collect();
                let rows = decoder.network.embed(&ids)?;
                let positions = slots().map(|slot| layout.slot_position(slot));
                if !first_step {
                    return Ok((rows, positions.collect(), ids.len()));
                }
                let prompt = layout.prompt_rows(&decoder.prompt_input(&decoder.reconstruct_prompt, &self.latents)?)?;
                let prompt_positions = layout.prompt_positions(&decoder.layout);
                let positions = prompt_positions.into_iter().chain(positions);
                Ok((Tensor::cat(&[prompt, rows], 0)?, positions.collect(), ids.len()))
            }
            Progress::Generate { prompt, .. } if first_step => {
                let rows = decoder.prompt_input(prompt, &self.latents)?;
                let positions = (prefix as u32..).take(rows.dim(0)?).collect();
                Ok((rows, positions, 1))
            }
            Progress::Generate { generation, .. } => {
                let last = generation.tokens().last().copied().unwrap_or_default();
                Ok((decoder.network.embed(&[last])?, vec![self.cache.rows() as u32], 1))
            }
        }
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
    let mut active: Vec<&mut DecodeSession> =
        sessions.iter_mut().map(|session| &mut **session).filter(|session| !session.done()).collect();
    if active.is_empty() {
        return Ok(());
    }
    let next: Vec<_> = active.iter().map(|session| session.next_rows(decoder)).collect::<Result<_, _>>()?;
    let input = Tensor::cat(&next.iter().map(|(rows, ..)| rows).collect::<Vec<_>>(), 0)?;
    let positions: Vec<u32> = next.iter().flat_map(|(_, positions, _)| positions).copied().collect();
    let mut sequences: Vec<Sequence<'_>> = active
        .iter_mut()
        .zip(&next)
        .map(|(session, (_, positions, _))| {
            let pattern = session.pattern();
            Sequence { cache: &mut session.cache, rows: positions.len(), pattern }
        })
        .collect();
    let hidden = decoder.network.forward(input, &positions, &mut sequences)?;
    let mut end = 0;
    let (mut reconstructions, mut predicting) = (Vec::new(), Vec::new());
    for (session, (_, positions, tokens)) in active.into_iter().zip(&next) {
        end += positions.len();
        let rows = hidden.narrow(0, end - tokens, *tokens)?;
        match &mut session.progress {
            Progress::Generate { generation, .. } => generation.push_greedy(&mut decoder.network.logits(&rows)?),
            Progress::Reconstruct(window) => {
                reconstructions.push((window, *tokens));
                predicting.push(rows);
            }
        }
    }
    if predicting.is_empty() {
        return Ok(());
    }
    let argmax = decoder.network.argmax(&Tensor::cat(&predicting, 0)?, &decoder.non_text_ids, None)?;
    let mut rest = argmax.as_slice();
    for (window, tokens) in reconstructions {
        let (own, others) = rest.split_at(tokens);
        window.push(decoder, own)?;
        rest = others;
    }
    Ok(())
}
