//! Architecture suite: crate sizes, crate dependencies and import cycles.

use anyhow::{Result, bail};
use c3_architecture::{cycles, edges, root, size};

use crate::harness::quantity::Quantity;

/// Names of the measurements, as given to `accept` in its argument `ROW`.
pub const ROWS: [&str; 3] = ["crate-size", "import-cycles", "crate-edges"];
/// Maximum share of the workspace's lines of code in one crate.
const SHARE_MAX: f64 = 0.25;

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub fn measure(row: &str) -> Result<Vec<Quantity>> {
    match row {
        "crate-size" => crate_size(),
        "import-cycles" => import_cycles(),
        "crate-edges" => {
            // Each dependency between crates must be one that the design allows.
            let violations = edges::violations(&edges::packages(&root())?);
            Ok(vec![Quantity::equal("crate-edges-outside-the-design", violations, Vec::new())])
        }
        row => bail!("no measurement is named `{row}`"),
    }
}

/// Counts the lines of code of every crate; the largest crate may have at most [`SHARE_MAX`] of all lines.
fn crate_size() -> Result<Vec<Quantity>> {
    let sizes = size::lines_of_code(&edges::packages(&root())?)?;
    let total: usize = sizes.iter().map(|(_, lines)| lines).sum();
    let largest = sizes[0].1 as f64 / total as f64;
    Ok(vec![
        Quantity::reported(format!("crate-lines ({total} in all)"), &sizes),
        Quantity::at_most(format!("crate-largest-share ({})", sizes[0].0), largest, SHARE_MAX),
    ])
}

/// Searches for import cycles between the modules of the crates in [`cycles::CHECKED`]; there must be none.
fn import_cycles() -> Result<Vec<Quantity>> {
    let mut quantities = Vec::new();
    for folder in cycles::CHECKED {
        let found = cycles::import_cycles(&root().join(folder).join("src"))?;
        quantities.push(Quantity::equal(format!("import-cycles-{folder}"), found, Vec::new()));
    }
    Ok(quantities)
}
