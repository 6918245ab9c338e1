//! The published chat: how its code checks a prompt, bans repeated n-grams, stops, and trims the answer.
//!
//! Follows `chat()` of C3-master/C3/model/C3.py at ff52c7e and the generation loop of transformers 4.49.

use std::collections::HashSet;
use std::sync::Arc;

use crate::Error;
use crate::network::Best;
use crate::tokenizer::Tokenizer;

/// No run of so many tokens is written twice, the prompt's included.
const NO_REPEAT_NGRAM: usize = 20;
/// What ends an answer.
const STOP: &str = "<|im_end|>";
/// Most tokens of an answer where the caller names no number.
pub const TOKENS_MAX: usize = 4096;

/// An answer that is being written.
pub struct Generation {
    /// The prompt's ids and the answer's.
    ids: Vec<u32>,
    prompt: usize,
    tokens_max: usize,
    end_ids: Vec<u32>,
    stop_id: u32,
    tokenizer: Arc<Tokenizer>,
    /// Bytes of the answer's tokens that are text.
    plain: Vec<u8>,
    done: bool,
}

impl Generation {
    pub(crate) fn new(
        ids: Vec<u32>,
        tokens_max: usize,
        end_ids: Vec<u32>,
        tokenizer: Arc<Tokenizer>,
    ) -> Result<Self, Error> {
        Ok(Self {
            prompt: ids.len(),
            ids,
            tokens_max: if tokens_max == 0 { TOKENS_MAX } else { tokens_max },
            end_ids,
            stop_id: tokenizer.special(STOP)?,
            tokenizer,
            plain: Vec::new(),
            done: false,
        })
    }

    /// Ids of the prompt, `<imgpad>` in the latents' places.
    pub fn prompt(&self) -> &[u32] {
        &self.ids[..self.prompt]
    }

    /// Ids of the answer so far, the one that ended it included.
    pub fn tokens(&self) -> &[u32] {
        &self.ids[self.prompt..]
    }

    /// Whether the answer has ended.
    pub fn done(&self) -> bool {
        self.done
    }

    /// Writes the next token: the largest of `logits`, one a vocabulary id, that the n-gram ban leaves.
    pub fn write(&mut self, logits: &mut [f32]) {
        for banned in self.banned() {
            logits[banned as usize] = f32::NEG_INFINITY;
        }
        let id = Best::of(logits, None).id;
        self.ids.push(id);
        self.plain.extend(self.tokenizer.text(id).unwrap_or_default());
        let written = self.tokens().len();
        // The published stopping criterion only takes its bearings at the first token.
        let stopped = written > 1 && (id == self.stop_id || contains(&self.plain, STOP.as_bytes()));
        self.done = stopped || self.end_ids.contains(&id) || written >= self.tokens_max;
    }

    /// The answer's tokens as text, special tokens spelled out.
    pub fn raw_text(&self) -> String {
        let bytes: Vec<u8> =
            self.tokens().iter().flat_map(|&id| self.tokenizer.spelling(id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The answer as the published chat returns it: trimmed, one `<|im_end|>` at its end removed, trimmed again.
    pub fn text(&self) -> String {
        let raw = self.raw_text();
        let trimmed = trim(&raw);
        trim(trimmed.strip_suffix(STOP).unwrap_or(trimmed)).to_owned()
    }

    /// Rows of keys and values that it takes at the most.
    pub(crate) fn rows_max(&self) -> usize {
        self.prompt + self.tokens_max
    }

    /// Ids that would repeat a run of [`NO_REPEAT_NGRAM`] tokens.
    fn banned(&self) -> HashSet<u32> {
        let Some(start) = (self.ids.len() + 1).checked_sub(NO_REPEAT_NGRAM) else { return HashSet::new() };
        let last = &self.ids[start..];
        let runs = self.ids.windows(NO_REPEAT_NGRAM);
        runs.filter(|run| run[..NO_REPEAT_NGRAM - 1] == *last).map(|run| run[NO_REPEAT_NGRAM - 1]).collect()
    }
}

/// As the published code: each `<img>` of a context must be followed by `</img>` where the slot ends, and there must be
/// one slot, the one that the code appends.
pub(crate) fn check_context(ids: &[u32], tokenizer: &Tokenizer, latents: usize) -> Result<(), Error> {
    let (start, end) = (tokenizer.special("<img>")?, tokenizer.special("</img>")?);
    match ids.iter().position(|&id| id == start) {
        None => Ok(()),
        Some(place) if ids.get(place + latents + 1) == Some(&end) => {
            Err(Error::input("the context holds a slot of latents already: write <img> otherwise"))
        }
        Some(_) => {
            Err(Error::input("an <img> in the context is not followed by its </img>: write it otherwise"))
        }
    }
}

/// As the published code: as many `<img>` as `</img>`.
pub(crate) fn check_prompt(ids: &[u32], tokenizer: &Tokenizer) -> Result<(), Error> {
    let count =
        |token| tokenizer.special(token).map(|special| ids.iter().filter(|&&id| id == special).count());
    match (count("<img>")?, count("</img>")?) {
        (starts, ends) if starts == ends => Ok(()),
        _ => Err(Error::input("the prompt holds <img> without </img>, or the reverse: write it otherwise")),
    }
}

/// Trims what Python's `str.strip` does.
fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
