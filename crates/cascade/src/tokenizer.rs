//! Text to token ids and back to bytes.
//!
//! Text of documents is tokenized with special tokens read as text and without normalisation, so that the bytes of the
//! tokens joined are the bytes of the text. A token need not be whole characters: text is bytes until it is joined.

use tokenizers::Tokenizer as HfTokenizer;

use crate::Error;

/// A byte-level BPE tokenizer.
pub(crate) struct Tokenizer {
    /// For documents: special tokens are text.
    document: HfTokenizer,
    /// For prompts: special tokens are recognised.
    prompt: HfTokenizer,
    /// What each id stands for.
    pieces: Vec<Piece>,
}

/// What a token id stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// A run of text.
    Text(Box<[u8]>),
    /// A special token, with its spelling.
    Special(Box<[u8]>),
    /// Nothing: the vocabulary of the weights may be larger than the tokenizer's.
    Unused,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`; `vocabulary` is the number of ids that the weights know.
    pub(crate) fn read(json: &[u8], vocabulary: usize) -> Result<Self, Error> {
        let wrong =
            |what: &str| Error::checkpoint(format!("tokenizer.json {what}: take the one of the checkpoint"));
        let prompt =
            HfTokenizer::from_bytes(json).map_err(|error| wrong(&format!("cannot be read ({error})")))?;
        let mut document = prompt.clone();
        document.set_encode_special_tokens(true);
        document
            .with_normalizer(None::<tokenizers::NormalizerWrapper>)
            .map_err(|error| wrong(&format!("cannot do without its normaliser ({error})")))?;
        let added = prompt.get_added_tokens_decoder();
        let mut pieces = vec![Piece::Unused; vocabulary];
        for (token, id) in prompt.get_vocab(true) {
            let place = pieces.get_mut(id as usize);
            let place = place.ok_or_else(|| wrong(&format!("has id {id}, the weights have {vocabulary}")))?;
            *place = match added.get(&id) {
                Some(added) if added.special => Piece::Special(token.into_bytes().into()),
                Some(_) => Piece::Text(token.into_bytes().into()),
                None => Piece::Text(token_bytes(&token).ok_or_else(|| wrong("is not a byte-level BPE"))?),
            };
        }
        Ok(Self { document, prompt, pieces })
    }

    /// Ids of a document's text. Their bytes joined are the text's.
    pub(crate) fn document(&self, text: &str) -> Result<Vec<u32>, Error> {
        let ids = encode(&self.document, text)?;
        let mut rest = text.as_bytes();
        for &id in &ids {
            rest = self.text(id).and_then(|bytes| rest.strip_prefix(bytes)).ok_or_else(|| {
                Error::checkpoint(
                    "tokenizer.json does not keep every byte of a text: it cannot serve documents",
                )
            })?;
        }
        Ok(ids)
    }

    /// Ids of a prompt, special tokens recognised.
    pub(crate) fn prompt(&self, text: &str) -> Result<Vec<u32>, Error> {
        encode(&self.prompt, text)
    }

    /// The id of a special token that the layout needs.
    pub(crate) fn special(&self, token: &str) -> Result<u32, Error> {
        let id = self.prompt.token_to_id(token);
        id.ok_or_else(|| {
            Error::checkpoint(format!("tokenizer.json has no token {token}: take the checkpoint's own"))
        })
    }

    /// The bytes of a token that is text.
    pub(crate) fn text(&self, id: u32) -> Option<&[u8]> {
        match self.pieces.get(id as usize) {
            Some(Piece::Text(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// The bytes of any token: a special token's are its spelling.
    pub(crate) fn spelling(&self, id: u32) -> &[u8] {
        match self.pieces.get(id as usize) {
            Some(Piece::Text(bytes) | Piece::Special(bytes)) => bytes,
            _ => &[],
        }
    }

    /// Ids that are never text.
    pub(crate) fn not_text(&self) -> Vec<u32> {
        (0..self.pieces.len() as u32).filter(|&id| self.text(id).is_none()).collect()
    }

    /// Number of ids.
    pub(crate) fn vocabulary(&self) -> usize {
        self.pieces.len()
    }
}

fn encode(tokenizer: &HfTokenizer, text: &str) -> Result<Vec<u32>, Error> {
    let encoding = tokenizer.encode_fast(text, false);
    let encoding = encoding.map_err(|error| Error::input(format!("text cannot be tokenized: {error}")))?;
    Ok(encoding.get_ids().to_vec())
}

/// The bytes that a token's characters stand for in GPT-2's byte-level spelling: printable bytes stand for themselves,
/// the others, in order, for the characters from U+0100 on.
fn token_bytes(token: &str) -> Option<Box<[u8]>> {
    let printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let byte = |character: char| match u32::from(character) {
        code if code < 0x100 => printable(code).then_some(code as u8),
        code => (0..0x100).filter(|&byte| !printable(byte)).nth(code as usize - 0x100).map(|byte| byte as u8),
    };
    token.chars().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokenizer() -> Tokenizer {
        let json = std::fs::read("../models/c3-mini/tokenizer.json").unwrap();
        Tokenizer::read(&json, 16_384).unwrap()
    }

    #[test]
    fn special_tokens_in_documents_are_text() {
        let tokenizer = tokenizer();
        let ids = tokenizer.document("<|im_end|> and <imgpad>").unwrap();
        assert!(ids.iter().all(|&id| id >= 6), "{ids:?}");
        assert_eq!(tokenizer.prompt("<|im_end|>").unwrap(), [2]);
        assert_eq!(tokenizer.not_text(), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn spelled_bytes_are_read_back() {
        assert_eq!(token_bytes("Ġthe").as_deref(), Some(b" the".as_slice()));
        assert_eq!(token_bytes("Ċ").as_deref(), Some(b"\n".as_slice()));
        assert_eq!(token_bytes("日"), None);
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}|(\\r\\n|\u{1F469}\u{200D}\u{1F52C}| ){0,10}") {
            let tokenizer = tokenizer();
            let ids = tokenizer.document(&text).unwrap();
            let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.text(id).unwrap()).copied().collect();
            prop_assert_eq!(bytes, text.into_bytes());
        }
    }
}
