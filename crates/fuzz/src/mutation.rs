//! Mutations of seeds. Random bytes alone would be refused by the first check of most decoders.

use bolero::{Driver, ValueGenerator};
use fastrand::Rng;

/// Maximum length of an input, which keeps executions fast.
const INPUT_BYTES_MAX: usize = 1 << 16;
/// Numbers at which decoders are likely to overflow.
const EDGES: [u64; 10] = [
    0,
    1,
    i8::MAX as u64,
    u8::MAX as u64,
    u16::MAX as u64,
    i32::MAX as u64,
    u32::MAX as u64,
    1 << 40,
    i64::MAX as u64,
    u64::MAX,
];
/// Pieces of text that have a meaning in some format.
const WORDS: [&[u8]; 16] = [
    b"\"",
    b"\\",
    b"\0",
    b"\n",
    b"\r\n",
    b",",
    b":",
    b"-",
    b"%",
    b"/",
    b"{",
    b"[[[[",
    b"1e999",
    b"\xc3\x28",
    b"\xf0\x9f\xa6\x80",
    b"18446744073709551616",
];

/// Generator of mutated seeds, with a few inputs of random bytes.
#[derive(Clone, Debug)]
pub struct Mutations {
    seeds: Vec<Vec<u8>>,
}

impl Mutations {
    /// Returns the generator of mutations of `seeds`.
    pub fn of(seeds: &[Vec<u8>]) -> Self {
        Self { seeds: seeds.to_vec() }
    }

    fn seed(&self, rng: &mut Rng) -> &[u8] {
        if self.seeds.is_empty() { &[] } else { &self.seeds[rng.usize(..self.seeds.len())] }
    }
}

impl ValueGenerator for Mutations {
    type Output = Vec<u8>;

    fn generate<D: Driver>(&self, driver: &mut D) -> Option<Vec<u8>> {
        let mut rng = Rng::with_seed(bolero::produce::<u64>().generate(driver)?);
        if self.seeds.is_empty() || rng.u8(..16) == 0 {
            return Some((0..rng.usize(..256)).map(|_| rng.u8(..)).collect());
        }
        let mut input = self.seed(&mut rng).to_vec();
        // Mostly few changes, so that most of a seed stays valid.
        let changes = if rng.u8(..8) == 0 { rng.usize(5..40) } else { rng.usize(1..5) };
        for _ in 0..changes {
            mutate(&mut input, self.seed(&mut rng), &mut rng);
        }
        input.truncate(INPUT_BYTES_MAX);
        Some(input)
    }
}

/// Changes one place of `input`. `other` is another seed, to copy from.
fn mutate(input: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let at = rng.usize(..=input.len());
    let span = |rng: &mut Rng| at..input.len().min(at + 1 + rng.usize(..32));
    match rng.u8(..10) {
        0 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
        1 if at < input.len() => input[at] = rng.u8(..),
        2 => input.truncate(at),
        3 => {
            let span = span(rng);
            input.drain(span);
        }
        4 => {
            let copy = input[span(rng)].repeat(1 + rng.usize(..8));
            input.splice(at..at, copy);
        }
        5 => {
            // A little-endian number of 1, 2, 4 or 8 bytes.
            let number = EDGES[rng.usize(..EDGES.len())].wrapping_sub(rng.u64(..2)).to_le_bytes();
            let bytes = input.len().min(at + (1 << rng.u8(..4))) - at;
            input[at..at + bytes].copy_from_slice(&number[..bytes]);
        }
        6 => {
            let number = varint(EDGES[rng.usize(..EDGES.len())]);
            input.splice(at..input.len().min(at + 1), number);
        }
        7 => {
            let word = WORDS[rng.usize(..WORDS.len())];
            input.splice(at..at, word.iter().copied());
        }
        8 => {
            let from = rng.usize(..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => input.splice(at..at, (0..rng.usize(1..8)).map(|_| rng.u8(..)).collect::<Vec<_>>()).for_each(drop),
    }
}

/// Encodes a number as Protobuf does.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
