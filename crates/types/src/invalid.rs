//! Validation error of the domain types.

/// Validation error of one field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// Name of the field in the protocol.
    pub field: &'static str,
    /// Description of the fault, or of a valid value.
    pub problem: String,
}

impl Invalid {
    /// Returns the error of `field`. `problem` is printed after the name of the field.
    pub fn new(field: &'static str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self { field, problem }
    }
}
