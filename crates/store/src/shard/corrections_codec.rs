//! Entropy coding of corrections.
//!
//! A window is coded as four kinds of numbers: the count of corrections, the count of wrongly predicted tokens, gaps
//! between corrected positions, and token ids. The first count may exceed the second: tokens that are predicted with a
//! small logit margin are corrected too. A number `v` is coded in two parts, as in an Elias gamma code. Its *length* is
//! the number of bits below the highest set bit of `v + 1`. The length comes first, coded by an adaptive model for the
//! kind of number. Then these bits follow verbatim. Models use only integers, so every machine produces the same code.
//! The range coder is that of the crate `constriction`.
//!
//! Payloads are checked while they are decoded: a window never gets more corrections than it has tokens, and a payload
//! of the wrong length is refused.

use std::borrow::Borrow;
use std::num::NonZeroU16;

use bytes::Bytes;
use c3_types::limits::SHARD_BYTES_MAX;
use c3_types::{Correction, Corrections, Invalid, WindowCorrections};
use constriction::backends::ReadWords;
use constriction::stream::model::{DecoderModel, EncoderModel, EntropyModel, UniformModel};
use constriction::stream::queue::{SmallRangeDecoder, SmallRangeEncoder};
use constriction::stream::{Decode, Encode};
use constriction::{Queue, UnwrapInfallible};

/// Bits of a probability. The coder allows 16; the unused 4 bits make its rounding losses negligible.
const PRECISION: usize = 12;
/// Number of possible lengths of a 32-bit number: 0 to 32.
const LENGTHS: usize = 33;
/// Increment of a length's count for each number of that length. It is large, so that models adapt after a few numbers.
const INCREMENT: u16 = 12;
/// Maximum sum of a model's counts. Above it all counts are halved, so that older numbers weigh less.
const SUM_MAX: u16 = 1 << 11;
/// Maximum number of 16-bit words that the decoder reads past the end of an intact payload.
const WORDS_PAST_END_MAX: u32 = 2;

/// Encodes the corrections of a shard's windows, in order.
pub(crate) fn encode(windows: &[WindowCorrections]) -> Bytes {
    let mut writer = Writer { coder: SmallRangeEncoder::new(), models: Models::default() };
    for window in windows {
        let (tokens, corrections) = (window.tokens, window.corrections.as_slice());
        writer.number(Kind::Count, corrections.len() as u32, tokens);
        writer.number(Kind::Wrong, tokens.saturating_sub(window.right), tokens);
        let mut next = 0;
        for correction in corrections {
            // Neither difference underflows: positions in `Corrections` increase and are within the window.
            writer.number(Kind::Gap, correction.position - next, tokens - 1 - next);
            writer.number(Kind::Token, correction.token, u32::MAX);
            next = correction.position + 1;
        }
    }
    let words: Vec<u16> = writer.coder.into_compressed().unwrap_infallible();
    words.into_iter().flat_map(u16::to_le_bytes).collect()
}

/// Decodes the corrections of a shard's windows. `tokens` yields the token count of each window.
pub(crate) fn decode(payload: &[u8], tokens: impl Iterator<Item = u32>) -> Result<Vec<WindowCorrections>, Invalid> {
    let (words, odd) = payload.as_chunks();
    if !odd.is_empty() {
        return Err(Invalid::new("corrections", "are cut short"));
    }
    let coder = SmallRangeDecoder::with_backend(Words { words, past_end: 0 }).map_err(|ReadPastEnd| cut())?;
    let mut reader = Reader { coder, models: Models::default(), corrections_left: SHARD_BYTES_MAX };
    let windows = tokens.map(|tokens| reader.window(tokens)).collect::<Result<_, _>>()?;
    match reader.coder.maybe_exhausted() {
        true => Ok(windows),
        false => Err(Invalid::new("corrections", "continue past the last window")),
    }
}

fn cut() -> Invalid {
    Invalid::new("corrections", "end before the last window")
}

/// Kind of a number. Each kind has a model of its own.
#[derive(Clone, Copy)]
enum Kind {
    Count,
    Wrong,
    Gap,
    Token,
}

#[derive(Default)]
struct Models([Lengths; 4]);

impl Models {
    fn get_mut(&mut self, kind: Kind) -> &mut Lengths {
        &mut self.0[kind as usize]
    }
}

struct Writer {
    coder: SmallRangeEncoder,
    models: Models,
}

impl Writer {
    /// Encodes `value`, which must be at most `max`.
    fn number(&mut self, kind: Kind, value: u32, max: u32) {
        const FITS: &str = "the models cover every number, and the output buffer grows";
        let model = self.models.get_mut(kind);
        let length = length_of(value);
        if let Some(lengths) = model.up_to(max) {
            self.coder.encode_symbol(length, lengths).expect(FITS);
        }
        model.update(length);
        let value = u64::from(value) + 1;
        for (bits, shift) in pieces(length) {
            let piece = (value >> shift) as usize & ((1 << bits) - 1);
            self.coder.encode_symbol(piece, uniform(bits)).expect(FITS);
        }
    }
}

struct Reader<'a> {
    coder: SmallRangeDecoder<Words<'a>>,
    models: Models,
    /// Maximum corrections in the windows that are not decoded yet. A shard has at most as many tokens as bytes, and a
    /// token has at most one correction.
    corrections_left: usize,
}

impl Reader<'_> {
    fn window(&mut self, tokens: u32) -> Result<WindowCorrections, Invalid> {
        let count = self.number(Kind::Count, tokens)?;
        let wrong = self.number(Kind::Wrong, tokens)?;
        let too_many = || Invalid::new("corrections", "are more than there are tokens");
        self.corrections_left = self.corrections_left.checked_sub(count as usize).ok_or_else(too_many)?;
        let (mut corrections, mut next) = (Vec::new(), 0);
        for _ in 0..count {
            let last = tokens.checked_sub(next + 1).ok_or_else(too_many)?;
            let position = next + self.number(Kind::Gap, last)?;
            corrections.push(Correction { position, token: self.number(Kind::Token, u32::MAX)? });
            next = position + 1;
        }
        let corrections = Corrections::new(corrections, tokens)?;
        Ok(WindowCorrections { tokens, right: tokens - wrong, corrections })
    }

    /// Decodes a number. Fails if it exceeds `max`.
    fn number(&mut self, kind: Kind, max: u32) -> Result<u32, Invalid> {
        let model = self.models.get_mut(kind);
        let length = match model.up_to(max) {
            Some(lengths) => self.coder.decode_symbol(lengths).map_err(|_| cut())?,
            None => 0,
        };
        model.update(length);
        let mut value = 1u64;
        for (bits, _) in pieces(length) {
            let piece = self.coder.decode_symbol(uniform(bits)).map_err(|_| cut())?;
            value = value << bits | piece as u64;
        }
        let value = u32::try_from(value - 1).ok().filter(|&value| value <= max);
        value.ok_or_else(|| Invalid::new("corrections", format!("contain a number over {max}")))
    }
}

/// Returns the number of bits below the highest set bit of `value + 1`.
fn length_of(value: u32) -> usize {
    (u64::from(value) + 1).ilog2() as usize
}

/// Splits the `length` bits of a number into pieces that fit a uniform model, from the most significant to the least.
/// Yields the number of bits in each piece, and the number of bits below the piece.
fn pieces(length: usize) -> impl Iterator<Item = (usize, usize)> {
    let ends = (0..length).rev().step_by(PRECISION - 1).map(|last| last + 1);
    ends.map(|end| (end.min(PRECISION - 1), end - end.min(PRECISION - 1)))
}

fn uniform(bits: usize) -> UniformModel<u16, PRECISION> {
    UniformModel::new(1 << bits)
}

/// Adaptive model of one kind of number: a count for each length.
struct Lengths {
    counts: [u16; LENGTHS],
    sum: u16,
}

impl Default for Lengths {
    fn default() -> Self {
        Self { counts: [1; LENGTHS], sum: LENGTHS as u16 }
    }
}

impl Lengths {
    /// Returns the model of the lengths of numbers up to `max`; `None` if they all have the same length.
    fn up_to(&self, max: u32) -> Option<LengthModel<'_>> {
        let counts = &self.counts[..=length_of(max)];
        (counts.len() > 1).then(|| LengthModel { counts, sum: counts.iter().sum() })
    }

    fn update(&mut self, length: usize) {
        self.counts[length] += INCREMENT;
        self.sum += INCREMENT;
        if self.sum > SUM_MAX {
            self.counts.iter_mut().for_each(|count| *count = count.div_ceil(2));
            self.sum = self.counts.iter().sum();
        }
    }
}

/// Probabilities of lengths, in units of `2^-PRECISION`. Each length gets one unit; the rest is divided in proportion
/// to the counts.
#[derive(Clone, Copy)]
struct LengthModel<'a> {
    counts: &'a [u16],
    sum: u16,
}

impl LengthModel<'_> {
    /// Returns the total probability of all lengths below `length`, in units of `2^-PRECISION`. `counted` is the sum of
    /// their counts.
    fn cumulative(&self, length: usize, counted: u16) -> u16 {
        let spread = (1 << PRECISION) - self.counts.len() as u32;
        // The result is at most `1 << PRECISION`, so it fits 16 bits.
        (u32::from(counted) * spread / u32::from(self.sum)) as u16 + length as u16
    }

    fn probability(&self, from: u16, length: usize, counted: u16) -> NonZeroU16 {
        let to = self.cumulative(length + 1, counted + self.counts[length]);
        NonZeroU16::new(to - from).expect("every length has at least one unit")
    }
}

impl EntropyModel<PRECISION> for LengthModel<'_> {
    type Symbol = usize;
    type Probability = u16;
}

impl EncoderModel<PRECISION> for LengthModel<'_> {
    fn left_cumulative_and_probability(&self, length: impl Borrow<usize>) -> Option<(u16, NonZeroU16)> {
        let length = *length.borrow();
        let counted = self.counts.get(..length)?.iter().sum();
        let from = self.cumulative(length, counted);
        (length < self.counts.len()).then(|| (from, self.probability(from, length, counted)))
    }
}

impl DecoderModel<PRECISION> for LengthModel<'_> {
    fn quantile_function(&self, quantile: u16) -> (usize, u16, NonZeroU16) {
        let (mut length, mut counted) = (0, 0);
        while length + 1 < self.counts.len() && self.cumulative(length + 1, counted + self.counts[length]) <= quantile {
            counted += self.counts[length];
            length += 1;
        }
        let from = self.cumulative(length, counted);
        (length, from, self.probability(from, length, counted))
    }
}

/// The 16-bit words of a payload that are not read yet.
struct Words<'a> {
    words: &'a [[u8; 2]],
    past_end: u32,
}

/// Error: the decoder read further past the end than it does in an intact payload.
#[derive(Debug)]
struct ReadPastEnd;

impl ReadWords<u16, Queue> for Words<'_> {
    type ReadError = ReadPastEnd;

    fn read(&mut self) -> Result<Option<u16>, ReadPastEnd> {
        match self.words.split_first() {
            Some((word, rest)) => {
                self.words = rest;
                Ok(Some(u16::from_le_bytes(*word)))
            }
            None if self.past_end < WORDS_PAST_END_MAX => {
                self.past_end += 1;
                Ok(None)
            }
            None => Err(ReadPastEnd),
        }
    }

    fn maybe_exhausted(&self) -> bool {
        self.words.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::payload::PlainCorrectionsPayload;

    /// Builds windows from their token counts and corrections (position, token). Also returns the token counts.
    fn windows(of: &[(u32, Vec<(u32, u32)>)]) -> (Vec<WindowCorrections>, Vec<u32>) {
        let windows = of.iter().map(|(tokens, corrections)| {
            let mut corrections: Vec<_> = corrections.iter().map(|&(at, token)| (at % tokens, token)).collect();
            corrections.sort_unstable();
            corrections.dedup_by_key(|(at, _)| *at);
            let corrections = corrections.into_iter().map(|(position, token)| Correction { position, token });
            let corrections = Corrections::new(corrections.collect(), *tokens).unwrap();
            let right = tokens - corrections.as_slice().len() as u32 / 2;
            WindowCorrections { tokens: *tokens, right, corrections }
        });
        (windows.collect(), of.iter().map(|(tokens, _)| *tokens).collect())
    }

    fn corrected_windows() -> impl Strategy<Value = Vec<(u32, Vec<(u32, u32)>)>> {
        let token = prop_oneof![Just(0), Just(u32::MAX), 0u32..20_000, any::<u32>()];
        prop::collection::vec((1u32..3000, prop::collection::vec((any::<u32>(), token), 0..60)), 0..6)
    }

    proptest! {
        #[test]
        fn windows_survive_a_round_trip(of in corrected_windows()) {
            let (windows, tokens) = windows(&of);
            let payload = encode(&windows);
            prop_assert_eq!(decode(&payload, tokens.iter().copied()).unwrap(), windows);
        }

        #[test]
        fn arbitrary_bytes_are_decoded_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            tokens in prop::collection::vec(1u32..=16_384, 0..8),
        ) {
            if let Ok(read) = decode(&bytes, tokens.iter().copied()) {
                let corrections: usize = read.iter().map(|window| window.corrections.as_slice().len()).sum();
                prop_assert!(corrections <= SHARD_BYTES_MAX);
            }
        }

        #[test]
        fn a_payload_of_wrong_length_is_refused(of in corrected_windows(), cut in 1usize..8, more in 3usize..6) {
            let (windows, tokens) = windows(&of);
            let payload = encode(&windows);
            let short = payload.len().saturating_sub(2 * cut + 4);
            let read = decode(&payload[..short], tokens.iter().copied());
            // Without corrections a shorter payload may decode to the same windows.
            let has_corrections = windows.iter().any(|window| !window.corrections.as_slice().is_empty());
            prop_assert!(!has_corrections || read.ok().as_ref() != Some(&windows));
            let long = [&payload[..], &vec![0xa5; 2 * more]].concat();
            prop_assert!(decode(&long, tokens.iter().copied()).is_err());
        }
    }

    #[test]
    fn the_format_is_stable() {
        let (windows, _) = windows(&[(640, vec![(3, 7), (200, 5000), (639, 16_000)]), (40, vec![])]);
        let payload = encode(&windows);
        assert_eq!(hex(&payload), "e333a6e6895bfa34db11dc27");
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn coding_saves_two_fifths() {
        // Every ninth token of three windows is corrected. Token ids have a Zipf distribution.
        let zipf = |i: u32| (16_384f64.powf(f64::from(i * 7919 % 1000) / 1000.0)) as u32;
        let corrections = |w: u32| (0..284).map(|i| (9 * i + w * i % 3, zipf(i + w))).collect();
        let of: Vec<_> = (0..3).map(|w| (2560, corrections(w))).collect();
        let (windows, _) = windows(&of);
        let coded = encode(&windows).len();
        let plain: usize = windows
            .iter()
            .map(|window| prost::Message::encoded_len(&PlainCorrectionsPayload::from(&window.corrections)))
            .sum();
        assert!(5 * coded < 3 * plain, "{coded} of {plain} bytes");
    }
}
