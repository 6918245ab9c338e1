//! Compares the dependencies between the crates of the workspace with those that the design allows.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// Crates that may depend on any other crate: the CLI embeds the servers, and the tests use all parts.
const UNRESTRICTED: [&str; 2] = ["c3-cli", "c3-tests"];

/// For each crate, the crates of the workspace that it may depend on. Covers normal, dev and build dependencies.
/// Matches the code map in `ARCHITECTURE.md`.
const ALLOWED: &[(&str, &[&str])] = &[
    ("c3-types", &["c3-fuzz"]),
    ("c3-cascade", &["c3-fuzz"]),
    ("c3-model", &[]),
    ("c3-fuzz", &[]),
    ("c3-sim", &[]),
    ("c3-architecture", &[]),
    ("c3-proto", &["c3-fuzz", "c3-types"]),
    ("c3-search", &["c3-fuzz", "c3-types"]),
    ("c3-store", &["c3-fuzz", "c3-types"]),
    ("c3-tls", &[]),
    ("c3-server", &["c3-fuzz", "c3-types", "c3-proto", "c3-tls"]),
    ("c3-routing", &["c3-types", "c3-proto", "c3-server", "c3-tls"]),
    ("c3-node", &["c3-types", "c3-proto", "c3-server", "c3-tls"]),
    ("c3-client", &["c3-types", "c3-proto", "c3-tls"]),
    ("c3-mcp", &["c3-types", "c3-client"]),
    ("c3-compressor-node", &["c3-node", "c3-server", "c3-proto", "c3-types", "c3-cascade", "c3-model"]),
    ("c3-decoder-node", &["c3-node", "c3-server", "c3-proto", "c3-types", "c3-cascade", "c3-model"]),
    ("c3-access", &["c3-types", "c3-server"]),
    (
        "c3-gateway",
        &["c3-fuzz", "c3-access", "c3-mcp", "c3-search", "c3-store", "c3-routing", "c3-server", "c3-proto", "c3-types"],
    ),
];

/// External crates that a crate must not have as normal dependencies.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("c3-types", &["tokio", "tonic", "prost"]),
    ("c3-cascade", &["tokio", "tonic", "prost"]),
    ("c3-search", &["tokio", "tonic", "prost"]),
];

/// Description of a workspace crate from `cargo metadata`.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// Name of the package.
    pub name: String,
    /// Absolute path of its `Cargo.toml`.
    pub manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `None` for a normal dependency, otherwise `dev` or `build`.
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// Lists the crates of the workspace in the folder `root` with `cargo metadata`.
pub fn packages(root: &Path) -> Result<Vec<Package>> {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let output = cargo.current_dir(root).output().context("cargo does not start")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice::<Metadata>(&output.stdout)?.packages)
}

/// Returns one line for each dependency that the design does not allow, and for each crate that the design does not
/// name.
pub fn violations(packages: &[Package]) -> Vec<String> {
    packages.iter().flat_map(|package| violations_of(package, packages)).collect()
}

fn violations_of(package: &Package, workspace: &[Package]) -> Vec<String> {
    let name = package.name.as_str();
    if UNRESTRICTED.contains(&name) {
        return Vec::new();
    }
    let Some((_, allowed)) = ALLOWED.iter().find(|(of, _)| *of == name) else {
        return vec![format!("{name} is not in the table of allowed edges")];
    };
    let forbidden = FORBIDDEN.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, crates)| crates);
    let mut violations = Vec::new();
    for Dependency { name: on, kind } in &package.dependencies {
        let ours = workspace.iter().any(|package| package.name == *on);
        let wrong = if ours { !allowed.contains(&on.as_str()) } else { forbidden.contains(&on.as_str()) };
        if wrong && (ours || kind.is_none()) {
            let kind = kind.as_deref().unwrap_or("normal");
            violations.push(format!("{name} -> {on} ({kind} dependency)"));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependency = |(name, kind): &(&str, Option<&str>)| Dependency {
            name: (*name).to_owned(),
            kind: kind.map(str::to_owned),
        };
        Package {
            name: name.to_owned(),
            manifest_path: String::new(),
            dependencies: dependencies.iter().map(dependency).collect(),
        }
    }

    #[test]
    fn crates_depend_only_on_crates_that_the_design_allows() {
        assert_eq!(violations(&packages(&crate::root()).unwrap()), Vec::<String>::new());
    }

    #[test]
    fn wrong_edges_of_every_kind_are_found() {
        let workspace = [
            package("c3-cascade", &[("tokio", None)]),
            package("c3-types", &[("tokio", Some("dev"))]),
            package("c3-gateway", &[("c3-types", None), ("c3-cascade", Some("dev"))]),
            package("c3-new", &[]),
            package("c3-tests", &[("c3-gateway", None)]),
        ];
        let expected = [
            "c3-cascade -> tokio (normal dependency)",
            "c3-gateway -> c3-cascade (dev dependency)",
            "c3-new is not in the table of allowed edges",
        ];
        assert_eq!(violations(&workspace), expected);
    }
}
