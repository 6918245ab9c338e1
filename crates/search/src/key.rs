//! Key with which a tenant's terms are hashed, and the ids of terms.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use zeroize::ZeroizeOnDrop;

use crate::analyzer::{QueryTerm, TermKind};

/// Key of 256 bits with which the terms of one tenant are hashed. Sketches of tenants with different keys have nothing
/// in common, and without the key a term cannot be looked up in a sketch.
#[derive(Clone, ZeroizeOnDrop)]
pub struct TermKey {
    key: [u8; 32],
    /// Numbers of the common words and of the common characters. The order of numbers depends on the key.
    #[zeroize(skip)]
    common: Arc<[HashMap<&'static str, u32>; 2]>,
}

impl TermKey {
    /// Derives the key from a secret of the tenant that serves other purposes too.
    pub fn derive(secret: &[u8; 32]) -> Self {
        let key = blake3::derive_key("C3 Serve 2026-12 key of search terms", secret);
        let characters = COMMON_CHARACTERS.char_indices().map(|(at, c)| &COMMON_CHARACTERS[at..at + c.len_utf8()]);
        let common = [COMMON_WORDS.to_vec(), characters.collect()].map(|mut terms: Vec<&str>| {
            terms.sort_by_cached_key(|term| *blake3::keyed_hash(&key, term.as_bytes()).as_bytes());
            terms.into_iter().zip(0..).collect()
        });
        Self { key, common: Arc::new(common) }
    }

    /// Returns the id of a term in its normal form.
    pub(crate) fn id(&self, term: &str, kind: TermKind) -> TermId {
        let [words, characters] = &*self.common;
        // A word may have the form of a character: U+3038 is a word, and its form is 十.
        let (common, number, hashed) = match kind {
            TermKind::Word | TermKind::Part | TermKind::Compound => (Space::CommonWord, words.get(term), Space::Word),
            TermKind::Character => (Space::CommonCharacter, characters.get(term), Space::Character),
            TermKind::Bigram => (Space::Pair, None, Space::Pair),
        };
        if let Some(number) = number {
            return TermId { space: common, hash: *number };
        }
        let [a, b, c, d, ..] = *blake3::keyed_hash(&self.key, term.as_bytes()).as_bytes();
        TermId { space: hashed, hash: u32::from_be_bytes([a, b, c, d]) }
    }

    /// Returns the ids by which windows with a term are found.
    pub(crate) fn probe(&self, term: &QueryTerm) -> Probe {
        let id = self.id(&term.text, term.kind);
        if term.kind != TermKind::Bigram {
            return Probe::One(id);
        }
        let (first, second) = term.text.split_at(term.split);
        let characters = [first, second].map(|character| self.id(character, TermKind::Character));
        Probe::Pair { pair: id, characters }
    }
}

impl fmt::Debug for TermKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TermKey(…)")
    }
}

/// Ids by which windows with a term are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Id of a word or character.
    One(TermId),
    /// Id of a bigram and of its characters. A window must contain all three, which excludes most false positives of
    /// the short hashes of bigrams.
    Pair {
        /// The bigram.
        pair: TermId,
        /// Its characters.
        characters: [TermId; 2],
    },
}

/// Set to which the ids of a kind of terms belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Space {
    /// The words of [`COMMON_WORDS`].
    CommonWord,
    /// The characters of [`COMMON_CHARACTERS`].
    CommonCharacter,
    /// Hashes of other words, parts and compounds.
    Word,
    /// Hashes of other characters.
    Character,
    /// Hashes of bigrams.
    Pair,
}

impl Space {
    /// All spaces, in the order of their keys.
    pub(crate) const ALL: [Self; 5] =
        [Self::CommonWord, Self::CommonCharacter, Self::Word, Self::Character, Self::Pair];

    /// Returns whether terms are numbered, not hashed.
    pub(crate) fn is_common(self) -> bool {
        matches!(self, Self::CommonWord | Self::CommonCharacter)
    }
}

/// Resolution of the hashes in one space: they are mapped to 2ⁿ or 1.5 · 2ⁿ values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Resolution(u8);

impl Resolution {
    /// 256 values.
    pub(crate) const MIN: Self = Self(14);
    /// 2²⁰ values.
    pub(crate) const MAX: Self = Self(38);

    /// Returns the resolution with this number, if it is valid.
    pub(crate) fn new(number: u8) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0).contains(&number).then_some(Self(number))
    }

    /// Returns the lowest resolution with at least this number of values, within the limits.
    pub(crate) fn at_least(values: usize) -> Self {
        let numbers = Self::MIN.0..Self::MAX.0;
        Self(numbers.into_iter().find(|&number| Self(number).values() as usize >= values).unwrap_or(Self::MAX.0))
    }

    /// Returns the resolution that is lower by `steps`, within the limits.
    pub(crate) fn lowered(self, steps: u8) -> Self {
        Self(self.0.saturating_sub(steps)).max(Self::MIN)
    }

    pub(crate) fn number(self) -> u8 {
        self.0
    }

    /// Returns the number of values.
    pub(crate) fn values(self) -> u32 {
        (2 + u32::from(self.0 & 1)) << (self.0 >> 1)
    }
}

/// Resolutions of one sketch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resolutions {
    pub(crate) words: Resolution,
    pub(crate) characters: Resolution,
    pub(crate) pairs: Resolution,
}

impl Resolutions {
    /// The lowest resolutions.
    pub(crate) const MIN: Self = Self { words: Resolution::MIN, characters: Resolution::MIN, pairs: Resolution::MIN };

    /// Returns the first key of a space and its number of values.
    pub(crate) fn keys(self, space: Space) -> (u32, u32) {
        let (number, values) = match space {
            Space::CommonWord => (0, COMMON_WORDS.len() as u32),
            Space::CommonCharacter => (0, COMMON_CHARACTER_COUNT),
            Space::Word => (self.words.0, self.words.values()),
            Space::Character => (self.characters.0, self.characters.values()),
            Space::Pair => (self.pairs.0, self.pairs.values()),
        };
        ((space as u32) << 27 | u32::from(number) << 21, values)
    }
}

/// Identity of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TermId {
    space: Space,
    /// Number of a common term, or the first 32 bits of the keyed hash.
    hash: u32,
}

impl TermId {
    pub(crate) fn new(space: Space, hash: u32) -> Self {
        Self { space, hash }
    }

    pub(crate) fn space(self) -> Space {
        self.space
    }

    pub(crate) fn hash(self) -> u32 {
        self.hash
    }

    /// Returns the key of the term's postings, of 30 bits. It differs between spaces and resolutions. In one of them,
    /// it grows with the hash.
    pub(crate) fn key(self, resolutions: Resolutions) -> u32 {
        let (first, values) = resolutions.keys(self.space);
        if self.space.is_common() {
            return first + self.hash;
        }
        first + ((u64::from(self.hash) * u64::from(values)) >> 32) as u32
    }
}

/// The commonest words of English, as the analyser returns them. About fifty of them are in each window, so they have
/// numbers of 6 bits instead of hashes: this saves 45 bytes a window.
const COMMON_WORDS: [&str; 64] = [
    "a", "all", "an", "and", "ani", "are", "as", "at", "be", "been", "but", "by", "can", "could", "do", "for", "from",
    "had", "has", "have", "he", "her", "him", "his", "i", "if", "in", "into", "is", "it", "may", "me", "more", "my",
    "no", "not", "of", "on", "one", "or", "other", "out", "she", "so", "some", "than", "that", "the", "their", "them",
    "then", "there", "they", "this", "to", "up", "was", "we", "were", "which", "who", "will", "with", "you",
];

/// Number of [`COMMON_CHARACTERS`].
const COMMON_CHARACTER_COUNT: u32 = 512;

/// Common characters of Chinese. Two thirds of the distinct characters of a window are among them, so they have numbers
/// of 9 bits instead of hashes: this saves 85 bytes a window.
const COMMON_CHARACTERS: &str = "\
    的一是不了在人有我他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后\
    小么心多天而能好都然没日于起还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长\
    知民样现分将外但身些与高意进把法此实回二理美点月明其种声全工己话儿者向情部正名定女问力机给等几很业最\
    间新什打便位因重被走电四第门相次东政海口使教西再平真听世气信北少关并内加化由却代军产入先山五太水万市\
    眼体别处总才场师书比住员九笑性通目华报立马命张活难神数件安表原车白应路期叫死常提感金何更反合放做系计\
    或司利受光王果亲界及今京务制解各任至清物台象记边共风战干接它许八特觉望直服毛林题建南度统色字请交爱让\
    认算论百吃义科怎元社术结六功指思非流每青管夫连远资队跟带花快条院变联言权往展该领传近留红治决周保达办\
    运武半候七必城父强步完革深区即求品士转量空甚众技轻程告江语英基派满式李息写呢识极令黄德收脸钱党倒未持\
    取设始版双历越史商千片容研像找友孩站广改议形委早房音火际则首单据导影失拿网香似斯专石若兵弟谁校读志飞\
    观争究包组造落视济喜离虽坏兴宝集编宣怀银夜黑阿嘴衣坐哭姐妹床饭茶酒雨雪春秋冬夏鱼鸟狗猫牛羊古船桥树草\
    木竹土丝米块根底终随断村";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyzer::analyze;

    #[test]
    fn common_terms_are_normal_forms() {
        for word in COMMON_WORDS.iter().filter(|word| **word != "ani") {
            analyze(word, |term| assert_eq!((term.text, term.kind), (*word, TermKind::Word)));
        }
        assert_eq!(TermKey::derive(&[1; 32]).common.each_ref().map(HashMap::len), [64, 512]);
    }

    #[test]
    fn ids_depend_on_the_key() {
        let (a, b) = (TermKey::derive(&[1; 32]), TermKey::derive(&[2; 32]));
        assert_eq!(a.id("ship", TermKind::Word), TermKey::derive(&[1; 32]).id("ship", TermKind::Word));
        assert_ne!(a.id("ship", TermKind::Word), b.id("ship", TermKind::Word));
        assert!(COMMON_WORDS.iter().any(|word| a.id(word, TermKind::Word) != b.id(word, TermKind::Word)));
    }

    #[test]
    fn keys_of_spaces_and_resolutions_differ() {
        let resolution = |values| Resolution::at_least(values);
        assert_eq!(resolution(300).values(), 384);
        assert_eq!((resolution(1), resolution(1 << 30)), (Resolution::MIN, Resolution::MAX));
        let id = |space| TermId { space, hash: u32::MAX };
        let mut keys = Vec::new();
        for values in [256, 384, 1 << 20] {
            let resolution = resolution(values);
            let all = Resolutions { words: resolution, characters: resolution, pairs: resolution };
            keys.extend([Space::Word, Space::Character, Space::Pair].map(|space| id(space).key(all)));
            assert_eq!(id(Space::Word).key(all), all.keys(Space::Word).0 + values as u32 - 1);
        }
        assert!(keys.iter().all(|key| *key < 1 << 30));
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 9);
    }
}
