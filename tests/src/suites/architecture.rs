//! Architecture suite: crate sizes, crate dependencies and import cycles.

use anyhow::{Result, bail};
use c3_architecture::{cycles, edges, root, size};

use crate::harness::row::Row;

/// Names of the rows.
pub const ROWS: [&str; 3] = ["crate-size", "import-cycles", "crate-edges"];
/// Maximum share of the workspace's lines of code in one crate.
const SHARE_MAX: f64 = 0.25;

/// Runs the checks of a row and returns the measured quantities. Fails if [`ROWS`] has no such row.
pub fn measure(row: &str) -> Result<Vec<Row>> {
    match row {
        "crate-size" => crate_size(),
        "import-cycles" => import_cycles(),
        "crate-edges" => {
            // Each dependency between crates must be one that the design allows.
            let violations = edges::violations(&edges::packages(&root())?);
            Ok(vec![Row::equal("crate-edges-outside-the-design", violations, Vec::new())])
        }
        row => bail!("no measurement for row `{row}`"),
    }
}

/// Counts the lines of code of every crate; the largest crate may have at most [`SHARE_MAX`] of all lines.
fn crate_size() -> Result<Vec<Row>> {
    let sizes = size::lines_of_code(&edges::packages(&root())?)?;
    let total: usize = sizes.iter().map(|(_, lines)| lines).sum();
    let largest = sizes[0].1 as f64 / total as f64;
    Ok(vec![
        Row::reported(format!("crate-lines ({total} in all)"), &sizes),
        Row::at_most(format!("crate-largest-share ({})", sizes[0].0), largest, SHARE_MAX),
    ])
}

/// Searches for import cycles between the modules of the crates in [`cycles::CHECKED`]; there must be none.
fn import_cycles() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for folder in cycles::CHECKED {
        let found = cycles::import_cycles(&root().join(folder).join("src"))?;
        rows.push(Row::equal(format!("import-cycles-{folder}"), found, Vec::new()));
    }
    Ok(rows)
}
