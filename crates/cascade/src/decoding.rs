//! A window that is being decoded, and the step that writes the next tokens of many.

use candle_core::Tensor;

use crate::chat::Generation;
use crate::network::{Best, KvCache, Pattern, Sequence};
use crate::prompt::{Frame, Prompt};
use crate::{Decoder, Error, Latents};

/// What to do with a window's latents.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Write the window's text back.
    Reconstruct {
        /// Its length in tokens.
        tokens: usize,
        /// Text tokens a latent.
        ratio: usize,
        /// Position and id of tokens to force, by rising position.
        corrections: Vec<(u32, u32)>,
    },
    /// Answer a prompt about it, as the published chat does.
    Generate {
        /// The prompt, special tokens recognised.
        prompt: String,
        /// Most tokens to write.
        tokens_max: usize,
    },
}

/// A window to decode.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodeWindow {
    /// Its latents.
    pub latents: Latents,
    /// What to do with them.
    pub task: Task,
}

/// A window that is being decoded.
pub struct Decoding {
    latents: Latents,
    cache: KvCache,
    state: State,
    taken: bool,
}

enum State {
    Reconstruct(Reconstruction),
    Generate { prompt: Prompt, generation: Generation },
}

/// All blocks of a window, side by side.
struct Reconstruction {
    frame: Frame,
    corrections: Vec<(u32, u32)>,
    tokens: Vec<u32>,
    text: Vec<u8>,
    step: usize,
}

impl Decoding {
    pub(crate) fn new(decoder: &Decoder, window: DecodeWindow) -> Result<Self, Error> {
        let DecodeWindow { latents, task } = window;
        let state = match task {
            Task::Reconstruct { tokens, ratio, corrections } => {
                let frame = decoder.frame(&latents, tokens, ratio)?;
                decoder.text(&corrections.iter().map(|(_, token)| *token).collect::<Vec<_>>())?;
                let tokens = vec![0; tokens];
                State::Reconstruct(Reconstruction { frame, corrections, tokens, text: Vec::new(), step: 0 })
            }
            Task::Generate { .. } if !decoder.info().takes_prompt => {
                let cascade = &decoder.info().cascade;
                return Err(Error::input(format!(
                    "{cascade} reconstructs text and answers no prompts: give none"
                )));
            }
            Task::Generate { prompt, tokens_max } => State::Generate {
                generation: decoder.generation(&prompt, latents.count, tokens_max)?,
                prompt: Prompt::new(&decoder.tokenizer, &prompt)?,
            },
        };
        decoder.projected(&latents)?;
        Ok(Self { latents, cache: decoder.prefix.clone(), state, taken: false })
    }

    /// Whether nothing is left to write.
    pub fn done(&self) -> bool {
        match &self.state {
            State::Reconstruct(window) => window.step == window.frame.blocks.steps(),
            State::Generate { generation, .. } => generation.done(),
        }
    }

    /// The text, once it is done: all of it at the first call, nothing after.
    pub fn take_text(&mut self) -> Vec<u8> {
        if !self.done() || std::mem::replace(&mut self.taken, true) {
            return Vec::new();
        }
        match &mut self.state {
            State::Reconstruct(window) => std::mem::take(&mut window.text),
            State::Generate { generation, .. } => generation.text().into_bytes(),
        }
    }

    /// Tokens written so far.
    pub fn tokens(&self) -> usize {
        match &self.state {
            State::Reconstruct(window) => (0..window.step).map(|step| window.frame.blocks.live(step)).sum(),
            State::Generate { generation, .. } => generation.tokens().len(),
        }
    }

    /// Ids of the tokens, in the text's order; those not yet written are 0.
    pub fn token_ids(&self) -> &[u32] {
        match &self.state {
            State::Reconstruct(window) => &window.tokens,
            State::Generate { generation, .. } => generation.tokens(),
        }
    }

    /// Rows of keys and values that it takes at its end at the most.
    pub fn kv_rows(&self) -> usize {
        match &self.state {
            State::Reconstruct(window) => window.frame.blocks.prompt + window.frame.blocks.tokens,
            State::Generate { generation, .. } => generation.rows_max(),
        }
    }

    /// The next rows that the network reads: `[rows, hidden]`, their position ids, and how many of the last ones
    /// predict tokens.
    fn next_rows(&self, decoder: &Decoder) -> Result<(Tensor, Vec<u32>, usize), Error> {
        let prefix = decoder.prefix.rows();
        let begins = self.cache.rows() == prefix;
        match &self.state {
            State::Reconstruct(window) => {
                let frame = &window.frame;
                let slots = || frame.blocks.slots(window.step);
                let ids: Vec<u32> = slots().map(|slot| frame.reads(slot, &window.tokens)).collect();
                let rows = decoder.network.embed(&ids)?;
                let positions = slots().map(|slot| frame.slot_position(slot));
                if !begins {
                    return Ok((rows, positions.collect(), ids.len()));
                }
                let prompt = frame.prompt_rows(&decoder.prompt_input(&decoder.repeat, &self.latents)?)?;
                let prompt_positions = frame.prompt_positions(&decoder.layout);
                let positions = prompt_positions.into_iter().chain(positions);
                Ok((Tensor::cat(&[prompt, rows], 0)?, positions.collect(), ids.len()))
            }
            State::Generate { prompt, .. } if begins => {
                let rows = decoder.prompt_input(prompt, &self.latents)?;
                let positions = (prefix as u32..).take(rows.dim(0)?).collect();
                Ok((rows, positions, 1))
            }
            State::Generate { generation, .. } => {
                let last = generation.tokens().last().copied().unwrap_or_default();
                Ok((decoder.network.embed(&[last])?, vec![self.cache.rows() as u32], 1))
            }
        }
    }

    fn pattern(&self) -> Pattern {
        match &self.state {
            State::Reconstruct(window) => Pattern::blocks(window.frame.blocks),
            State::Generate { .. } => Pattern::Causal,
        }
    }
}

impl Reconstruction {
    /// Writes a token in every block: the best ones, but where there is a correction.
    fn write(&mut self, decoder: &Decoder, best: &[Best]) -> Result<(), Error> {
        for (slot, best) in self.frame.blocks.slots(self.step).zip(best) {
            let forced = self.corrections.binary_search_by_key(&(slot as u32), |(position, _)| *position);
            self.tokens[slot] = forced.map_or(best.id, |i| self.corrections[i].1);
        }
        self.step += 1;
        if self.step == self.frame.blocks.steps() {
            self.text = decoder.text(&self.tokens)?;
        }
        Ok(())
    }
}

/// See [`Decoder::step`].
pub(crate) fn step(decoder: &Decoder, live: &mut [&mut Decoding]) -> Result<(), Error> {
    let mut live: Vec<&mut Decoding> = live.iter_mut().map(|d| &mut **d).filter(|d| !d.done()).collect();
    if live.is_empty() {
        return Ok(());
    }
    let next: Vec<_> = live.iter().map(|decoding| decoding.next_rows(decoder)).collect::<Result<_, _>>()?;
    let input = Tensor::cat(&next.iter().map(|(rows, ..)| rows).collect::<Vec<_>>(), 0)?;
    let positions: Vec<u32> = next.iter().flat_map(|(_, positions, _)| positions).copied().collect();
    let mut sequences: Vec<Sequence<'_>> = live
        .iter_mut()
        .zip(&next)
        .map(|(decoding, (_, positions, _))| {
            let pattern = decoding.pattern();
            Sequence { cache: &mut decoding.cache, rows: positions.len(), pattern }
        })
        .collect();
    let hidden = decoder.network.forward(input, &positions, &mut sequences)?;
    let mut end = 0;
    let (mut written, mut predicting) = (Vec::new(), Vec::new());
    for (decoding, (_, positions, tokens)) in live.into_iter().zip(&next) {
        end += positions.len();
        let rows = hidden.narrow(0, end - tokens, *tokens)?;
        match &mut decoding.state {
            State::Generate { generation, .. } => generation.write(&mut decoder.network.logits(&rows)?),
            State::Reconstruct(window) => {
                written.push((window, *tokens));
                predicting.push(rows);
            }
        }
    }
    if predicting.is_empty() {
        return Ok(());
    }
    let best = decoder.network.best(&Tensor::cat(&predicting, 0)?, &decoder.not_text, None)?;
    let mut rest = best.as_slice();
    for (window, tokens) in written {
        let (own, others) = rest.split_at(tokens);
        window.write(decoder, own)?;
        rest = others;
    }
    Ok(())
}
