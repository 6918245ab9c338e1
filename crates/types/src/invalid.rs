//! Validation error of the domain types.

/// Error of an invalid field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// Name of the field in the protocol.
    pub field: &'static str,
    /// Describes the fault and a valid value.
    pub problem: String,
}

impl Invalid {
    /// Returns the error of `field`. `problem` describes the fault and a valid value.
    pub fn new(field: &'static str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self { field, problem }
    }
}
