//! Recall of search over sketches, compared with BM25 over the text, and the size of sketches.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use c3_search::TermKey;
use c3_search::evaluation::{Question, Source, found_by_index, found_by_text, index};
use serde::Deserialize;

/// Most bytes of the sketch of a full window: 3.5 % of its latents.
const LIMIT: usize = 350;

/// Line of a file of questions.
#[derive(Deserialize)]
struct Line {
    question: String,
    source: String,
    answer: [usize; 2],
}

/// Texts and questions in one language.
struct Set {
    sources: Vec<Source>,
    questions: Vec<Question>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

fn set(questions: &str, texts: &[&str], window_bytes: usize) -> Set {
    let read = |path: &str| fs::read_to_string(fixtures().join(path)).unwrap();
    let sources: Vec<_> = texts.iter().map(|path| Source::new(read(path), window_bytes)).collect();
    let line = |line: &str| {
        let line: Line = serde_json::from_str(line).unwrap();
        let source = texts.iter().position(|path| path.ends_with(&line.source)).unwrap();
        let answer = &sources[source].text[line.answer[0]..line.answer[1]];
        assert!(!answer.trim().is_empty());
        Question { text: line.question, source, answer: line.answer[0] }
    };
    let questions = read(questions).lines().map(line).collect();
    Set { sources, questions }
}

fn english() -> Set {
    let texts = [
        "search/dickens-and-music.txt",
        "search/critical-and-historical-essays.txt",
        "texts/chapter.txt",
        "texts/news.txt",
    ];
    set("search/questions-en.jsonl", &texts, 2400)
}

fn chinese() -> Set {
    set("search/questions-zh.jsonl", &["search/call-to-arms.txt", "texts/tang.txt"], 1900)
}

fn check(language: &str, set: &Set) {
    let key = TermKey::derive(&[7; 32]);
    let text = found_by_text(&set.sources, &set.questions).unwrap();
    let sketches = found_by_index(&index(&set.sources, LIMIT, &key).unwrap(), &set.sources, &set.questions).unwrap();
    let total = set.questions.len() as f64;
    let percent = |found: usize| 100.0 * found as f64 / total;
    let mut sizes: Vec<_> = Vec::new();
    for source in &set.sources {
        sizes.extend(source.sketches(LIMIT, &key).iter().map(|sketch| sketch.encode().len()));
    }
    let bytes = sizes.iter().sum::<usize>();
    println!(
        "{language}: {total} questions, {} windows; recall@1 {:.1} of {:.1} %, recall@10 {:.1} of {:.1} %; \
         {} bytes a window on average, {} at most",
        sizes.len(),
        percent(sketches.at_1),
        percent(text.at_1),
        percent(sketches.at_10),
        percent(text.at_10),
        bytes / sizes.len(),
        sizes.iter().max().unwrap(),
    );
    assert!(set.questions.len() >= 500, "{language} has too few questions");
    assert!(text.at_10 as f64 >= 0.75 * total, "the questions of {language} are too far from their texts");
    assert!(
        sketches.at_1 as f64 >= 0.97 * text.at_1 as f64,
        "recall@1: {sketches:?} with sketches, {text:?} with text"
    );
    assert!(
        sketches.at_10 as f64 >= 0.99 * text.at_10 as f64,
        "recall@10: {sketches:?} with sketches, {text:?} with text"
    );
    assert!(sizes.iter().all(|size| *size <= LIMIT));
}

#[test]
fn english_questions_are_answered_as_by_the_text() {
    check("English", &english());
}

#[test]
fn chinese_questions_are_answered_as_by_the_text() {
    check("Chinese", &chinese());
}
