//! Measurements of keys, scopes, tenants and quotas.

mod quota;
mod rotation;
mod routes;
mod tenants;

use anyhow::{Result, bail};

use crate::harness::fixtures::Corpus;
use crate::harness::quantity::Quantity;
use crate::suites::agents;

/// Names of the measurements.
pub const ROWS: &[&str] = &["routes", "mcp", "tenants", "key-rotation", "quota"];

/// Runs the measurement called `row` and returns its quantities.
pub async fn measure(row: &str, corpus: Corpus) -> Result<Vec<Quantity>> {
    match row {
        "routes" => routes::routes().await,
        // Its requests all go to one route.
        "mcp" => agents::access::access().await,
        "tenants" => tenants::tenants(corpus).await,
        "key-rotation" => rotation::key_rotation(corpus).await,
        "quota" => quota::quota(corpus).await,
        row => bail!("no measurement is named `{row}`"),
    }
}
