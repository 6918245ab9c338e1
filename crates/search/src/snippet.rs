//! Snippets: the part of a window that shows why it was found.

use std::collections::HashMap;
use std::ops::Range;

use crate::analyzer::analyze;
use crate::query::Query;

/// Returns the part of `text`, of at most `max_bytes`, with the most distinct terms of the query, and among such parts
/// the one with the most matches. A phrase counts as one more term. The part begins and ends at character boundaries
/// and, if possible, not within a word. If nothing matches, it is the beginning of the text. Takes linear time.
pub fn snippet(text: &str, query: &Query, max_bytes: usize) -> Range<usize> {
    if text.len() <= max_bytes {
        return 0..text.len();
    }
    let matches = matches(text, query);
    let best = densest(&matches, max_bytes).unwrap_or(0..0);
    // Context before and after in equal parts, as far as there is text.
    let context = max_bytes.saturating_sub(best.len());
    let start = best.start.saturating_sub(context / 2).min(text.len() - max_bytes);
    let (start, end) = (text.ceil_char_boundary(start), text.floor_char_boundary(start + max_bytes));
    trimmed(text, start..end.max(start), &best)
}

/// Returns the matches: which term, and where, in order.
fn matches(text: &str, query: &Query) -> Vec<(usize, Range<usize>)> {
    let terms: HashMap<&str, usize> = query.terms().iter().map(|term| term.text.as_str()).zip(0..).collect();
    let mut matches = Vec::new();
    analyze(text, |term| {
        if let Some(&index) = terms.get(term.text) {
            matches.push((index, term.bytes));
        }
    });
    for (phrase, index) in query.phrases().iter().zip(terms.len()..) {
        matches.extend(phrase.find_in(text).into_iter().map(|range| (index, range)));
    }
    matches.sort_by_key(|(_, range)| (range.start, range.end));
    matches
}

/// Returns the range of at most `max_bytes`, from one match to another, with the most distinct terms.
fn densest(matches: &[(usize, Range<usize>)], max_bytes: usize) -> Option<Range<usize>> {
    let mut counts: HashMap<usize, usize> = HashMap::new();
    let mut best: Option<((usize, usize), Range<usize>)> = None;
    let mut first = 0;
    for (last, (term, range)) in matches.iter().enumerate() {
        *counts.entry(*term).or_default() += 1;
        while first < last && range.end.saturating_sub(matches[first].1.start) > max_bytes {
            let term = matches[first].0;
            match counts.get_mut(&term) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(counts.remove(&term)),
            }
            first += 1;
        }
        let value = (counts.len(), last - first);
        if best.as_ref().is_none_or(|(best, _)| value > *best) {
            let start = matches[first].1.start;
            best = Some((value, start..range.end.clamp(start, start + max_bytes)));
        }
    }
    best.map(|(_, range)| range)
}

/// Removes a part of a word at either end of `range`, but nothing of `kept`.
fn trimmed(text: &str, range: Range<usize>, kept: &Range<usize>) -> Range<usize> {
    let is_cut = |at: usize| {
        let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        is_word(text[..at].chars().next_back()) && is_word(text[at..].chars().next())
    };
    let (mut start, mut end) = (range.start, range.end);
    if is_cut(start) {
        let space = text[start..end].find(char::is_whitespace).map(|at| start + at + 1);
        start = space.filter(|&at| text.is_char_boundary(at) && at <= kept.start).unwrap_or(start);
    }
    if is_cut(end) {
        let space = text[start..end].rfind(char::is_whitespace).map(|at| start + at);
        end = space.filter(|&at| at >= kept.end && at > start).unwrap_or(end);
    }
    start..end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part<'a>(text: &'a str, query: &str, max: usize) -> &'a str {
        &text[snippet(text, &Query::parse(query).unwrap(), max)]
    }

    #[test]
    fn the_densest_match_is_shown() {
        let filler = "nothing of interest here. ".repeat(20);
        let text = format!("a lamp {filler} the old lamp of the lighthouse {filler} lamp lamp");
        let shown = part(&text, "old lighthouse lamp", 60);
        assert!(shown.contains("old lamp of the lighthouse") && shown.len() <= 60, "{shown}");
        assert!(!shown.starts_with("terest") && filler.contains(shown.split(' ').next().unwrap()));
        assert_eq!(part("short text", "lamp", 60), "short text");
    }

    #[test]
    fn a_phrase_counts_more_than_its_words() {
        let filler = "nothing here. ".repeat(20);
        let text = format!("lamp old {filler} the old lamp {filler}");
        assert!(part(&text, "\"old lamp\"", 40).contains("the old lamp"));
    }

    proptest! {
        #[test]
        fn snippets_are_bounded(text in "([a-c]{1,3} |字|\\PC){0,200}", max in 0..100usize) {
            let query = Query::parse("a b \"c a\" 字字").unwrap();
            let range = snippet(&text, &query, max);
            prop_assert!(text[range].len() <= max);
        }
    }
}
