//! Import cycles between sibling modules of a crate.
//!
//! A module includes its descendants: `use crate::read::plan::Step` in `ingest/text.rs` is an edge from `ingest` to
//! `read`. Imports between a module and its own ancestors or descendants are not edges. An import of a re-exported item
//! leads to the module that defines the item.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use anyhow::Result;

use crate::source::{ModulePath, Source};

/// Folders of the crates that must not have import cycles, relative to the root of the repository.
pub const CHECKED: [&str; 4] = ["gateway", "crates/store", "crates/routing", "cli"];

/// Edges from a module to the sibling modules that it imports, each with a description of one such import.
type Edges = BTreeMap<ModulePath, BTreeMap<ModulePath, String>>;

/// Searches the shortest cycle through each module of the crate in `src`. Returns one description per cycle, with its
/// modules and, for each step, an import that causes it. Of several cycles through the same modules, only one is
/// returned.
pub fn import_cycles(src: &Path) -> Result<Vec<String>> {
    let source = Source::read(src)?;
    let edges = edges(&source, src);
    let mut seen = BTreeSet::new();
    let mut cycles = Vec::new();
    for module in edges.keys() {
        let Some(cycle) = shortest_cycle(&edges, module) else { continue };
        if seen.insert(BTreeSet::from_iter(cycle.clone())) {
            cycles.push(describe(&edges, &cycle));
        }
    }
    Ok(cycles)
}

fn edges(source: &Source, src: &Path) -> Edges {
    let mut edges = Edges::new();
    for import in &source.imports {
        let Some(target) = source.resolve(&import.from, &import.path) else { continue };
        let common = import.from.iter().zip(&target).take_while(|(a, b)| a == b).count();
        if common == import.from.len() || common == target.len() {
            continue;
        }
        let (from, to) = (import.from[..=common].to_vec(), target[..=common].to_vec());
        let file = import.file.strip_prefix(src).unwrap_or(&import.file).display();
        let cause = || format!("{file} imports {}", import.path.join("::"));
        edges.entry(from).or_default().entry(to).or_insert_with(cause);
    }
    edges
}

/// Returns the modules of the shortest cycle through `start`, or `None` if there is none. Searches breadth first.
fn shortest_cycle(edges: &Edges, start: &ModulePath) -> Option<Vec<ModulePath>> {
    let mut came_from = BTreeMap::<&ModulePath, &ModulePath>::new();
    let mut queue = VecDeque::from([start]);
    while let Some(module) = queue.pop_front() {
        for next in edges.get(module).into_iter().flat_map(BTreeMap::keys) {
            if next == start {
                let mut cycle = vec![module.clone()];
                while let Some(&before) = came_from.get(&cycle[cycle.len() - 1]) {
                    cycle.push(before.clone());
                }
                cycle.reverse();
                return Some(cycle);
            }
            if !came_from.contains_key(next) {
                came_from.insert(next, module);
                queue.push_back(next);
            }
        }
    }
    None
}

fn describe(edges: &Edges, cycle: &[ModulePath]) -> String {
    let steps = cycle.iter().zip(cycle.iter().cycle().skip(1));
    let steps = Vec::from_iter(steps.map(|(from, to)| format!("  {} ({})", from.join("::"), edges[from][to])));
    format!("{}\n  {}", steps.join("\n"), cycle[0].join("::"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn sibling_modules_import_each_other_in_one_direction() {
        for folder in CHECKED {
            let cycles = import_cycles(&crate::root().join(folder).join("src")).unwrap();
            assert!(cycles.is_empty(), "import cycles in {folder}:\n{}", cycles.join("\n"));
        }
    }

    /// Writes the source files of a crate to a temporary folder and returns the crate's cycles.
    fn cycles_of(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        import_cycles(folder.path()).unwrap()
    }

    #[test]
    fn a_cycle_is_found_with_its_path() {
        let cycles = cycles_of(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a/mod.rs", "mod inner;"),
            ("a/inner.rs", "use crate::b::{self, Thing};"),
            ("b.rs", "pub struct Thing; fn f() { super::c::g() }"),
            ("c.rs", "use super::a::Other;"),
        ]);
        let expected = [
            "  a (a/inner.rs imports crate::b)",
            "  b (b.rs imports super::c::g)",
            "  c (c.rs imports super::a::Other)",
            "  a",
        ];
        assert_eq!(cycles, [expected.join("\n")]);
    }

    #[test]
    fn a_cycle_through_a_re_export_is_found() {
        let cycles = cycles_of(&[
            ("lib.rs", "mod a; mod b; pub use a::Thing;"),
            ("a.rs", "use crate::b::Other; pub struct Thing;"),
            ("b.rs", "use crate::Thing; pub struct Other;"),
        ]);
        assert_eq!(cycles.len(), 1);
    }

    #[test]
    fn parents_tests_and_other_crates_are_no_cycles() {
        let cycles = cycles_of(&[
            ("lib.rs", "mod a; mod b; pub use a::A; use b::B;"),
            ("a.rs", "use crate::helper; use b::Other; #[cfg(test)] mod tests { use crate::b::B; }"),
            ("b.rs", "use super::a::A; use std::fs;"),
        ]);
        assert!(cycles.is_empty(), "{cycles:?}");
    }
}
