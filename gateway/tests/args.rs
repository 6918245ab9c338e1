//! Command-line arguments. This test also makes `cargo test` build the program, which the end-to-end tests start.

use std::process::Command;

#[test]
fn every_flag_has_an_environment_variable() {
    let output = Command::new(env!("CARGO_BIN_EXE_gateway")).arg("-h").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    // A description may span several lines, so the text of a flag ends where the next flag begins.
    let flags = Vec::from_iter(help.split("\n      --").skip(1));
    let lacking = flags.iter().filter(|flag| !flag.contains("[env:"));
    assert!(!flags.is_empty());
    assert_eq!(Vec::from_iter(lacking), Vec::<&&str>::new());
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_gateway"));
    let empty = ["C3_REDIS", "C3_CALLS_MAX", "C3_ACCEPT_NODES", "C3_GC_GRACE"].map(|name| (name, ""));
    let output = gateway.args(["--listen", "127.0.0.1:0", "--look-ahead", "0"]).envs(empty).output().unwrap();
    let refusal = String::from_utf8(output.stderr).unwrap();
    assert!(refusal.contains("error: --look-ahead"), "{refusal}");
}
