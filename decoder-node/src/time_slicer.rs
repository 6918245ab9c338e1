//! Divides the device's time between decoding and verification while both have windows to process.

/// Work that the device does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slice {
    /// One decode step.
    Decode,
    /// One batch of verification.
    Verify,
}

/// Gives decoding a fixed share of the device's time while both kinds of work wait.
#[derive(Debug)]
pub(crate) struct TimeSlicer {
    /// Share of decoding, between 0 and 1.
    decode_share: f64,
    /// Seconds by which verification has exceeded its share; negative if decoding has exceeded its own.
    verify_lead: f64,
}

impl TimeSlicer {
    /// Creates a slicer that gives decoding `decode_percent` percent of the time.
    pub(crate) fn new(decode_percent: u8) -> Self {
        Self { decode_share: f64::from(decode_percent) / 100.0, verify_lead: 0.0 }
    }

    /// Returns the next slice, or `None` if no work waits. `decoding` and `verifying` tell which kinds of work wait.
    pub(crate) fn next(&mut self, decoding: bool, verifying: bool) -> Option<Slice> {
        // A kind of work accumulates no credit while it is idle.
        if !(decoding && verifying) {
            self.verify_lead = 0.0;
        }
        match (decoding, verifying) {
            (true, true) if self.verify_lead > 0.0 => Some(Slice::Decode),
            (_, true) => Some(Slice::Verify),
            (true, false) => Some(Slice::Decode),
            (false, false) => None,
        }
    }

    /// Records that a slice took `seconds`.
    pub(crate) fn record(&mut self, slice: Slice, seconds: f64) {
        self.verify_lead += match slice {
            Slice::Verify => seconds * self.decode_share,
            Slice::Decode => -seconds * (1.0 - self.decode_share),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_divided_by_the_share_whatever_slices_take() {
        for percent in [10, 50, 80] {
            let (mut slicer, mut decoded, mut total) = (TimeSlicer::new(percent), 0.0, 0.0);
            for i in 0..10_000 {
                let slice = slicer.next(true, true).unwrap();
                let seconds = if slice == Slice::Verify { 0.3 } else { 0.01 + f64::from(i % 3) / 100.0 };
                slicer.record(slice, seconds);
                total += seconds;
                decoded += if slice == Slice::Decode { seconds } else { 0.0 };
            }
            let share = decoded / total;
            assert!((share - f64::from(percent) / 100.0).abs() < 0.02, "{share} instead of {percent} %");
        }
    }

    #[test]
    fn one_side_alone_gets_all_the_time_and_saves_up_no_claim() {
        let mut slicer = TimeSlicer::new(50);
        assert_eq!(slicer.next(false, false), None);
        for _ in 0..100 {
            assert_eq!(slicer.next(true, false), Some(Slice::Decode));
            slicer.record(Slice::Decode, 1.0);
        }
        assert_eq!(slicer.next(true, true), Some(Slice::Verify));
        slicer.record(Slice::Verify, 0.1);
        assert_eq!(slicer.next(true, true), Some(Slice::Verify));
        assert_eq!(slicer.next(false, true), Some(Slice::Verify));
    }
}
