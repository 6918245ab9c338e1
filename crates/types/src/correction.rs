//! Places of a window where the decoder is told the token.

use serde::Serialize;

use crate::Invalid;

/// A token of a window that the decoder does not write, or not surely, by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Correction {
    /// Number of the token in its window.
    pub position: u32,
    /// Id of the true token.
    pub token: u32,
}

/// A window's corrections by rising position, every position within the window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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

    /// Returns the corrections whose positions and token ids were stored apart, for a window of `tokens` tokens.
    ///
    /// Errors: slices of different lengths, positions that do not rise strictly or lie past the window.
    pub fn from_columns(positions: &[u32], ids: &[u32], tokens: u32) -> Result<Self, Invalid> {
        if positions.len() != ids.len() {
            let problem = format!("{} tokens for {} positions", ids.len(), positions.len());
            return Err(Invalid::new("corrections.tokens", problem));
        }
        let pairs = positions.iter().zip(ids);
        Self::new(pairs.map(|(&position, &token)| Correction { position, token }).collect(), tokens)
    }

    /// The corrections by rising position.
    pub fn as_slice(&self) -> &[Correction] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrections_that_cannot_be_forced_are_refused() {
        for (positions, ids) in [(&[1, 1][..], &[2, 3][..]), (&[2, 1], &[2, 3]), (&[10], &[2]), (&[1], &[])] {
            assert!(Corrections::from_columns(positions, ids, 10).is_err(), "{positions:?} {ids:?}");
        }
    }
}
