//! The index as callers see it: phrases across borders, pages, deletions beside searches.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use c3_search::evaluation::{Source, index};
use c3_search::{Hit, Index, IndexError, IndexedWindow, Query, Search, Sketch, TermKey};
use c3_types::DocumentId;

fn key() -> TermKey {
    TermKey::derive(&[9; 32])
}

fn fixture(path: &str) -> String {
    std::fs::read_to_string(format!("{}/../../tests/fixtures/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn id(number: usize) -> DocumentId {
    DocumentId::of(&number.to_le_bytes())
}

fn insert(index: &Index, document: DocumentId, windows: &[&str]) {
    let mut start = 0;
    let windows = windows.iter().map(|text| {
        let bytes = start..start + text.len() as u64;
        start = bytes.end;
        IndexedWindow { bytes, sketch: Sketch::of_text(text, 350, &key()) }
    });
    index.insert(document, windows.collect()).unwrap();
}

fn search(index: &Index, query: &str) -> Vec<Hit> {
    index.search(&Search { limit: 1000, ..Search::new(&Query::parse(query).unwrap()) })
}

/// Looks for a phrase as a caller would: decodes the windows of hits, best first, until one contains it at the wanted
/// place. Returns the number of hits looked at.
fn find(index: &Index, sources: &[Source], query: &Query, wanted: (DocumentId, usize)) -> Option<usize> {
    let hits = index.search(&Search { limit: usize::MAX >> 1, ..Search::new(query) });
    let found = hits.iter().position(|hit| {
        let source = sources.iter().find(|source| DocumentId::of(source.text.as_bytes()) == hit.document).unwrap();
        let start = hit.bytes.start as usize;
        let end = hit.next.as_ref().map_or(hit.bytes.end, |next| next.end) as usize;
        let ranges = query.find_phrases(&source.text[start..end]).unwrap_or_default();
        ranges.iter().any(|range| (hit.document, start + range.start) == wanted)
    });
    found.map(|place| place + 1)
}

/// Returns start and text of random phrases of at least three words or four characters.
fn random_phrases(source: &Source, count: usize, rng: &mut fastrand::Rng) -> Vec<(usize, String)> {
    let text = &source.text;
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let mut phrases = Vec::new();
    while phrases.len() < count {
        // Every third phrase crosses the border of windows.
        let border = source.windows[rng.usize(1..source.windows.len())].start;
        let near = starts.partition_point(|&at| at < border);
        let is_chinese = text.chars().take(100).any(|c| c > '\u{4e00}');
        let (place, length) = match (phrases.len() % 3, is_chinese) {
            (0, true) => (near.saturating_sub(rng.usize(1..4)), rng.usize(4..9)),
            (0, false) => (near.saturating_sub(rng.usize(4..20)), rng.usize(20..60)),
            (_, true) => (rng.usize(..starts.len() - 60), rng.usize(4..9)),
            (_, false) => (rng.usize(..starts.len() - 60), rng.usize(16..60)),
        };
        let (start, end) = (starts[place], starts[(place + length).min(starts.len() - 1)]);
        let part = if is_chinese {
            start..end
        } else {
            // Whole words.
            let start = text[start..].find(char::is_whitespace).map_or(start, |at| start + at);
            let end = text[..end].rfind(char::is_whitespace).map_or(end, |at| at.max(start));
            let trimmed = text[start..end].trim_start();
            end - trimmed.len()..end
        };
        let phrase = text[part.clone()].trim_end();
        let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let is_whole = is_word(phrase.chars().next()) && is_word(phrase.chars().next_back());
        let is_long = is_chinese && phrase.chars().filter(|c| *c > '\u{4e00}').count() >= 4
            || phrase.split_whitespace().count() >= 3;
        if is_whole && is_long && !phrase.contains(['"', '“', '”']) {
            phrases.push((part.start, phrase.to_owned()));
        }
    }
    phrases
}

#[test]
fn random_phrases_are_found_at_their_place() {
    let code = include_str!("../src/index/search.rs").to_owned() + include_str!("../src/sketch/codec.rs");
    let sources = [
        Source::new(fixture("search/dickens-and-music.txt"), 2400),
        Source::new(fixture("search/call-to-arms.txt"), 1900),
        Source::new(code, 1900),
    ];
    let index = index(&sources, 350, &key()).unwrap();
    let mut rng = fastrand::Rng::with_seed(5);
    let mut decoded_counts = Vec::new();
    for source in &sources {
        for (start, phrase) in random_phrases(source, 80, &mut rng) {
            let query = Query::parse(&format!("\"{phrase}\"")).unwrap();
            let wanted = (DocumentId::of(source.text.as_bytes()), start);
            let decoded = find(&index, &sources, &query, wanted);
            decoded_counts.push(decoded.unwrap_or_else(|| panic!("{phrase:?} at {start} is not found")));
        }
    }
    decoded_counts.sort_unstable();
    let at = |share: usize| decoded_counts[decoded_counts.len() * share / 100];
    println!("{} phrases: hits to decode: half {}, 90 % {}, 99 % {}", decoded_counts.len(), at(50), at(90), at(99));
    assert!(at(50) <= 2 && at(90) <= 20);
}

#[test]
fn a_phrase_across_windows_is_found_even_if_a_word_is_cut() {
    let index = Index::new(key(), 1 << 20);
    insert(&index, id(1), &["they saw the old light", "house keeper wave"]);
    let hits = search(&index, "\"old lighthouse keeper\"");
    assert_eq!((hits.len(), hits[0].window, hits[0].next.clone()), (1, 0, Some(22..39)));
    assert!(search(&index, "\"keeper saw\"").is_empty());
    // Windows of different documents are no neighbours.
    insert(&index, id(2), &["crash and foam"]);
    assert!(search(&index, "\"wave crash\"").is_empty());
}

#[test]
fn hits_tell_which_terms_matched_and_where() {
    let index = Index::new(key(), 1 << 20);
    insert(&index, id(1), &["a red lamp. ", "the old ship"]);
    let query = Query::parse("old ship whale").unwrap();
    let hits = index.search(&Search::new(&query));
    assert_eq!((hits.len(), hits[0].document, hits[0].window, hits[0].bytes.clone()), (1, id(1), 1, 12..24));
    let terms: Vec<_> = hits[0].terms.iter().map(|term| query.typed_terms()[*term].as_str()).collect();
    assert_eq!(terms, ["old", "ship"]);
}

#[test]
fn pages_cover_all_hits_once_in_order() {
    let index = Index::new(key(), 1 << 24);
    for number in 0..700 {
        insert(&index, id(number), &[&format!("ship {}", "lamp ".repeat(number % 7))]);
    }
    let query = Query::parse("ship lamp").unwrap();
    let all = index.search(&Search { limit: 1000, ..Search::new(&query) });
    assert_eq!(all.len(), 700);
    assert!(all.is_sorted_by_key(Hit::position));
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = index.search(&Search { limit: 33, after, ..Search::new(&query) });
        after = page.last().map(Hit::position);
        if page.is_empty() {
            break;
        }
        pages.extend(page);
    }
    assert_eq!(pages, all);
    let odd = |document: &DocumentId| document.as_bytes()[0] % 2 == 1;
    let filtered = index.search(&Search { filter: &odd, limit: 1000, ..Search::new(&query) });
    let expected: Vec<_> = all.into_iter().filter(|hit| odd(&hit.document)).collect();
    assert_eq!(filtered, expected);
    assert!(index.search(&Search { limit: 0, ..Search::new(&query) }).is_empty());
}

#[test]
fn segments_answer_as_the_tail_does() {
    let texts: Vec<_> = (0..1200).map(|number| format!("ship number{} lamp{}", number % 50, number % 9)).collect();
    let index = Index::new(key(), 1 << 24);
    for (number, text) in texts.iter().enumerate() {
        insert(&index, id(number), &[text]);
    }
    for number in (0..1200).filter(|number| number % 3 > 0) {
        assert!(index.remove(&id(number)));
    }
    let small = Index::new(key(), 1 << 24);
    for (number, text) in texts.iter().enumerate().filter(|(number, _)| number % 3 == 0) {
        insert(&small, id(number), &[text]);
    }
    assert_eq!((index.windows(), small.windows()), (400, 400));
    let found = |index: &Index| {
        let hits = search(index, "number6 lamp6");
        hits.into_iter().map(|hit| (hit.document, hit.terms)).collect::<HashSet<_>>()
    };
    assert_eq!(found(&index), found(&small));
    assert!(!found(&index).is_empty());
}

#[test]
fn a_document_is_replaced_and_removed() {
    let index = Index::new(key(), 1 << 20);
    insert(&index, id(1), &["red lamp"]);
    insert(&index, id(1), &["old ship"]);
    assert!(search(&index, "lamp").is_empty() && search(&index, "ship").len() == 1);
    assert!(index.contains(&id(1)) && index.remove(&id(1)) && !index.remove(&id(1)));
    assert!(search(&index, "ship").is_empty() && index.windows() == 0);
}

#[test]
fn memory_is_bounded_and_freed() {
    let limit = 200 << 10;
    let index = Index::new(key(), limit);
    let text = fixture("texts/essay.txt");
    let sketch = Sketch::of_text(&text[..2000], 350, &key());
    let add = |number| index.insert(id(number), vec![IndexedWindow { bytes: 0..2000, sketch: sketch.clone() }]);
    let full = (0..).find(|number| add(*number).is_err()).unwrap();
    assert_eq!(add(full), Err(IndexError::Full { limit }));
    assert!(index.memory_bytes() <= limit && !index.contains(&id(full)));
    for number in 0..full {
        index.remove(&id(number));
    }
    assert!((0..full).all(|number| add(number).is_ok()), "removing frees memory");
}

#[test]
fn no_removed_document_is_returned_while_others_come_and_go() {
    let index = Index::new(key(), 1 << 26);
    let done = AtomicBool::new(false);
    insert(&index, id(usize::MAX), &["ship always there"]);
    thread::scope(|scope| {
        for writer in 0..2 {
            let (index, done) = (&index, &done);
            scope.spawn(move || {
                for round in 0..2000 {
                    let number = round * 2 + writer;
                    insert(index, id(number), &["ship lamp", "old ship"]);
                    let only = |document: &DocumentId| *document == id(number);
                    let query = Query::parse("ship").unwrap();
                    let search = Search { filter: &only, ..Search::new(&query) };
                    assert_eq!(index.search(&search).len(), 2, "an added document is visible at once");
                    assert!(index.remove(&id(number)));
                    assert!(index.search(&search).is_empty(), "a removed document is gone at once");
                }
                done.store(true, Ordering::Release);
            });
        }
        while !done.load(Ordering::Acquire) {
            assert!(search(&index, "always").len() == 1);
        }
    });
    assert_eq!(index.windows(), 1);
}

#[test]
fn pages_go_on_at_their_place_while_documents_are_added() {
    let index = Index::new(key(), usize::MAX);
    let windows: Vec<String> =
        (1..=20).map(|count| format!("{} harbour {}", "lamp ".repeat(5), "sea ".repeat(count))).collect();
    insert(&index, id(0), &Vec::from_iter(windows.iter().map(String::as_str)));
    let (query, wanted) = (Query::parse("lamp").unwrap(), id(0));
    let (mut seen, mut after) = (Vec::new(), None);
    for number in 1.. {
        let filter = |document: &DocumentId| *document == wanted;
        let page = index.search(&Search { query: &query, filter: &filter, limit: 1, after });
        let Some(hit) = page.first() else { break };
        seen.push(hit.window);
        after = Some(hit.position());
        // Each changes the weight of the word, and so all scores.
        insert(&index, id(number), &["a lamp", "an empty harbour", "a lamp again"]);
    }
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
}
