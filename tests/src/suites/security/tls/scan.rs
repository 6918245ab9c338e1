//! Scan of a gateway's TLS with sslscan.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::harness::certificates::Certificates;
use crate::harness::external;
use crate::harness::process::{Launch, Program};
use crate::harness::quantity::Quantity;

/// Runs sslscan against a gateway with the default minimum version and one that allows TLS 1.2. Only modern versions
/// and strong ciphers may be offered.
pub(super) async fn scan() -> Result<Vec<Quantity>> {
    let Ok(program) = external::path_of("sslscan", "apt-get install sslscan") else {
        return Ok(vec![Quantity::skipped("tls-scan", "sslscan (apt-get install sslscan)", "no weak finding")]);
    };
    let certificates = Certificates::init().await?;
    let folder = TempDir::with_prefix("c3-scan-")?;
    let mut quantities = Vec::new();
    for (minimum, versions) in [("1.3", "TLS 1.3"), ("1.2", "TLS 1.2, TLS 1.3")] {
        let gateway = Launch::new(Program::Gateway).args(certificates.flags_without_ca("gateway"));
        let gateway = gateway.args(["--tls-min", minimum]).arg("--data").arg(folder.path().join("data"));
        let gateway = gateway.over_tls(certificates.credentials("client")?).serve(folder.path()).await?;
        let output = Command::new(&program).args(["--xml=-", "--no-colour", gateway.address()]).output()?;
        ensure!(output.status.success(), "sslscan: {}", String::from_utf8_lossy(&output.stderr));
        let report = String::from_utf8(output.stdout)?;
        let name = |what: &str| format!("tls-scan-{minimum}-{what}");
        quantities.push(Quantity::equal(name("versions"), enabled_versions(&report).join(", "), versions.to_owned()));
        let ciphers = Vec::from_iter(elements(&report, "cipher").map(|cipher| attribute(cipher, "cipher")));
        ensure!(!ciphers.is_empty(), "sslscan found no cipher:\n{report}");
        let weak = elements(&report, "cipher").filter(|cipher| !is_strong(cipher)).map(str::to_owned);
        quantities.push(Quantity::reported(name("ciphers"), ciphers));
        quantities.push(Quantity::equal(name("weak-ciphers"), Vec::from_iter(weak), Vec::new()));
        let flaws = [("heartbleed", "vulnerable"), ("compression", "supported"), ("renegotiation", "supported")];
        let mut found = Vec::new();
        for (element, flaw) in flaws {
            found.extend(elements(&report, element).filter(|found| attribute(found, flaw) == "1").map(str::to_owned));
        }
        quantities.push(Quantity::equal(name("flaws"), found, Vec::new()));
        let expired = report.contains("<expired>true</expired>");
        quantities.push(Quantity::holds(name("certificate"), !expired, "not expired"));
        // A report without these elements would prove nothing.
        elements(&report, "protocol").next().context("sslscan reports no protocols")?;
    }
    Ok(quantities)
}

/// Returns the elements called `name` in the report, each up to its end.
fn elements<'a>(report: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let start = format!("<{name} ");
    report.lines().map(str::trim).filter(move |line| line.starts_with(&start))
}

fn attribute(element: &str, name: &str) -> String {
    let value = element.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
    value.map_or_else(String::new, |(value, _)| value.to_owned())
}

fn enabled_versions(report: &str) -> Vec<String> {
    let enabled = elements(report, "protocol").filter(|protocol| attribute(protocol, "enabled") == "1");
    let mut versions =
        Vec::from_iter(enabled.map(|protocol| {
            format!("{} {}", attribute(protocol, "type").to_uppercase(), attribute(protocol, "version"))
        }));
    versions.sort();
    versions
}

/// Returns whether the cipher is authenticated encryption with forward secrecy and a key of at least 128 bits.
fn is_strong(cipher: &str) -> bool {
    let (name, bits) = (attribute(cipher, "cipher"), attribute(cipher, "bits"));
    let has_forward_secrecy = name.starts_with("TLS_AES") || name.starts_with("TLS_CHACHA") || name.contains("ECDHE");
    let is_aead = name.contains("GCM") || name.contains("CHACHA20");
    has_forward_secrecy && is_aead && bits.parse().is_ok_and(|bits: u32| bits >= 128)
}
