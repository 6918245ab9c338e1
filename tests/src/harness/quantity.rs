//! Measured quantities with their bounds. The binary `accept` prints them, and tests assert them.

use std::fmt::Debug;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

/// A measured quantity with its bound.
#[derive(Clone, Debug, Serialize)]
pub struct Quantity {
    // `accept` prints the name as `row`.
    #[serde(rename = "row")]
    name: String,
    value: Value,
    bound: String,
    ok: Option<bool>,
}

impl Quantity {
    /// Creates the quantity of a condition that must be true. `bound` describes the condition.
    pub fn holds(name: impl Into<String>, holds: bool, bound: impl Into<String>) -> Self {
        Self { name: name.into(), value: json!(holds), bound: bound.into(), ok: Some(holds) }
    }

    /// Creates the quantity of a value that the caller has already checked. `ok` is the result of the check. `bound`
    /// describes the check.
    pub fn observed(name: impl Into<String>, seen: impl Serialize, ok: bool, bound: impl Into<String>) -> Self {
        Self { name: name.into(), value: json!(seen), bound: bound.into(), ok: Some(ok) }
    }

    /// Creates the quantity of a value without a bound.
    pub fn reported(name: impl Into<String>, value: impl Serialize) -> Self {
        Self::observed(name, value, true, "reported only")
    }

    /// Creates the quantity of a value that must be at least `bound`.
    pub fn at_least(name: impl Into<String>, value: f64, bound: f64) -> Self {
        Self::observed(name, value, value >= bound, format!(">= {bound}"))
    }

    /// Creates the quantity of a value that must be at most `bound`.
    pub fn at_most(name: impl Into<String>, value: impl Into<f64>, bound: impl Into<f64>) -> Self {
        let (value, bound) = (value.into(), bound.into());
        Self::observed(name, value, value <= bound, format!("<= {bound}"))
    }

    /// Creates the quantity of a value that must equal `bound`.
    pub fn equal<T: Serialize + PartialEq + Debug>(name: impl Into<String>, value: T, bound: T) -> Self {
        let ok = value == bound;
        Self::observed(name, value, ok, format!("= {bound:?}"))
    }

    /// Creates a quantity that was not measured because this machine lacks the hardware `lacks`.
    pub fn skipped(name: impl Into<String>, lacks: &str, bound: impl Into<String>) -> Self {
        Self { name: name.into(), value: json!(format!("not measured: no {lacks}")), bound: bound.into(), ok: None }
    }

    /// Creates a quantity whose measurement failed with `error`. Such a quantity violates its bound.
    pub fn failed(name: impl Into<String>, error: &anyhow::Error) -> Self {
        Self { name: name.into(), value: json!(format!("{error:#}")), bound: "is measured".into(), ok: Some(false) }
    }

    /// Returns the measured quantities, or one failed quantity called `name` if `measured` is an error.
    pub fn from_result(name: &str, measured: Result<Vec<Self>>) -> Vec<Self> {
        measured.unwrap_or_else(|error| vec![Self::failed(name, &error)])
    }

    /// Replaces the name of the quantity by the result of `rename`.
    pub fn renamed(mut self, rename: impl FnOnce(&str) -> String) -> Self {
        self.name = rename(&self.name);
        self
    }

    /// Returns the name of the quantity.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns true if the value violates its bound.
    pub fn is_out_of_bounds(&self) -> bool {
        self.ok == Some(false)
    }
}

/// Panics if there are no quantities or if any quantity violates its bound.
pub fn assert_all(quantities: &[Quantity]) {
    let wrong: Vec<_> = quantities.iter().filter(|quantity| quantity.is_out_of_bounds()).collect();
    assert!(!quantities.is_empty() && wrong.is_empty(), "{wrong:#?}");
}

/// Returns the median, or the upper one of the two middle values. Panics if `values` is empty.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
