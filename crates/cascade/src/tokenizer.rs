//! Tokenizer: text to token ids, token ids to bytes.
//!
//! Documents are tokenized without normalisation, and special tokens in documents are treated as text. The concatenated
//! bytes of the tokens are therefore the bytes of the document. A token may contain only part of a UTF-8 character.

use serde_json::Value;
use tokenizers::Tokenizer as HfTokenizer;

use crate::Error;

/// A byte-level BPE tokenizer.
pub(crate) struct Tokenizer {
    /// For documents: special tokens are treated as text.
    document: HfTokenizer,
    /// For prompts: special tokens are recognised.
    prompt: HfTokenizer,
    /// Meaning of each token id, indexed by id.
    pieces: Vec<Piece>,
}

/// Meaning of a token id.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// A text token, with its bytes.
    Text(Box<[u8]>),
    /// A special token, with its spelling.
    Special(Box<[u8]>),
    /// An id without a token: the weights may have more ids than the tokenizer.
    Unused,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. `vocabulary` is the number of ids in the weights. Fails with [`Error::Checkpoint`] if
    /// the file is not a byte-level BPE tokenizer, or if an id in it is not below `vocabulary`.
    pub(crate) fn read(json: &[u8], vocabulary: usize) -> Result<Self, Error> {
        let wrong = |what: &str| {
            Error::checkpoint(format!("tokenizer.json {what}: use the file that came with the checkpoint"))
        };
        // `tokenizers` panics if a part of the file is no JSON, or if merges do not fit the vocabulary.
        let content: Value = serde_json::from_slice(json).map_err(|error| wrong(&format!("is no JSON ({error})")))?;
        if !has_fitting_merges(&content["model"]) {
            return Err(wrong("has merges of tokens that its vocabulary lacks, or a subword prefix"));
        }
        let prompt = HfTokenizer::from_bytes(json).map_err(|error| wrong(&format!("cannot be read ({error})")))?;
        let mut document = prompt.clone();
        document.set_encode_special_tokens(true);
        document
            .with_normalizer(None::<tokenizers::NormalizerWrapper>)
            .map_err(|error| wrong(&format!("cannot be used without its normaliser ({error})")))?;
        let added = prompt.get_added_tokens_decoder();
        let mut pieces = vec![Piece::Unused; vocabulary];
        for (token, id) in prompt.get_vocab(true) {
            let piece = pieces.get_mut(id as usize);
            let piece =
                piece.ok_or_else(|| wrong(&format!("has id {id}, but the weights have only {vocabulary} ids")))?;
            *piece = match added.get(&id) {
                Some(added) if added.special => Piece::Special(token.into_bytes().into()),
                Some(_) => Piece::Text(token.into_bytes().into()),
                None => Piece::Text(token_bytes(&token).ok_or_else(|| wrong("is not a byte-level BPE"))?),
            };
        }
        Ok(Self { document, prompt, pieces })
    }

    /// Tokenizes a document. Fails with [`Error::Checkpoint`] if the concatenated bytes of the tokens differ from
    /// `text`.
    pub(crate) fn document(&self, text: &str) -> Result<Vec<u32>, Error> {
        let ids = encode(&self.document, text)?;
        let mut rest = text.as_bytes();
        for &id in &ids {
            rest = self.text(id).and_then(|bytes| rest.strip_prefix(bytes)).ok_or_else(|| {
                Error::checkpoint("tokenizer.json changes bytes of a text: use the file that came with the checkpoint")
            })?;
        }
        Ok(ids)
    }

    /// Tokenizes a prompt, in which special tokens are recognised.
    pub(crate) fn prompt(&self, text: &str) -> Result<Vec<u32>, Error> {
        encode(&self.prompt, text)
    }

    /// Returns the id of a special token. Fails with [`Error::Checkpoint`] if the tokenizer has no such token.
    pub(crate) fn special(&self, token: &str) -> Result<u32, Error> {
        let id = self.prompt.token_to_id(token);
        id.ok_or_else(|| {
            Error::checkpoint(format!(
                "tokenizer.json has no token {token}: use the file that came with the checkpoint"
            ))
        })
    }

    /// Returns the bytes of a text token, or `None` if the id is special or unused.
    pub(crate) fn text(&self, id: u32) -> Option<&[u8]> {
        match self.pieces.get(id as usize) {
            Some(Piece::Text(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// Returns the bytes of a text token, the spelling of a special token, or nothing for an unused id.
    pub(crate) fn spelling(&self, id: u32) -> &[u8] {
        match self.pieces.get(id as usize) {
            Some(Piece::Text(bytes) | Piece::Special(bytes)) => bytes,
            _ => &[],
        }
    }

    /// Returns the ids that are not text.
    pub(crate) fn non_text_ids(&self) -> Vec<u32> {
        (0..self.pieces.len() as u32).filter(|&id| self.text(id).is_none()).collect()
    }

    /// Number of ids in the weights.
    pub(crate) fn vocabulary(&self) -> usize {
        self.pieces.len()
    }
}

fn encode(tokenizer: &HfTokenizer, text: &str) -> Result<Vec<u32>, Error> {
    let encoding = tokenizer.encode_fast(text, false);
    let encoding = encoding.map_err(|error| Error::input(format!("text cannot be tokenized: {error}")))?;
    Ok(encoding.get_ids().to_vec())
}

/// Decodes GPT-2's byte-level spelling: a printable byte is spelled as the character with its code, the n-th other byte
/// as the character U+0100 + n. Returns `None` if a character spells no byte.
fn token_bytes(token: &str) -> Option<Box<[u8]>> {
    let printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let byte = |character: char| match u32::from(character) {
        code if code < 0x100 => printable(code).then_some(code as u8),
        code => (0..0x100).filter(|&byte| !printable(byte)).nth(code as usize - 0x100).map(|byte| byte as u8),
    };
    token.chars().map(byte).collect()
}

/// Returns whether the vocabulary of a BPE model has both parts of each merge and their concatenation, and tokens have
/// no prefix. A merge is a pair of tokens, or both in one string with a space between them.
fn has_fitting_merges(model: &Value) -> bool {
    let prefix = &model["continuing_subword_prefix"];
    let is_token = |token: &str| model["vocab"].get(token).is_some();
    let fits = |merge: &Value| {
        let parts = match merge {
            Value::String(both) => both.split_once(' '),
            pair => pair[0].as_str().zip(pair[1].as_str()),
        };
        parts.is_some_and(|(a, b)| is_token(a) && is_token(b) && is_token(&[a, b].concat()))
    };
    (prefix.is_null() || prefix == "") && model["merges"].as_array().is_none_or(|merges| merges.iter().all(fits))
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    /// Shared by all tests, because reading the file takes longer than all other work.
    static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
        let json = std::fs::read("../../models/c3-mini/tokenizer.json").unwrap();
        Tokenizer::read(&json, 16_384).unwrap()
    });

    #[test]
    fn special_tokens_in_documents_are_treated_as_text() {
        let tokenizer = &*TOKENIZER;
        let ids = tokenizer.document("<|im_end|> and <imgpad>").unwrap();
        assert!(ids.iter().all(|&id| id >= 6), "{ids:?}");
        assert_eq!(tokenizer.prompt("<|im_end|>").unwrap(), [2]);
        assert_eq!(tokenizer.non_text_ids(), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn byte_level_spelling_is_decoded() {
        assert_eq!(token_bytes("Ġthe").as_deref(), Some(b" the".as_slice()));
        assert_eq!(token_bytes("Ċ").as_deref(), Some(b"\n".as_slice()));
        assert_eq!(token_bytes("日"), None);
    }

    proptest! {
        #[test]
        fn every_text_round_trips(text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}|(\\r\\n|\u{1F469}\u{200D}\u{1F52C}| ){0,10}") {
            let ids = TOKENIZER.document(&text).unwrap();
            let bytes: Vec<u8> = ids.iter().flat_map(|&id| TOKENIZER.text(id).unwrap()).copied().collect();
            prop_assert_eq!(bytes, text.into_bytes());
        }
    }
}
