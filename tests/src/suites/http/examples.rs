//! The curl examples of README and of the reference.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::harness::cluster::ClusterSpec;
use crate::harness::fixtures;
use crate::harness::quantity::Quantity;

/// Documents with examples, relative to the root of the repository.
const DOCUMENTS: [&str; 2] = ["README.md", "docs/reference/http.md"];
/// Address in the examples.
const ADDRESS: &str = "http://127.0.0.1:7300";

/// Runs the shell examples with curl, in order; each must succeed.
pub async fn curl() -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let mut quantities = Vec::new();
    for document in DOCUMENTS {
        let folder = TempDir::with_prefix("c3-curl-")?;
        fs::write(folder.path().join("book.txt"), fixtures::text("page.txt")?)?;
        let examples = examples(&fs::read_to_string(fixtures::root().join(document))?);
        ensure!(!examples.is_empty(), "{document} has no examples");
        let mut failures = Vec::new();
        for example in &examples {
            let line = example.replace(ADDRESS, &cluster.gateway.url());
            // As in the documents, but a refusal fails the command.
            let line = line.replace("curl ", "curl --silent --show-error --fail-with-body ");
            let output = Command::new("bash").args(["-c", &line]).current_dir(folder.path()).output()?;
            if !output.status.success() {
                let printed = [output.stdout, output.stderr].concat();
                failures.push(format!("{example}: {}", String::from_utf8_lossy(&printed)));
            }
        }
        quantities.push(Quantity::reported(format!("curl-examples {document}"), examples.len()));
        quantities.push(Quantity::equal(format!("curl-failures {document}"), failures, Vec::new()));
    }
    Ok(quantities)
}

/// Returns the lines of the shell blocks that contain curl.
fn examples(document: &str) -> Vec<String> {
    let blocks = document.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let blocks = blocks.filter(|block| block.contains("curl "));
    blocks.flat_map(str::lines).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}
