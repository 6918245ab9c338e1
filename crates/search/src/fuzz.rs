//! Fuzz targets: sketches from the store, and queries that callers type.

use c3_fuzz::MemoryBound;

use crate::{Query, Sketch, TermKey, snippet};

#[test]
fn sketch() {
    let texts = [
        "the old lamp of the lighthouse, the lamp",
        "呐喊自序，我在年青时候也曾经做过许多梦",
        "a/b.rs TermKey 1,234.5",
        "",
    ];
    let seed = |text: &&str| Sketch::of_text(&text.repeat(20), 350, &TermKey::derive(&[5; 32])).encode();
    c3_fuzz::check!("sketch", MemoryBound::default(), texts.iter().map(seed).collect(), |input| {
        if let Ok(sketch) = Sketch::decode(input) {
            assert_eq!(Sketch::decode(&sketch.encode()), Ok(sketch));
        }
    });
}

#[test]
fn query() {
    let seeds = ["old \"red lamp\" 'x", "“呐喊” don't 1,234.5", "snake_case a/b.rs --dry-run"];
    let seeds = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    let bound = MemoryBound { factor: 256, ..MemoryBound::default() };
    c3_fuzz::check!("query", bound, seeds, |input| {
        let text = String::from_utf8_lossy(input);
        for query in [Query::parse(&text), Query::exact(&text)].into_iter().flatten() {
            assert_eq!(query.terms().len(), query.typed_terms().len());
            let part = snippet(&text, &query, 20);
            assert!(text[part].len() <= 20);
            // A phrase in quotes is found in the query itself.
            assert!(query.find_phrases(&text).is_some(), "{query:?} does not occur in {text:?}");
        }
    });
}
