//! Corrections: tokens that are forced when a decoder restores a window, which is the run of text tokens of one latent
//! group.

use serde::Serialize;

use crate::Invalid;

/// A token that is forced because the decoder predicts another token, or because the logit margin of the prediction is
/// so small that other hardware may predict another token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Correction {
    /// Position of the token in its window, from 0.
    pub position: u32,
    /// Id of the correct token.
    pub token: u32,
}

/// Corrections of a window, in strictly increasing order of position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Corrections(Vec<Correction>);

impl Corrections {
    /// Checks the corrections of a window of `tokens` tokens. Errors: positions do not strictly increase, or a position
    /// is not below `tokens`.
    pub fn new(corrections: Vec<Correction>, tokens: u32) -> Result<Self, Invalid> {
        let rises = corrections.is_sorted_by(|a, b| a.position < b.position);
        if !rises {
            return Err(Invalid::new("corrections.positions", "must be strictly increasing"));
        }
        match corrections.last() {
            Some(last) if last.position >= tokens => Err(Invalid::new(
                "corrections.positions",
                format!("{} is past the window, which has {tokens} tokens", last.position),
            )),
            _ => Ok(Self(corrections)),
        }
    }

    /// Checks corrections whose positions and token ids are in separate slices. Errors: the slices have different
    /// lengths, and the errors of [`Self::new`].
    pub fn from_columns(positions: &[u32], ids: &[u32], tokens: u32) -> Result<Self, Invalid> {
        if positions.len() != ids.len() {
            let problem = format!("{} tokens for {} positions", ids.len(), positions.len());
            return Err(Invalid::new("corrections.tokens", problem));
        }
        let pairs = positions.iter().zip(ids);
        Self::new(pairs.map(|(&position, &token)| Correction { position, token }).collect(), tokens)
    }

    /// Returns the corrections in order of position.
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
