//! Divides the device's time between decoding and verifying where both wait.

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A step of decoding.
    Decode,
    /// A batch of verification.
    Verify,
}

/// Time that each side had while the other waited.
#[derive(Debug)]
pub(crate) struct Share {
    /// Decoding's part, between 0 and 1.
    decode: f64,
    /// Seconds by which verifying is ahead of its part; negative where decoding is.
    lead: f64,
}

impl Share {
    /// Decoding gets so many percent.
    pub(crate) fn new(percent: u8) -> Self {
        Self { decode: f64::from(percent) / 100.0, lead: 0.0 }
    }

    /// Whose turn it is, where windows are being decoded or wait to be verified; `None` where neither is.
    pub(crate) fn next(&mut self, decoding: bool, verifying: bool) -> Option<Turn> {
        // Who had nothing to do has no claim to what it left to the other.
        if !(decoding && verifying) {
            self.lead = 0.0;
        }
        match (decoding, verifying) {
            (true, true) if self.lead > 0.0 => Some(Turn::Decode),
            (_, true) => Some(Turn::Verify),
            (true, false) => Some(Turn::Decode),
            (false, false) => None,
        }
    }

    /// A turn took so many seconds.
    pub(crate) fn spent(&mut self, turn: Turn, seconds: f64) {
        self.lead += match turn {
            Turn::Verify => seconds * self.decode,
            Turn::Decode => -seconds * (1.0 - self.decode),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_divided_as_set_whatever_turns_take() {
        for percent in [10, 50, 80] {
            let (mut share, mut decoded, mut all) = (Share::new(percent), 0.0, 0.0);
            for i in 0..10_000 {
                let turn = share.next(true, true).unwrap();
                let seconds = if turn == Turn::Verify { 0.3 } else { 0.01 + f64::from(i % 3) / 100.0 };
                share.spent(turn, seconds);
                all += seconds;
                decoded += if turn == Turn::Decode { seconds } else { 0.0 };
            }
            assert!(
                (decoded / all - f64::from(percent) / 100.0).abs() < 0.02,
                "{percent}: {decoded} of {all}"
            );
        }
    }

    #[test]
    fn who_is_alone_has_all_and_saves_nothing() {
        let mut share = Share::new(50);
        assert_eq!(share.next(false, false), None);
        for _ in 0..100 {
            assert_eq!(share.next(true, false), Some(Turn::Decode));
            share.spent(Turn::Decode, 1.0);
        }
        assert_eq!(share.next(true, true), Some(Turn::Verify));
        share.spent(Turn::Verify, 0.1);
        assert_eq!(share.next(true, true), Some(Turn::Verify));
        assert_eq!(share.next(false, true), Some(Turn::Verify));
    }
}
