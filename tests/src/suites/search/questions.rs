//! Questions about the texts in `tests/fixtures/search`.

use std::fs;

use anyhow::{Context, Result};
use c3_search::evaluation::{Question, Source};
use serde::Deserialize;

use crate::harness::fixtures;

/// Questions in one language, and the texts that answer them.
pub(super) struct QuestionSet {
    pub(super) language: &'static str,
    /// Texts, with the windows that [`Source::new`] makes.
    pub(super) sources: Vec<Source>,
    pub(super) questions: Vec<Question>,
}

/// Line of a file of questions.
#[derive(Deserialize)]
struct Line {
    question: String,
    source: String,
    /// Byte range of the answer in the text.
    answer: [usize; 2],
}

/// Returns the questions in English and in Chinese.
pub(super) fn all() -> Result<[QuestionSet; 2]> {
    let english = [
        "search/dickens-and-music.txt",
        "search/critical-and-historical-essays.txt",
        "texts/chapter.txt",
        "texts/news.txt",
    ];
    let chinese = ["search/call-to-arms.txt", "texts/tang.txt"];
    Ok([set("en", &english)?, set("zh", &chinese)?])
}

fn set(language: &'static str, texts: &[&str]) -> Result<QuestionSet> {
    let folder = fixtures::root().join("tests/fixtures");
    let read = |path: &str| fs::read_to_string(folder.join(path)).with_context(|| path.to_owned());
    let sources = texts.iter().map(|path| Ok(Source::new(read(path)?, usize::MAX)));
    let sources = sources.collect::<Result<Vec<_>>>()?;
    let questions = read(&format!("search/questions-{language}.jsonl"))?;
    let question = |line: &str| {
        let line: Line = serde_json::from_str(line)?;
        let source = texts.iter().position(|path| path.ends_with(&line.source)).context("a question has no text")?;
        Ok(Question { text: line.question, source, answer: line.answer[0] })
    };
    let questions = questions.lines().map(question).collect::<Result<_>>()?;
    Ok(QuestionSet { language, sources, questions })
}
