//! A [`Row`] is one measured quantity with its bound. The binary `accept` prints rows, and tests assert them.
//!
//! In the suites, *row* also means the named measurement that yields these quantities, see [`suites`](crate::suites).

use std::fmt::Debug;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

/// A measured quantity with its bound.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    row: String,
    value: Value,
    bound: String,
    ok: Option<bool>,
}

impl Row {
    /// Creates the row of a condition that must be true. `bound` describes the condition.
    pub fn holds(row: impl Into<String>, holds: bool, bound: impl Into<String>) -> Self {
        Self { row: row.into(), value: json!(holds), bound: bound.into(), ok: Some(holds) }
    }

    /// Creates the row of a value that the caller has already checked. `ok` is the result of the check. `bound`
    /// describes the check.
    pub fn observed(row: impl Into<String>, seen: impl Serialize, ok: bool, bound: impl Into<String>) -> Self {
        Self { row: row.into(), value: json!(seen), bound: bound.into(), ok: Some(ok) }
    }

    /// Creates the row of a value without a bound.
    pub fn reported(row: impl Into<String>, value: impl Serialize) -> Self {
        Self::observed(row, value, true, "reported only")
    }

    /// Creates the row of a value that must be at least `bound`.
    pub fn at_least(row: impl Into<String>, value: f64, bound: f64) -> Self {
        Self::observed(row, value, value >= bound, format!(">= {bound}"))
    }

    /// Creates the row of a value that must be at most `bound`.
    pub fn at_most(row: impl Into<String>, value: impl Into<f64>, bound: impl Into<f64>) -> Self {
        let (value, bound) = (value.into(), bound.into());
        Self::observed(row, value, value <= bound, format!("<= {bound}"))
    }

    /// Creates the row of a value that must equal `bound`.
    pub fn equal<T: Serialize + PartialEq + Debug>(row: impl Into<String>, value: T, bound: T) -> Self {
        let ok = value == bound;
        Self::observed(row, value, ok, format!("= {bound:?}"))
    }

    /// Creates the row of a measurement that was skipped because this machine lacks the hardware `lacks`.
    pub fn skipped(row: impl Into<String>, lacks: &str, bound: impl Into<String>) -> Self {
        Self { row: row.into(), value: json!(format!("not measured: no {lacks}")), bound: bound.into(), ok: None }
    }

    /// Creates the row of a measurement that failed with `error`. Such a row violates its bound.
    pub fn failed(row: impl Into<String>, error: &anyhow::Error) -> Self {
        Self { row: row.into(), value: json!(format!("{error:#}")), bound: "is measured".into(), ok: Some(false) }
    }

    /// Returns the measured rows, or one failed row called `name` if `measured` is an error.
    pub fn from_result(name: &str, measured: Result<Vec<Self>>) -> Vec<Self> {
        measured.unwrap_or_else(|error| vec![Self::failed(name, &error)])
    }

    /// Replaces the name of the row by the result of `rename`.
    pub fn renamed(mut self, rename: impl FnOnce(&str) -> String) -> Self {
        self.row = rename(&self.row);
        self
    }

    /// Returns the name of the row.
    pub fn name(&self) -> &str {
        &self.row
    }

    /// Returns true if the value violates its bound.
    pub fn is_out_of_bounds(&self) -> bool {
        self.ok == Some(false)
    }
}

/// Panics if there are no rows or if any row violates its bound.
pub fn assert_all(rows: &[Row]) {
    let wrong: Vec<_> = rows.iter().filter(|row| row.is_out_of_bounds()).collect();
    assert!(!rows.is_empty() && wrong.is_empty(), "{wrong:#?}");
}

/// Returns the median, or the upper one of the two middle values. Panics if `values` is empty.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
