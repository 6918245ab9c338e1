//! A bounded quantity, measured: what a proof prints and what a test asserts.

use std::fmt::Debug;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

/// A quantity beside its bound.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    row: String,
    value: Value,
    bound: String,
    ok: Option<bool>,
}

impl Row {
    /// Something that must be so. `bound` says what.
    pub fn holds(row: impl Into<String>, holds: bool, bound: impl Into<String>) -> Self {
        Self { row: row.into(), value: json!(holds), bound: bound.into(), ok: Some(holds) }
    }

    /// What was seen, and whether it is what `bound` asks for.
    pub fn seen(row: impl Into<String>, seen: impl Serialize, ok: bool, bound: impl Into<String>) -> Self {
        Self { row: row.into(), value: json!(seen), bound: bound.into(), ok: Some(ok) }
    }

    /// A quantity that must not be under `bound`.
    pub fn at_least(row: impl Into<String>, value: f64, bound: f64) -> Self {
        Self::seen(row, value, value >= bound, format!(">= {bound}"))
    }

    /// A quantity that must not be over `bound`.
    pub fn at_most(row: impl Into<String>, value: impl Into<f64>, bound: impl Into<f64>) -> Self {
        let (value, bound) = (value.into(), bound.into());
        Self::seen(row, value, value <= bound, format!("<= {bound}"))
    }

    /// Two things that must be the same.
    pub fn equal<T: Serialize + PartialEq + Debug>(row: impl Into<String>, value: T, bound: T) -> Self {
        let ok = value == bound;
        Self::seen(row, value, ok, format!("= {bound:?}"))
    }

    /// What this machine lacks the hardware for.
    pub fn not_here(row: impl Into<String>, lacks: &str, bound: impl Into<String>) -> Self {
        Self {
            row: row.into(),
            value: json!(format!("not measured: no {lacks}")),
            bound: bound.into(),
            ok: None,
        }
    }

    /// A measurement that could not be made.
    pub fn failed(row: impl Into<String>, error: &anyhow::Error) -> Self {
        Self {
            row: row.into(),
            value: json!(format!("{error:#}")),
            bound: "is measured".into(),
            ok: Some(false),
        }
    }

    /// The rows of `measured`, or one that says why there are none.
    pub fn of(name: &str, measured: Result<Vec<Self>>) -> Vec<Self> {
        measured.unwrap_or_else(|error| vec![Self::failed(name, &error)])
    }

    /// The row under another name.
    pub fn named(mut self, rename: impl FnOnce(&str) -> String) -> Self {
        self.row = rename(&self.row);
        self
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.row
    }

    /// Whether it is out of bounds.
    pub fn is_wrong(&self) -> bool {
        self.ok == Some(false)
    }
}

/// Panics with every row that is out of bounds.
pub fn assert_all(rows: &[Row]) {
    let wrong: Vec<_> = rows.iter().filter(|row| row.is_wrong()).collect();
    assert!(!rows.is_empty() && wrong.is_empty(), "{wrong:#?}");
}

/// The middle one of some values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
