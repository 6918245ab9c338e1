//! Encoded form of a sketch.
//!
//! | field | form |
//! |---|---|
//! | version | byte 1 |
//! | header | 4 bits: resolution − 8; bit 4: the window is open; bit 5: it has common words; the rest 0 |
//! | length in terms | LEB128, at most 32 bits |
//! | numbers of hashes of the levels 0 to 3 | LEB128 each |
//! | common words, if there are any | 64 bits of presence, then 2 bits of level for each |
//! | hashes of level 0, then 1, 2, 3 | sorted; gaps as Rice codes |
//!
//! The hashes of a level are about equally distributed, for which Rice codes are within 0.1 bits of the optimum. One
//! list for each level costs less than a code for the level of each hash: of a bigram, which is rare in a window, the
//! level costs 0.7 bits instead of 1.2. The parameter of the codes follows from the number of hashes.

use super::bits::{BitReader, BitWriter, rice_bits};
use super::{BITS_MAX, BITS_MIN, Entry, Sketch, SketchError};
use crate::key::COMMON;

const VERSION: u8 = 1;
const OPEN: u8 = 1 << 4;
const HAS_COMMON: u8 = 1 << 5;
const LEVELS: u8 = 4;

pub(super) fn encode(sketch: &Sketch) -> Vec<u8> {
    let (common, hashed) = parts(sketch);
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let header = sketch.bits - BITS_MIN | flag(sketch.is_open, OPEN) | flag(!common.is_empty(), HAS_COMMON);
    let mut bytes = vec![VERSION, header];
    write_number(&mut bytes, sketch.length);
    let counts = counts(hashed);
    for count in counts {
        write_number(&mut bytes, count);
    }
    let mut writer = BitWriter::default();
    if !common.is_empty() {
        let present = common.iter().fold(0u64, |present, entry| present | 1 << entry.key());
        writer.bits((present >> 32) as u32, 32);
        writer.bits(present as u32, 32);
        for entry in common {
            writer.bits(entry.level().into(), 2);
        }
    }
    gaps(hashed, sketch.bits, &counts, |gap, k| writer.rice(gap, k));
    bytes.extend(writer.finish());
    bytes
}

/// Returns the length of the encoded form.
pub(super) fn encoded_len(sketch: &Sketch) -> usize {
    let (common, hashed) = parts(sketch);
    let counts = counts(hashed);
    let mut numbers = Vec::new();
    write_number(&mut numbers, sketch.length);
    for count in counts {
        write_number(&mut numbers, count);
    }
    let mut bits = if common.is_empty() { 0 } else { COMMON.len() + 2 * common.len() };
    gaps(hashed, sketch.bits, &counts, |gap, k| bits += rice_bits(gap, k));
    2 + numbers.len() + bits.div_ceil(8)
}

/// Calls `write` for the gaps before the hashes, level by level, with the parameter of the Rice code.
fn gaps(hashed: &[Entry], bits: u8, counts: &[u32], mut write: impl FnMut(u32, u32)) {
    for (level, &count) in (0..LEVELS).zip(counts) {
        let mut next = 1 << bits;
        for entry in hashed.iter().filter(|entry| entry.level() == level) {
            write(entry.key() - next, parameter(bits, count));
            next = entry.key() + 1;
        }
    }
}

/// Returns the common words and the hashes.
fn parts(sketch: &Sketch) -> (&[Entry], &[Entry]) {
    sketch.terms.split_at(sketch.terms.partition_point(|entry| entry.key() < COMMON.len() as u32))
}

fn counts(hashed: &[Entry]) -> [u32; LEVELS as usize] {
    let mut counts = [0; LEVELS as usize];
    for entry in hashed {
        counts[usize::from(entry.level())] += 1;
    }
    counts
}

/// Returns the parameter for `count` hashes: the logarithm of the mean gap times ln 2.
fn parameter(bits: u8, count: u32) -> u32 {
    (((1u64 << bits) * 177 / 256) / u64::from(count.max(1))).max(1).ilog2()
}

fn write_number(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

pub(super) fn decode(bytes: &[u8]) -> Result<Sketch, SketchError> {
    let [version, header, rest @ ..] = bytes else { return Err(SketchError("it is too short")) };
    if *version != VERSION {
        return Err(SketchError("unknown version"));
    }
    let bits = BITS_MIN + (header & 0xf);
    if bits > BITS_MAX || header & !(0xf | OPEN | HAS_COMMON) != 0 {
        return Err(SketchError("unknown header"));
    }
    let mut rest = rest;
    let length = read_number(&mut rest)?;
    let mut counts = [0; LEVELS as usize];
    for count in &mut counts {
        *count = read_number(&mut rest)?;
    }
    let mut reader = BitReader::new(rest);
    let mut terms = read_common(&mut reader, header & HAS_COMMON != 0)?;
    // Each hash takes at least one bit.
    let total = counts.iter().map(|&count| count as usize).sum::<usize>();
    if total > reader.remaining() {
        return Err(SketchError("it ends within its hashes"));
    }
    terms.reserve_exact(total);
    for (level, count) in (0..LEVELS).zip(counts) {
        let (mut next, end, k) = (1u32 << bits, 2u32 << bits, parameter(bits, count));
        for _ in 0..count {
            let max = end.checked_sub(next + 1).ok_or(SketchError("it has too many hashes"))?;
            let key = next + reader.rice(k, max).ok_or(SketchError("a hash is wrong"))?;
            terms.push(Entry::new(key, level));
            next = key + 1;
        }
    }
    if !reader.is_finished() {
        return Err(SketchError("bytes follow it"));
    }
    terms.sort_unstable();
    if terms.windows(2).any(|pair| pair[0].key() == pair[1].key()) {
        return Err(SketchError("a hash has two levels"));
    }
    Ok(Sketch { bits, is_open: header & OPEN != 0, length, terms })
}

fn read_common(reader: &mut BitReader<'_>, is_present: bool) -> Result<Vec<Entry>, SketchError> {
    if !is_present {
        return Ok(Vec::new());
    }
    let error = SketchError("it ends within its common words");
    let high = reader.bits(32).ok_or(error)?;
    let low = reader.bits(32).ok_or(error)?;
    let present = u64::from(high) << 32 | u64::from(low);
    let indexes = (0..u64::BITS).filter(|index| present >> index & 1 == 1);
    let terms: Option<Vec<_>> = indexes.map(|index| Some(Entry::new(index, reader.bits(2)? as u8))).collect();
    terms.filter(|terms| !terms.is_empty()).ok_or(error)
}

fn read_number(bytes: &mut &[u8]) -> Result<u32, SketchError> {
    let mut number = 0u64;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(SketchError("it ends within a number"))?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            let is_shortest = byte > 0 || shift == 0;
            let number = u32::try_from(number).ok().filter(|_| is_shortest);
            return number.ok_or(SketchError("a number is too long"));
        }
    }
    Err(SketchError("a number is too long"))
}
