//! Prints speed and memory of search: `cargo run --release -p c3-search --example figures`.

use std::error::Error;
use std::fs;
use std::path::Path;

use c3_search::TermKey;
use c3_search::evaluation::{Question, Source, speed};
use serde::Deserialize;

/// Line of a file of questions.
#[derive(Deserialize)]
struct Line {
    question: String,
}

/// Windows of ten million tokens.
const WINDOWS: usize = 15_600;

fn main() -> Result<(), Box<dyn Error>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/search");
    let english = ("en", "critical-and-historical-essays.txt", 2400);
    for (language, text, bytes) in [english, ("zh", "call-to-arms.txt", 1900)] {
        let source = Source::new(fs::read_to_string(fixtures.join(text))?, bytes);
        let lines = fs::read_to_string(fixtures.join(format!("questions-{language}.jsonl")))?;
        let lines = lines.lines().map(serde_json::from_str::<Line>).collect::<Result<Vec<_>, _>>()?;
        let questions: Vec<_> =
            lines.into_iter().map(|line| Question { text: line.question, source: 0, answer: 0 }).collect();
        for windows in [WINDOWS / 10, WINDOWS] {
            let speed = speed(std::slice::from_ref(&source), &questions, windows, &TermKey::derive(&[7; 32]))?;
            println!(
                "{language}, {windows} windows: sketched {:.1} MB/s, {:.0} bytes a sketch, rebuilt in {:.0?}, \
                 {:.2} MiB a million tokens, search p50 {:.2?}, p99 {:.2?}",
                speed.sketched_bytes_per_second / 1e6,
                speed.sketch_bytes,
                speed.rebuild,
                speed.memory_bytes as f64 / f64::from(1 << 20) / (windows as f64 * 640.0 / 1e6),
                speed.percentile(0.5),
                speed.percentile(0.99),
            );
        }
    }
    Ok(())
}
