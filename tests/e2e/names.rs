//! Names and labels of documents.

use std::fs;

use c3_proto::pb;
use c3_tests::harness::cluster::ClusterSpec;
use c3_tests::suites::store::ops::{default_options, small_text};
use tonic::Code;

use crate::cli::{at, json, printed};

#[tokio::test]
async fn documents_are_found_by_name_and_by_label() {
    let cluster = ClusterSpec::default().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let put = |number: usize, args: &'static [&'static str]| {
        let file = folder.path().join(number.to_string());
        fs::write(&file, small_text(number)).unwrap();
        let file = file.display().to_string();
        let cluster = &cluster;
        async move {
            let args = [&["put", "--json", &file], args].concat();
            json(&at(cluster, &args).await)["id"].as_str().unwrap().to_owned()
        }
    };
    let first = put(1, &["--name", "head", "--label", "lang=en", "--label", "kind=a b"]).await;
    let second = put(2, &["--name", "head", "--namespace", "team", "--label", "lang=en"]).await;

    assert_eq!(printed(&at(&cluster, &["get", "@head"]).await), small_text(1));
    assert_eq!(json(&at(&cluster, &["stat", "--json", "@team/head"]).await)["id"], second.as_str());
    let listed = json(&at(&cluster, &["ls", "--json", "--label", "lang=en", "--label", "kind=a b"]).await);
    assert_eq!(listed["documents"].as_array().unwrap().len(), 1);
    assert_eq!(listed["documents"][0]["labels"]["kind"], "a b");
    let listed = json(&at(&cluster, &["ls", "--json", "--name-prefix", "he"]).await);
    assert_eq!(
        (&listed["documents"][0]["id"], &listed["documents"][0]["names"][0]),
        (&first.clone().into(), &"head".into())
    );
    let both = json(&at(&cluster, &["ls", "--json"]).await);
    let ids =
        Vec::from_iter(both["documents"].as_array().unwrap().iter().map(|document| document["id"].as_str().unwrap()));
    let page = json(&at(&cluster, &["ls", "--json", "--after", ids[0], "--limit", "5"]).await);
    assert_eq!((page["documents"].as_array().unwrap().len(), &page["documents"][0]["id"]), (1, &ids[1].into()));

    let token = json(&at(&cluster, &["name", "get", "--json", "head"]).await)["token"].as_str().unwrap().to_owned();
    printed(&at(&cluster, &["name", "set", "head", &second, "--if-match", &token]).await);
    let late = at(&cluster, &["name", "set", "head", &first, "--if-match", &token]).await;
    assert_eq!(late.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&late.stderr).contains("changed meanwhile"));
    assert_eq!(printed(&at(&cluster, &["get", "@head"]).await), small_text(2));
    let totals = json(&at(&cluster, &["stat", "--json"]).await);
    assert_eq!((&totals["documents"], &totals["names"]), (&2.into(), &2.into()));
    assert_eq!(totals["bytes"], (small_text(1).len() + small_text(2).len()) as u64);

    let labels = json(&at(&cluster, &["label", "--json", "@head", "kind=c", "--remove", "lang"]).await);
    assert_eq!(labels["labels"], serde_json::json!({ "kind": "c", "path": "2" }));
    assert!(printed(&at(&cluster, &["name", "ls", "--namespace", "team"]).await).contains("@team/head"));
    printed(&at(&cluster, &["rm", "@head"]).await);
    let gone = at(&cluster, &["get", "@team/head"]).await;
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("was deleted"), "{gone:?}");
    assert_eq!(printed(&at(&cluster, &["name", "ls"]).await), "");
}

#[tokio::test]
async fn invalid_names_are_refused_with_the_field() {
    let cluster = ClusterSpec::default().start().await.unwrap();
    let api = cluster.api().unwrap();
    let options = |name: &str| pb::WriteOptions {
        name: Some(pb::PutName { name: name.to_owned(), expected: Some(String::new()), ..Default::default() }),
        ..default_options()
    };
    for wrong in ["", "..", "a//b", "a\nb", "bad name!", &"x".repeat(100)] {
        let refused = api.put(small_text(1).as_bytes(), options(wrong)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().starts_with("name: "), "{refused:?}");
    }
    let labels = [("a=b".to_owned(), "c".to_owned())].into();
    let refused =
        api.put(small_text(1).as_bytes(), pb::WriteOptions { labels, ..default_options() }).await.unwrap_err();
    assert!(refused.message().starts_with("labels: "), "{refused:?}");
    assert!(api.ids().await.unwrap().is_empty());

    api.put(small_text(1).as_bytes(), options("x")).await.unwrap();
    let stored = api.put(small_text(2).as_bytes(), options("x")).await.unwrap_err();
    let id = c3_types::DocumentId::of(small_text(2).as_bytes()).to_string();
    assert_eq!(stored.code(), Code::Aborted);
    assert!(stored.message().contains(&id), "{stored:?}");
    assert_eq!(api.get(&id).await.unwrap().text, small_text(2).as_bytes());
    assert_eq!(api.get("@x").await.unwrap().text, small_text(1).as_bytes());
}
