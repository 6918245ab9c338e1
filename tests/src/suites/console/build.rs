//! The checked-in build of the console equals what its sources build.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::harness::cluster::files_under;
use crate::harness::external;
use crate::harness::fixtures;
use crate::harness::quantity::Quantity;

/// Parts of `clients/console` from which the build is made.
const SOURCES: [&str; 7] =
    ["index.html", "package.json", "package-lock.json", "public", "src", "tsconfig.json", "vite.config.ts"];
/// File outside of that folder that the build reads.
const TOKENIZER: &str = "models/c3-mini/tokenizer.json";

/// Returns the folder of the console's sources.
pub(super) fn folder() -> PathBuf {
    fixtures::root().join("clients/console")
}

/// Builds the console in a new folder and compares the files with the checked-in ones.
pub(super) fn build() -> Result<Vec<Quantity>> {
    let copy = TempDir::with_prefix("c3-console-")?;
    // The same paths as in the repository, because the build refers to the tokenizer by its relative path.
    let [console, tokenizer] = ["clients/console", TOKENIZER].map(|path| copy.path().join(path));
    fs::create_dir_all(&console)?;
    fs::create_dir_all(tokenizer.parent().context("a file has a folder")?)?;
    fs::copy(fixtures::root().join(TOKENIZER), &tokenizer)?;
    let to = console.display().to_string();
    for source in SOURCES {
        external::run("cp", &["-a", &folder().join(source).display().to_string(), &to])?;
    }
    external::run("npm", &["--prefix", &to, "ci", "--silent", "--no-audit", "--no-fund"])?;
    external::run("npm", &["--prefix", &to, "run", "build", "--silent"])?;
    let (built, checked_in) = (contents(&console.join("dist"))?, contents(&folder().join("dist"))?);
    let names = built.keys().chain(checked_in.keys());
    let mut differing = Vec::from_iter(names.filter(|name| built.get(*name) != checked_in.get(*name)));
    differing.sort_unstable();
    differing.dedup();
    Ok(vec![
        Quantity::observed("build-files", built.len(), built.len() > 2, "> 2"),
        Quantity::equal("build-differing-files", differing, Vec::new()),
    ])
}

/// Returns the content of each file in a folder, by its path in the folder.
fn contents(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let files = files_under(folder).with_context(|| folder.display().to_string())?;
    files.into_iter().map(|file| Ok((file.strip_prefix(folder)?.to_owned(), fs::read(&file)?))).collect()
}
