//! Lines of code of each crate, without tests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::edges::Package;

/// Returns the lines of code of every crate, largest first. Excludes blank lines, comments, tests, and the crates in
/// `tests/`.
pub fn lines_of_code(packages: &[Package]) -> Result<Vec<(String, usize)>> {
    let tests = crate::root().join("tests");
    let mut sizes = Vec::new();
    for package in packages {
        let folder = Path::new(&package.manifest_path).parent().context("a manifest lies in a folder")?;
        if folder.starts_with(&tests) {
            continue;
        }
        let mut lines = 0;
        for file in sources(&folder.join("src"))? {
            lines += count(&fs::read_to_string(file)?);
        }
        sizes.push((package.name.clone(), lines));
    }
    sizes.sort_by_key(|(_, lines)| std::cmp::Reverse(*lines));
    Ok(sizes)
}

/// Returns the `.rs` files under a folder. Excludes files `tests.rs` and folders `tests`.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            files.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// Counts the lines of a file formatted by rustfmt. Excludes blank lines, comments and `#[cfg(test)]` items.
fn count(text: &str) -> usize {
    let mut lines = text.lines().peekable();
    let mut count = 0;
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" {
            // Skips the item. Its closing brace stands alone on a line without indentation.
            if lines.next().is_some_and(|item| item.ends_with('{')) {
                lines.by_ref().find(|line| *line == "}");
            }
            continue;
        }
        let code = line.trim_start();
        count += usize::from(!code.is_empty() && !code.starts_with("//"));
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_blank_lines_and_tests_are_not_counted() {
        let code = "//! Header.\n\nfn f() {\n    // Why.\n    g();\n}\n\n";
        let tests = "#[cfg(test)]\nmod tests {\n    fn h() {\n    }\n}\n";
        assert_eq!(count(&[code, tests, "fn i() {}\n"].concat()), 4);
    }
}
