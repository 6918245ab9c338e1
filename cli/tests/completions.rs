//! Completion scripts load in each shell and complete ids, names and commands. A shell that is not installed is
//! skipped.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::{Gateway, isolate};

/// Completes the line in its argument and prints the candidates. Readline must not split words at `@`: it would replace
/// only the part behind it.
const BASH: &str = r#"
source <(c3 completions bash)
[[ $COMP_WORDBREAKS != *@* ]] || exit 1
read -ra COMP_WORDS <<< "$1"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_TYPE=9
_clap_complete_c3 c3 "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;
const FISH: &str = "c3 completions fish | source; complete -C $argv[1]";
/// Types the line in an interactive shell, presses Tab, and waits until the expected text appears.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PS1=; autoload -U compinit; compinit -u -D; source <(c3 completions zsh); echo rea''dy'
zpty -r -m shell out '*ready*'
zpty -n -w shell "$1"$'\t'
zpty -r -m shell out "*$2*"
print -r -- "$out"
"#;

#[test]
fn scripts_load_and_complete_ids_names_and_commands() {
    let gateway = Gateway::start();
    fs::write(gateway.folder().join("note.txt"), "A short note about completion.\n").unwrap();
    let put = gateway.run(&["put", "note.txt", "--name", "draft", "--json"]);
    let put: serde_json::Value = serde_json::from_slice(&put.stdout).unwrap();
    let id = put["id"].as_str().unwrap();
    let short = &id[..12];
    let cases = [
        (format!("c3 get {}", &id[..5]), short),
        (format!("c3 --gateway {} rm {}", gateway.url, &id[..5]), short),
        ("c3 get @dr".to_owned(), "@draft"),
        ("c3 name rm dr".to_owned(), "draft"),
        ("c3 compl".to_owned(), "completions"),
    ];
    for (shell, arguments) in [
        ("bash", vec!["--norc", "-c", BASH, "bash"]),
        ("fish", vec!["--no-config", "-c", FISH]),
        ("zsh", vec!["-f", "-c", ZSH, "zsh"]),
    ] {
        if Command::new(shell).arg("--version").output().is_err() {
            eprintln!("{shell} is not installed: skipped");
            continue;
        }
        for (line, expected) in &cases {
            let mut command = Command::new("timeout");
            isolate(command.args(["60", shell]).args(&arguments).args([line.as_str(), expected]), gateway.folder());
            let output = command.env("PATH", path()).env("C3_GATEWAY", &gateway.url).output().unwrap();
            let seen = String::from_utf8_lossy(&output.stdout);
            assert!(seen.contains(expected), "{shell}: {line}: {seen}{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn a_gateway_that_does_not_answer_ends_no_completion() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_c3"));
    isolate(command.args(["--", "c3", "get", "ab"]), Path::new("/nonexistent"));
    let output = command.env("COMPLETE", "fish").env("C3_GATEWAY", "http://127.0.0.1:9").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
}

/// Returns `PATH` with the folder of `c3` first.
fn path() -> std::ffi::OsString {
    let folder = Path::new(env!("CARGO_BIN_EXE_c3")).parent().unwrap().to_owned();
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(folder).chain(std::env::split_paths(&paths))).unwrap()
}
