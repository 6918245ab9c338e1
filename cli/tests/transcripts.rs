//! Golden transcripts: the help of every command, and a call of each that succeeds and one that fails.
//!
//! `TRYCMD=overwrite cargo test -p c3-cli --test transcripts` rewrites the files in `transcripts` after a change; check
//! the difference before you commit it. `[..]` stands for any text in a line, and `...` for any lines.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use support::{Gateway, c3};
use trycmd::TestCases;

/// Servers, which do not end by themselves.
const ONLY_FAILURES: [&str; 1] = ["serve"];
/// Verbs and names with which a message says what to do.
const REMEDIES: [&str; 27] = [
    "`c3 ",
    "--",
    "give",
    "use ",
    "check ",
    "start ",
    "add ",
    "remove ",
    "run ",
    "repeat ",
    "try ",
    "create",
    "change ",
    "choose ",
    "write it",
    "free ",
    "move ",
    "needs ",
    "omit ",
    "accepts",
    "takes",
    "possible values",
    "see ",
    "tip:",
    "must be",
    "convert ",
    " from 8 to 80",
];

/// Id of an API key in the access file of the transcripts.
const KEY_ID: &str = "0123456789";

fn transcripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

/// Returns the transcripts in a folder, by the names of their commands.
fn read(folder: &str) -> Vec<(String, String)> {
    let files = fs::read_dir(transcripts().join(folder)).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|file| file.is_file());
    files
        .map(|file| (file.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(file).unwrap()))
        .collect()
}

fn cases(home: &Path) -> TestCases {
    let cases = TestCases::new();
    cases.register_bin("c3", Path::new(env!("CARGO_BIN_EXE_c3")));
    cases.env("HOME", home.display().to_string()).env("XDG_CONFIG_HOME", home.join(".config").display().to_string());
    cases.env("XDG_DATA_HOME", home.join(".local/share").display().to_string()).env("COLUMNS", "100");
    // Trycmd cannot remove variables, and a help shows the values of those that are set.
    let set = std::env::vars().map(|(name, _)| name).find(|name| name.starts_with("C3_") || name.starts_with("OTEL_"));
    assert_eq!(set, None, "unset this variable, then run the test again");
    cases
}

#[test]
fn every_help_matches() {
    cases(Path::new("/home/user")).case(transcripts().join("help/*.trycmd"));
}

#[test]
fn calls_match() {
    let gateway = Gateway::start();
    let folder = gateway.folder();
    for (name, text) in [
        ("note", "A short note.\n"),
        ("new", "A new note.\n"),
        ("more", "More of it.\n"),
        ("old", "A note that will go.\n"),
        ("growing", "A note that grows.\n"),
        ("tuned", "A note that is compressed again.\n"),
        ("other", "Another note.\n"),
        ("labelled", "A note with a label.\n"),
    ] {
        let file = format!("{name}.txt");
        fs::write(folder.join(&file), text).unwrap();
        if !["new", "more"].contains(&name) {
            assert!(gateway.run(&["put", &file, "--name", name]).status.success());
        }
    }
    fs::write(folder.join("binary.bin"), [0xff, 0xfe, 0]).unwrap();
    fs::write(folder.join("master.key"), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    #[cfg(unix)]
    fs::set_permissions(folder.join("master.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(gateway.run(&["latents", "@note", "-o", "note.safetensors"]).status.success());
    // A key with an id that the transcripts can name.
    let created = gateway.run(&["key", "create", "--access", "access.json", "--scope", "read", "--json"]);
    let created: serde_json::Value = serde_json::from_slice(&created.stdout).unwrap();
    let access = fs::read_to_string(folder.join("access.json")).unwrap();
    let access = access.replace(created["id"].as_str().unwrap(), KEY_ID);
    fs::write(folder.join("access.json"), access).unwrap();
    // The commands of the transcripts name files relative to this folder.
    std::env::set_current_dir(folder).unwrap();
    let cases = cases(folder);
    cases.env("C3_GATEWAY", &gateway.url).timeout(std::time::Duration::from_secs(120));
    cases.insert_var("[GATEWAY]", gateway.url.clone()).unwrap();
    cases.case(transcripts().join("calls/*.trycmd"));
    cases.run();
    std::env::set_current_dir("/").unwrap();
}

#[test]
fn every_command_has_transcripts() {
    let pages = tempfile::tempdir().unwrap();
    let written = c3(pages.path()).args(["man", "--json", "pages"]).output().unwrap();
    let written: serde_json::Value = serde_json::from_slice(&written.stdout).unwrap();
    let pages = written["pages"].as_array().unwrap().iter().map(|page| page.as_str().unwrap());
    let all = BTreeSet::from_iter(pages.map(|page| page.trim_end_matches(".1").to_owned()));
    let of = |transcripts: &[(String, String)]| BTreeSet::from_iter(transcripts.iter().map(|(name, _)| name.clone()));
    assert_eq!(of(&read("help")), all);
    let is_group = |name: &String| all.iter().any(|other| other.starts_with(&format!("{name}-")));
    // `put-latents` is no command of `put`.
    let is_leaf = |name: &&String| *name == "c3-put" || !is_group(name);
    let mut leaves = BTreeSet::from_iter(all.iter().filter(is_leaf).cloned());
    leaves.insert("c3".to_owned());
    assert_eq!(of(&read("calls")), leaves);
}

#[test]
fn each_transcript_has_a_success_and_a_failure_that_says_what_to_do() {
    for (name, text) in read("calls") {
        let calls = Vec::from_iter(text.split("\n$ ").skip(1));
        let has_failed = |call: &&&str| call.lines().nth(1).is_some_and(|line| line.starts_with("? "));
        let failures = Vec::from_iter(calls.iter().filter(has_failed));
        let only_failures = ONLY_FAILURES.iter().any(|only| name == format!("c3-{only}"));
        assert!(only_failures || failures.len() < calls.len(), "{name} has no success");
        assert!(!failures.is_empty(), "{name} has no failure");
        for failure in failures {
            let says = REMEDIES.iter().any(|remedy| failure.lines().skip(2).any(|line| line.contains(remedy)));
            assert!(says, "{name}: the message does not say what to do: {failure}");
        }
    }
}
