//! Batches with `c3`: puts from folders and JSON lines, and gets into a folder.

use std::fs;
use std::path::Path;
use std::process::Output;

use c3_tests::harness::cluster::{Cluster, ClusterSpec};
use c3_tests::harness::process::{Launch, Program};
use c3_tests::harness::quantity::assert_all;
use c3_tests::suites::store::batch;
use c3_tests::suites::store::ops::small_text;
use serde_json::Value;

async fn at(cluster: &Cluster, args: &[&str]) -> Output {
    let c3 = Launch::new(Program::C3).args(args).env("C3_GATEWAY", cluster.gateway.url());
    c3.output().await.expect("c3 is built")
}

fn lines(output: &Output) -> Vec<Value> {
    let printed = String::from_utf8_lossy(&output.stdout);
    printed.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

fn file(folder: &Path, name: &str, text: impl AsRef<[u8]>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("the path has a parent folder")).expect("the folder can be made");
    fs::write(path, text).expect("the file can be written");
}

#[tokio::test]
async fn a_failed_document_does_not_stop_the_batch() {
    let cluster = ClusterSpec::default().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (texts, back) = (folder.path().join("texts"), folder.path().join("back"));
    file(&texts, "a.txt", small_text(1));
    file(&texts, "inner/b.txt", small_text(2));
    file(&texts, "inner/wrong.txt", b"not UTF-8: \xff");
    file(&texts, ".hidden", "not put");
    let [texts, back] = [&texts, &back].map(|path| path.display().to_string());
    let put = at(&cluster, &["put", "--json", "-r", &texts]).await;
    assert_eq!(put.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&put.stderr).into_owned();
    assert!(stderr.contains("1 of 3 failed") && !stderr.contains("wrong.txt"), "{stderr}");
    let printed = lines(&put);
    let wrong = printed.iter().find(|line| line["error"].is_string()).unwrap();
    assert!(
        wrong["file"].as_str().unwrap().ends_with("wrong.txt")
            && wrong["error"].as_str().unwrap().starts_with("text: not UTF-8 at byte 11: ")
    );
    assert_eq!(printed.len(), 4);
    assert_eq!((&printed[3]["documents"], &printed[3]["failed"]), (&2.into(), &1.into()));
    assert!(printed[..3].iter().all(|line| line["id"].is_string() != line["error"].is_string()));

    let jsonl = folder.path().join("lines.jsonl");
    let line = |number| serde_json::json!({ "body": small_text(number) }).to_string();
    fs::write(&jsonl, format!("{}\n{}\n{{\"other\":1}}\n", line(2), line(3))).unwrap();
    let put = at(&cluster, &["put", "--field", "body", &jsonl.display().to_string()]).await;
    assert_eq!(put.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&put.stderr).into_owned();
    assert!(stderr.contains("lines.jsonl:3: the object has no field `body`; its fields are: other"), "{stderr}");

    assert_eq!(at(&cluster, &["get", "--all"]).await.status.code(), Some(2));
    for _ in 0..2 {
        let got = at(&cluster, &["get", "--all", "--json", "-o", &back]).await;
        assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
        assert_eq!(lines(&got).last().unwrap()["documents"], 3);
    }
    let back = Path::new(&back);
    let id = c3_types::DocumentId::of(small_text(3).as_bytes()).to_string();
    let files = ["texts/a.txt", "texts/inner/b.txt", &id].map(|file| back.join(file));
    assert_eq!(files.each_ref().map(|file| fs::read_to_string(file).unwrap()), [1, 2, 3].map(small_text));

    fs::write(&files[0], "mine").unwrap();
    let got = at(&cluster, &["get", "--all", "-o", &back.display().to_string()]).await;
    assert_eq!(got.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&got.stderr).contains("exists with another text"));
    assert_eq!(fs::read_to_string(&files[0]).unwrap(), "mine");
}

#[tokio::test]
async fn a_batch_needs_few_files() {
    let quantities = batch::batch(150, 1).await.unwrap();
    // Throughput is not asserted because other tests run at the same time.
    assert_all(&quantities.into_iter().filter(|quantity| !quantity.name().contains("rate")).collect::<Vec<_>>());
}
