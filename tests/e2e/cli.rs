//! The command line: output, JSON and exit codes.

use std::fs;
use std::path::Path;
use std::process::Output;

use c3_tests::harness::cluster::{Cluster, ClusterSpec};
use c3_tests::harness::fixtures;
use c3_tests::harness::process::{Launch, Program};
use serde_json::Value;

async fn run(c3: Launch) -> Output {
    c3.output().await.expect("c3 is built")
}

async fn c3(args: &[&str]) -> Output {
    run(Launch::new(Program::C3).args(args)).await
}

pub(crate) async fn at(cluster: &Cluster, args: &[&str]) -> Output {
    run(Launch::new(Program::C3).args(args).env("C3_GATEWAY", cluster.gateway.url())).await
}

#[track_caller]
pub(crate) fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("c3 prints UTF-8")
}

#[track_caller]
pub(crate) fn json(output: &Output) -> Value {
    let printed = printed(output);
    assert_eq!(printed.lines().count(), 1, "{printed}");
    serde_json::from_str(&printed).expect("the line is JSON")
}

fn page() -> String {
    fixtures::root().join("tests/fixtures/texts/page.txt").display().to_string()
}

#[tokio::test]
async fn roundtrip_needs_no_servers_and_prints_a_verdict() {
    let output = c3(&["roundtrip", &page()]).await;
    assert_eq!(printed(&output).lines().last(), Some("identical: yes"));
}

#[tokio::test]
async fn json_output_is_one_complete_line() {
    let report = json(&c3(&["roundtrip", "--json", "--ratio", "40", &page()]).await);
    assert_eq!(report["bytes"], crate::page().len());
    assert_eq!(report["ratio"], 40);
    assert_eq!((&report["identical"], &report["verified"]), (&Value::Bool(true), &Value::Bool(true)));
    for field in ["tokens", "latents", "fidelity", "corrections"] {
        assert!(report[field].is_number(), "{field}: {report}");
    }
    for stage in ["put", "get", "compress", "verify"] {
        assert!(report["seconds"][stage].is_number(), "{stage}: {report}");
    }
}

#[tokio::test]
async fn a_document_is_put_listed_read_and_removed() {
    let cluster = ClusterSpec::default().start().await.unwrap();
    let id = json(&at(&cluster, &["put", "--json", &page()]).await)["id"].as_str().unwrap().to_owned();
    let short = &id[..8];

    let whole = at(&cluster, &["get", short]).await;
    assert_eq!(printed(&whole), crate::page());
    let part = at(&cluster, &["get", short, "--range", "10..20"]).await;
    assert_eq!(printed(&part), crate::page()[10..20]);
    let stat = json(&at(&cluster, &["stat", "--json", short]).await);
    assert_eq!(stat["id"], id.as_str());
    assert!(printed(&at(&cluster, &["ls"]).await).contains(&id[..12]));
    assert!(printed(&at(&cluster, &["nodes"]).await).contains(cluster.decoders[0].address()));

    printed(&at(&cluster, &["rm", short]).await);
    let gone = at(&cluster, &["get", short]).await;
    assert_eq!(gone.status.code(), Some(1), "{}", String::from_utf8_lossy(&gone.stderr));
}

#[tokio::test]
async fn a_document_is_appended_to_and_edited() {
    let cluster = ClusterSpec::default().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let more = folder.path().join("more").display().to_string();
    fs::write(&more, "\n\nAnd so it went on.\n").unwrap();
    let named = ["put", "--json", "--ratio", "40", "--name", "draft", "--if-absent", &page()];
    let put = json(&at(&cluster, &named).await);
    let id = put["id"].as_str().unwrap();
    let again = ["put", "--name", "draft", "--if-absent", &more];
    assert_eq!(at(&cluster, &again).await.status.code(), Some(1));
    assert_eq!(at(&cluster, &["put", "--if-absent", &more]).await.status.code(), Some(2));
    let appended = json(&at(&cluster, &["append", "--json", "--replace", "@draft", &more]).await);
    let (grown, ratio) = (appended["id"].as_str().unwrap(), &appended["ratio"]);
    assert_eq!(ratio, 40);
    assert_eq!(printed(&at(&cluster, &["get", grown]).await), format!("{}\n\nAnd so it went on.\n", crate::page()));
    assert_eq!(at(&cluster, &["stat", id]).await.status.code(), Some(1));

    printed(&at(&cluster, &["name", "set", "draft", grown]).await);
    let edited = ["put", "--json", "--base", "@draft", "--upload", "an-edit", &page()];
    assert_eq!(json(&at(&cluster, &edited).await)["ratio"], 40);
    assert_eq!(printed(&at(&cluster, &["uploads", "--json"]).await).trim(), r#"{"uploads":[]}"#);
    assert_eq!(at(&cluster, &["put", "--upload", "no/name", &page()]).await.status.code(), Some(2));
}

#[tokio::test]
async fn exported_latents_decompress_to_the_text() {
    let cluster = ClusterSpec::default().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let latents = folder.path().join("page.safetensors").display().to_string();
    printed(&at(&cluster, &["compress", &page(), "--output", &latents]).await);
    assert_eq!(printed(&at(&cluster, &["ls", "--json"]).await).trim(), r#"{"documents":[]}"#);
    assert_eq!(printed(&at(&cluster, &["decompress", &latents]).await), crate::page());

    let id = json(&at(&cluster, &["put", "--json", &page()]).await)["id"].as_str().unwrap().to_owned();
    printed(&at(&cluster, &["latents", &id, "--output", &latents]).await);
    assert!(fs::metadata(&latents).unwrap().len() > 0);
    assert_eq!(printed(&at(&cluster, &["decompress", &latents]).await), crate::page());
}

#[tokio::test]
async fn usage_errors_and_failures_have_different_exit_codes() {
    for wrong in [["get", "zz"], ["fetch", "x"], ["put", "--ratio=x"], ["get", "--range=9..3"]] {
        assert_eq!(c3(&wrong).await.status.code(), Some(2), "{wrong:?}");
    }
    let missing = c3(&["roundtrip", "/no/such/file"]).await;
    assert_eq!(missing.status.code(), Some(1));
    let printed = String::from_utf8_lossy(&missing.stderr);
    assert!(printed.starts_with("error: ") && printed.trim().lines().count() == 1, "{printed}");
    let nobody = c3(&["ls", "--gateway", "http://127.0.0.1:9"]).await;
    assert_eq!(nobody.status.code(), Some(1));
}

#[tokio::test]
async fn serve_runs_all_three_roles() {
    let folder = tempfile::tempdir().unwrap();
    let mut serve = Launch::new(Program::C3).args(["serve", "--data"]).arg(folder.path().join("data"));
    serve = serve.env("C3_LOG_FORMAT", "json");
    let mut served = serve.serve(folder.path()).await.unwrap();
    let gateway = served.url();
    let put = c3(&["roundtrip", "--json", "--gateway", &gateway, &page()]).await;
    assert_eq!(json(&put)["identical"], true);
    let nodes = printed(&c3(&["nodes", "--gateway", &gateway]).await);
    assert!(nodes.lines().count() >= 2, "{nodes}");
    served.terminate().await.unwrap();
    assert!(Path::new(&folder.path().join("data")).is_dir());
}
