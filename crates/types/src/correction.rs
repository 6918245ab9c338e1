//! Places of a window where the decoder is told the token.

use crate::{Invalid, pb};

/// A token of a window that the decoder does not write, or not surely, by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Correction {
    /// Number of the token in its window.
    pub position: u32,
    /// Id of the true token.
    pub token: u32,
}

/// A window's corrections by rising position, every position within the window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Corrections(Vec<Correction>);

impl Corrections {
    /// Corrections of a window of `tokens` tokens.
    pub fn new(corrections: Vec<Correction>, tokens: u32) -> Result<Self, Invalid> {
        let rises = corrections.is_sorted_by(|a, b| a.position < b.position);
        if !rises {
            return Err(Invalid::new("corrections.positions", "must rise strictly"));
        }
        match corrections.last() {
            Some(last) if last.position >= tokens => Err(Invalid::new(
                "corrections.positions",
                format!("{} is past the window, which has {tokens} tokens", last.position),
            )),
            _ => Ok(Self(corrections)),
        }
    }

    /// Checks what arrived for a window of `tokens` tokens.
    pub fn from_wire(wire: &pb::Corrections, tokens: u32) -> Result<Self, Invalid> {
        let (positions, ids) = (wire.positions.len(), wire.tokens.len());
        if positions != ids {
            let problem = format!("{ids} tokens for {positions} positions");
            return Err(Invalid::new("corrections.tokens", problem));
        }
        let pairs = wire.positions.iter().zip(&wire.tokens);
        let corrections = pairs.map(|(&position, &token)| Correction { position, token });
        Self::new(corrections.collect(), tokens)
    }

    /// The corrections as they travel.
    pub fn to_wire(&self) -> pb::Corrections {
        pb::Corrections {
            positions: self.0.iter().map(|c| c.position).collect(),
            tokens: self.0.iter().map(|c| c.token).collect(),
        }
    }

    /// The corrections by rising position.
    pub fn as_slice(&self) -> &[Correction] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(positions: &[u32], tokens: &[u32]) -> pb::Corrections {
        pb::Corrections { positions: positions.to_vec(), tokens: tokens.to_vec() }
    }

    #[test]
    fn corrections_survive_the_wire() {
        let given = wire(&[0, 4, 9], &[7, 7, 8]);
        let corrections = Corrections::from_wire(&given, 10).unwrap();
        assert_eq!(corrections.to_wire(), given);
    }

    #[test]
    fn what_cannot_be_forced_is_refused() {
        for wrong in [wire(&[1, 1], &[2, 3]), wire(&[2, 1], &[2, 3]), wire(&[10], &[2]), wire(&[1], &[])] {
            assert!(Corrections::from_wire(&wrong, 10).is_err(), "{wrong:?}");
        }
    }
}
