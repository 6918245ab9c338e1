//! Streams of bits, most significant bit first, with Rice codes.

/// Writes bits.
#[derive(Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    pending: u64,
    pending_bits: u32,
}

impl BitWriter {
    /// Writes the lowest `count` bits of `value`, at most 32.
    pub(super) fn bits(&mut self, value: u32, count: u32) {
        self.pending = self.pending << count | u64::from(value) & ((1 << count) - 1);
        self.pending_bits += count;
        while self.pending_bits >= 8 {
            self.pending_bits -= 8;
            self.bytes.push((self.pending >> self.pending_bits) as u8);
        }
    }

    /// Writes a value as a Rice code with parameter `k`: the value without its `k` lowest bits in unary, then these.
    pub(super) fn rice(&mut self, value: u32, k: u32) {
        let mut ones = value >> k;
        while ones >= 16 {
            self.bits(0xffff, 16);
            ones -= 16;
        }
        self.bits((1 << (ones + 1)) - 2, ones + 1);
        self.bits(value, k);
    }

    /// Returns the bytes. The last one is filled up with zeros.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let padding = (8 - self.pending_bits % 8) % 8;
        self.bits(0, padding);
        self.bytes
    }
}

/// Returns the number of bits of a Rice code.
pub(super) fn rice_bits(value: u32, k: u32) -> usize {
    (value >> k) as usize + 1 + k as usize
}

/// Reads bits. Every method returns `None` at the end of the bytes.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Returns the number of bits that were not read yet.
    pub(super) fn remaining(&self) -> usize {
        8 * self.bytes.len() - self.at
    }

    /// Returns the next 64 bits, filled up with zeros, without reading more than 57 of them reliably.
    fn peek(&self) -> u64 {
        let rest = &self.bytes[self.at / 8..];
        let word = match rest.first_chunk::<8>() {
            Some(chunk) => u64::from_be_bytes(*chunk),
            None => rest.iter().zip((0..8).rev()).fold(0, |word, (byte, place)| word | u64::from(*byte) << (8 * place)),
        };
        word << (self.at % 8)
    }

    /// Reads at most 32 bits.
    pub(super) fn bits(&mut self, count: u32) -> Option<u32> {
        if count == 0 {
            return Some(0);
        }
        let value = (self.peek() >> (64 - count)) as u32;
        self.skip(count).then_some(value)
    }

    /// Reads a Rice code whose value is at most `max`. Returns `None` for larger ones too.
    pub(super) fn rice(&mut self, k: u32, max: u32) -> Option<u32> {
        let mut high = 0;
        loop {
            let ones = self.peek().leading_ones().min(48);
            high += ones;
            if u64::from(high) << k > u64::from(max) {
                return None;
            }
            if !self.skip(ones) {
                return None;
            }
            if ones < 48 {
                break;
            }
        }
        if !self.skip(1) {
            return None;
        }
        let value = high << k | self.bits(k)?;
        (value <= max).then_some(value)
    }

    /// Returns whether less than a byte of zeros is left.
    pub(super) fn is_finished(&self) -> bool {
        self.remaining() < 8 && self.peek() == 0
    }

    fn skip(&mut self, count: u32) -> bool {
        let is_enough = count as usize <= self.remaining();
        if is_enough {
            self.at += count as usize;
        }
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn codes_survive(values in prop::collection::vec((0..5000u32, 0..16u32), 0..50)) {
            let mut writer = BitWriter::default();
            for &(value, k) in &values {
                writer.rice(value, k);
            }
            let bytes = writer.finish();
            let bits: usize = values.iter().map(|&(value, k)| rice_bits(value, k)).sum();
            prop_assert_eq!(bytes.len(), bits.div_ceil(8));
            let mut reader = BitReader::new(&bytes);
            for (value, k) in values {
                prop_assert_eq!(reader.rice(k, 5000), Some(value));
            }
            prop_assert!(reader.is_finished());
        }
    }

    #[test]
    fn values_above_the_maximum_are_refused() {
        let mut writer = BitWriter::default();
        writer.rice(300, 2);
        let bytes = writer.finish();
        assert_eq!(BitReader::new(&bytes).rice(2, 299), None);
        assert_eq!(BitReader::new(&bytes).rice(2, 300), Some(300));
        assert_eq!(BitReader::new(&[0xff; 4]).rice(0, u32::MAX), None);
        assert_eq!(BitReader::new(&[]).rice(0, u32::MAX), None);
    }
}
