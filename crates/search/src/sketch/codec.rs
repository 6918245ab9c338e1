//! Encoded form of a sketch.
//!
//! | field | form |
//! |---|---|
//! | version | byte 1 |
//! | header | bits 0 to 4: sections that follow, in the order of [`Space::ALL`]; bit 5: the window is open |
//! | length in terms | LEB128, at most 32 bits |
//! | for each section | resolution (1 byte, not for common terms), then the number of terms of each level (LEB128) |
//! | for each section and level | terms, sorted; gaps as Rice codes |
//!
//! Counts have the levels 0 to 3, those of bigrams only level 0. The terms of a section are about equally distributed,
//! for which Rice codes are within 0.1 bits of the optimum. One list for each level costs less than a code for the
//! level of each term, because higher levels are rare. The parameter of the codes follows from the number of terms.

use super::bits::{BitReader, BitWriter, rice_bits};
use super::{Entry, Sketch, SketchError};
use crate::key::{Resolution, Resolutions, Space};

const VERSION: u8 = 1;
const OPEN: u8 = 1 << 5;

pub(super) fn encode(sketch: &Sketch) -> Vec<u8> {
    let mut bytes = head(sketch);
    let mut writer = BitWriter::default();
    for_each_gap(sketch, |gap, k| writer.rice(gap, k));
    bytes.extend(writer.finish());
    bytes
}

/// Returns the length of the encoded form.
pub(super) fn encoded_len(sketch: &Sketch) -> usize {
    let mut bits = 0;
    for_each_gap(sketch, |gap, k| bits += rice_bits(gap, k));
    head(sketch).len() + bits.div_ceil(8)
}

fn head(sketch: &Sketch) -> Vec<u8> {
    let mut sections = 0;
    let mut numbers = Vec::new();
    for (space, section) in Space::ALL.into_iter().zip(sections_of(sketch)) {
        if section.is_empty() {
            continue;
        }
        sections |= 1 << space as u8;
        if let Some(resolution) = resolution(sketch.resolutions, space) {
            numbers.push(resolution.number());
        }
        for level in 0..levels(space) {
            write_number(&mut numbers, count(section, level));
        }
    }
    let mut bytes = vec![VERSION, sections | if sketch.is_open { OPEN } else { 0 }];
    write_number(&mut bytes, sketch.length);
    bytes.extend(numbers);
    bytes
}

/// Calls `write` for the gaps before the terms, level by level, with the parameter of the Rice code.
fn for_each_gap(sketch: &Sketch, mut write: impl FnMut(u32, u32)) {
    for (space, section) in Space::ALL.into_iter().zip(sections_of(sketch)) {
        let (first, values) = sketch.resolutions.keys(space);
        for level in 0..levels(space) {
            let k = parameter(values, count(section, level));
            let mut next = first;
            for entry in section.iter().filter(|entry| entry.level() == level) {
                write(entry.key() - next, k);
                next = entry.key() + 1;
            }
        }
    }
}

/// Returns the terms of each space.
fn sections_of(sketch: &Sketch) -> [&[Entry]; 5] {
    let start = |space| {
        let (first, _) = sketch.resolutions.keys(space);
        sketch.terms.partition_point(|entry| entry.key() < first)
    };
    let ends = [start(Space::CommonCharacter), start(Space::Word), start(Space::Character), start(Space::Pair)];
    let [a, b, c, d] = ends;
    [&sketch.terms[..a], &sketch.terms[a..b], &sketch.terms[b..c], &sketch.terms[c..d], &sketch.terms[d..]]
}

/// Returns the number of levels of counts. Of bigrams, only the presence is kept.
fn levels(space: Space) -> u8 {
    if space == Space::Pair { 1 } else { 4 }
}

fn resolution(resolutions: Resolutions, space: Space) -> Option<Resolution> {
    match space {
        Space::CommonWord | Space::CommonCharacter => None,
        Space::Word => Some(resolutions.words),
        Space::Character => Some(resolutions.characters),
        Space::Pair => Some(resolutions.pairs),
    }
}

fn count(section: &[Entry], level: u8) -> u32 {
    section.iter().filter(|entry| entry.level() == level).count() as u32
}

/// Returns the parameter for `count` terms among `values`: the logarithm of the mean gap times ln 2.
fn parameter(values: u32, count: u32) -> u32 {
    ((u64::from(values) * 177 / 256) / u64::from(count.max(1))).max(1).ilog2()
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
    if header & !(0x1f | OPEN) != 0 {
        return Err(SketchError("unknown header"));
    }
    let mut rest = rest;
    let length = read_number(&mut rest)?;
    let mut resolutions = Resolutions::MIN;
    let mut counts = [[0; 4]; 5];
    for (space, counts) in Space::ALL.into_iter().zip(&mut counts) {
        if header >> space as u8 & 1 == 0 {
            continue;
        }
        match space {
            Space::CommonWord | Space::CommonCharacter => {}
            Space::Word => resolutions.words = read_resolution(&mut rest)?,
            Space::Character => resolutions.characters = read_resolution(&mut rest)?,
            Space::Pair => resolutions.pairs = read_resolution(&mut rest)?,
        }
        for level in 0..levels(space) {
            counts[usize::from(level)] = read_number(&mut rest)?;
        }
        if *counts == [0; 4] {
            return Err(SketchError("a section is empty"));
        }
    }
    let terms = read_terms(rest, resolutions, &counts)?;
    Ok(Sketch { resolutions, is_open: header & OPEN != 0, length, terms })
}

fn read_terms(bytes: &[u8], resolutions: Resolutions, counts: &[[u32; 4]; 5]) -> Result<Vec<Entry>, SketchError> {
    let mut reader = BitReader::new(bytes);
    // Each term takes at least one bit.
    let total = counts.iter().flatten().map(|&count| count as usize).sum::<usize>();
    if total > reader.remaining() {
        return Err(SketchError("it ends within its terms"));
    }
    let mut terms = Vec::with_capacity(total);
    for (space, counts) in Space::ALL.into_iter().zip(counts) {
        let (first, values) = resolutions.keys(space);
        for (level, &count) in (0..).zip(counts) {
            let (mut next, k) = (first, parameter(values, count));
            for _ in 0..count {
                let max = (first + values).checked_sub(next + 1).ok_or(SketchError("it has too many terms"))?;
                let key = next + reader.rice(k, max).ok_or(SketchError("a term is wrong"))?;
                terms.push(Entry::new(key, level));
                next = key + 1;
            }
        }
    }
    if !reader.is_finished() {
        return Err(SketchError("bytes follow it"));
    }
    terms.sort_unstable();
    if terms.windows(2).any(|pair| pair[0].key() == pair[1].key()) {
        return Err(SketchError("a term has two levels"));
    }
    Ok(terms)
}

fn read_resolution(bytes: &mut &[u8]) -> Result<Resolution, SketchError> {
    let (&number, rest) = bytes.split_first().ok_or(SketchError("it ends within its header"))?;
    *bytes = rest;
    Resolution::new(number).ok_or(SketchError("unknown resolution"))
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
