//! Chat of the published code: prompt validation, greedy decoding with an n-gram ban, stopping criteria, trimming.
//!
//! It follows `chat()` in C3-master/C3/model/C3.py at commit ff52c7e, and the generation loop of transformers 4.49.

use std::sync::Arc;

use crate::Error;
use crate::network;
use crate::tokenizer::Tokenizer;

/// Length in tokens of the n-grams that may not occur twice in the prompt followed by the answer.
const NO_REPEAT_NGRAM: usize = 20;
/// Ends an answer, as a special token or spelled out in text tokens.
const STOP: &str = "<|im_end|>";
/// Maximum tokens of an answer if the caller sets no maximum.
pub const TOKENS_MAX: usize = 4096;

/// State of an answer that is being generated.
pub struct Generation {
    /// Ids of the prompt, followed by the ids of the answer.
    ids: Vec<u32>,
    prompt_len: usize,
    tokens_max: usize,
    end_ids: Vec<u32>,
    stop_id: u32,
    tokenizer: Arc<Tokenizer>,
    /// Bytes of the answer's text tokens, without special tokens.
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
            prompt_len: ids.len(),
            ids,
            tokens_max: if tokens_max == 0 { TOKENS_MAX } else { tokens_max },
            end_ids,
            stop_id: tokenizer.special(STOP)?,
            tokenizer,
            plain: Vec::new(),
            done: false,
        })
    }

    /// Ids of the prompt, with `<imgpad>` in place of the latents.
    pub fn prompt(&self) -> &[u32] {
        &self.ids[..self.prompt_len]
    }

    /// Ids of the answer so far, including the id that ended the answer.
    pub fn tokens(&self) -> &[u32] {
        &self.ids[self.prompt_len..]
    }

    /// Returns true if the answer has ended.
    pub fn done(&self) -> bool {
        self.done
    }

    /// Appends the next token: the argmax of `logits` (one per vocabulary id) under the n-gram ban. Sets the logits of
    /// banned ids to minus infinity.
    pub fn push_greedy(&mut self, logits: &mut [f32]) {
        let id = network::greedy(logits, &self.banned());
        self.push(id);
    }

    /// Appends the next token.
    pub(crate) fn push(&mut self, id: u32) {
        self.ids.push(id);
        self.plain.extend(self.tokenizer.text(id).unwrap_or_default());
        let length = self.tokens().len();
        // The published stopping criterion never stops at the first token: its first call only initialises it.
        let stopped = length > 1 && (id == self.stop_id || contains(&self.plain, STOP.as_bytes()));
        self.done = stopped || self.end_ids.contains(&id) || length >= self.tokens_max;
    }

    /// Returns the answer with special tokens spelled out.
    pub fn raw_text(&self) -> String {
        let bytes: Vec<u8> = self.tokens().iter().flat_map(|&id| self.tokenizer.spelling(id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns the answer as the published chat does: trimmed, one trailing `<|im_end|>` removed, trimmed again.
    pub fn text(&self) -> String {
        let raw = self.raw_text();
        let trimmed = trim(&raw);
        trim(trimmed.strip_suffix(STOP).unwrap_or(trimmed)).to_owned()
    }

    /// Maximum rows of the KV cache.
    pub(crate) fn rows_max(&self) -> usize {
        self.prompt_len + self.tokens_max
    }

    /// Returns the ids that, as the next token, would repeat an n-gram of [`NO_REPEAT_NGRAM`] tokens.
    pub(crate) fn banned(&self) -> Vec<u32> {
        let Some(start) = (self.ids.len() + 1).checked_sub(NO_REPEAT_NGRAM) else { return Vec::new() };
        let last = &self.ids[start..];
        let ngrams = self.ids.windows(NO_REPEAT_NGRAM);
        ngrams.filter(|ngram| ngram[..NO_REPEAT_NGRAM - 1] == *last).map(|ngram| ngram[NO_REPEAT_NGRAM - 1]).collect()
    }
}

/// Validates a context. Fails with [`Error::InvalidInput`] if the context contains `<img>`. The published code, too,
/// raises an exception then: either `</img>` is not at the expected position, or the input has two latent slots.
pub(crate) fn check_context(ids: &[u32], tokenizer: &Tokenizer, latents: usize) -> Result<(), Error> {
    let (start, end) = (tokenizer.special("<img>")?, tokenizer.special("</img>")?);
    match ids.iter().position(|&id| id == start) {
        None => Ok(()),
        Some(at) if ids.get(at + latents + 1) == Some(&end) => {
            Err(Error::input("the context already contains a latent slot: remove or respell <img>"))
        }
        Some(_) => Err(Error::input("<img> in the context has no matching </img>: remove or respell it")),
    }
}

/// Validates a prompt as the published code does. Fails with [`Error::InvalidInput`] if the numbers of `<img>` and
/// `</img>` differ.
pub(crate) fn check_prompt(ids: &[u32], tokenizer: &Tokenizer) -> Result<(), Error> {
    let count = |token| tokenizer.special(token).map(|special| ids.iter().filter(|&&id| id == special).count());
    match (count("<img>")?, count("</img>")?) {
        (starts, ends) if starts == ends => Ok(()),
        _ => Err(Error::input("<img> and </img> in the prompt do not match: remove or respell them")),
    }
}

/// Trims the characters that Python's `str.strip` trims.
fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
