//! Recall of search over sketches, compared with BM25 over the text, and the size of sketches.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use c3_search::TermKey;
use c3_search::evaluation::{Found, Question, Source, found_by_index, found_by_text, index};
use serde::Deserialize;

/// Most bytes of the sketch of a full window: 3.5 % of its latents.
const LIMIT: usize = 350;

/// Keys with which recall is measured.
const KEYS: u8 = 8;

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
    let total = set.questions.len();
    let text = found_by_text(&set.sources, &set.questions).unwrap();
    let mut sizes = Vec::new();
    let mut found = Vec::new();
    // The key decides which hashes collide, and with it which questions are answered: the mean counts.
    for number in 0..KEYS {
        let key = TermKey::derive(&[number; 32]);
        let index = index(&set.sources, LIMIT, &key).unwrap();
        found.push(found_by_index(&index, &set.sources, &set.questions).unwrap());
        for source in &set.sources {
            sizes.extend(source.sketches(LIMIT, &key).iter().map(|sketch| sketch.encode().len()));
        }
    }
    let mean = |value: fn(&Found) -> usize| found.iter().map(value).sum::<usize>() as f64 / f64::from(KEYS);
    let (at_1, at_10) = (mean(|found| found.at_1), mean(|found| found.at_10));
    let percent = |found: f64| 100.0 * found / total as f64;
    println!(
        "{language}: {total} questions, {} windows; recall@1 {:.1} of {:.1} %, recall@10 {:.1} of {:.1} %; \
         {} bytes a window on average, {} at most",
        sizes.len() / usize::from(KEYS),
        percent(at_1),
        percent(text.at_1 as f64),
        percent(at_10),
        percent(text.at_10 as f64),
        sizes.iter().sum::<usize>() / sizes.len(),
        sizes.iter().max().unwrap(),
    );
    assert!(total >= 500, "{language} has too few questions");
    assert!(percent(text.at_10 as f64) >= 90.0, "the questions of {language} are too far from their texts");
    assert!(at_1 >= 0.97 * text.at_1 as f64, "recall@1: {at_1} with sketches, {text:?} with text");
    assert!(at_10 >= 0.99 * text.at_10 as f64, "recall@10: {at_10} with sketches, {text:?} with text");
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
