//! Evaluation, for tests and acceptance suites: recall compared with BM25 over the text, speed and memory.
//!
//! The reference for recall has the same analyser and the same windows, but whole terms instead of hashes and exact
//! counts. Therefore, unlike all other code here, it holds texts.

mod recall;
mod speed;

pub use self::recall::{Found, Question, Source, found_by_index, found_by_text, index};
pub use self::speed::{Speed, SpeedError, speed};
