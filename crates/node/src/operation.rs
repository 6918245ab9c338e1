//! The operations of the two models.

/// An operation of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Computes the latents of windows.
    Compress,
    /// Compares the true tokens of windows with the decoder's predictions.
    Verify,
    /// Writes the text of windows, or answers to prompts.
    Decode,
}

impl Operation {
    /// All operations, in the order of their discriminants.
    pub const ALL: [Self; 3] = [Self::Compress, Self::Verify, Self::Decode];

    /// Returns the name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compress => "compress",
            Self::Verify => "verify",
            Self::Decode => "decode",
        }
    }
}
