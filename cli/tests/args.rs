//! Command-line arguments. This test also makes `cargo test` build the program, which the end-to-end tests start.

use std::process::Command;

#[test]
fn every_flag_of_serve_has_an_environment_variable() {
    let output = Command::new(env!("CARGO_BIN_EXE_c3")).args(["serve", "-h"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    // The help wraps long descriptions, so the text of a flag continues until the next flag.
    let flags = Vec::from_iter(help.split("\n      --").skip(1));
    let lacking = flags.iter().filter(|flag| !flag.contains("[env:"));
    assert!(!flags.is_empty());
    assert_eq!(Vec::from_iter(lacking), Vec::<&&str>::new());
}
