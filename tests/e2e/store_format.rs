//! This version must read a store that an earlier version wrote.

use std::fs;
use std::path::Path;

use anyhow::Result;
use c3_proto::pb::ListNamesRequest;
use c3_tests::harness::cluster::ClusterSpec;
use c3_tests::harness::fixtures;
use c3_tests::harness::gateway_api::GatewayApi;
use c3_tests::suites::store::ops;
use c3_types::DocumentId;
use tonic::Code;

/// Number of small documents whose manifests share one object, the pack.
const NOTES: usize = 5;

fn note(number: usize) -> String {
    format!(
        "Note {number}. The ferry to the northern island leaves at {} in the morning and carries {} crates of apples.\n",
        number + 5,
        number * 13,
    )
}

fn id(text: &str) -> String {
    DocumentId::of(text.as_bytes()).to_string()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// Returns the names of a namespace with the ids of their documents.
async fn names(api: &GatewayApi, namespace: &str) -> Result<Vec<(String, String)>> {
    let request = ListNamesRequest { namespace: namespace.to_owned(), ..Default::default() };
    let page = api.stub().list_names(request).await?.into_inner();
    let named = page.names.into_iter();
    named.map(|named| Ok((named.name, DocumentId::try_from(named.id.as_ref())?.to_string()))).collect()
}

#[tokio::test]
async fn a_store_of_format_2_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("store");
    copy(&fixtures::root().join("crates/store/fixtures/store-v2"), &data).unwrap();
    let spec = ClusterSpec { data: Some(data.display().to_string()), ..ClusterSpec::default() };
    let cluster = spec.start().await.unwrap();
    let api = cluster.api().unwrap();

    let inline = crate::page()[..700].to_owned();
    let chapter = crate::chapter()[..24_000].to_owned();
    let essay = crate::essay()[..3_500].to_owned();
    let mut texts = vec![inline.clone(), chapter.clone(), essay];
    texts.extend((1..=NOTES).map(note));
    for text in &texts {
        assert_eq!(api.get(&id(text)).await.unwrap().text, text.as_bytes());
    }
    let mut ids = Vec::from_iter(texts.iter().map(|text| id(text)));
    ids.sort();
    assert_eq!(api.ids().await.unwrap(), ids);
    let deleted = api.get(&id("This letter is deleted.\n")).await.unwrap_err();
    assert_eq!(deleted.code(), Code::NotFound);

    assert_eq!(names(&api, "").await.unwrap(), [("inline".to_owned(), id(&inline))]);
    assert_eq!(names(&api, "books").await.unwrap(), [("chapter".to_owned(), id(&chapter))]);
    let labels = api.stat("@inline").await.unwrap().labels;
    let expected = [("kind", "page"), ("lang", "en")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(labels.into_iter().collect::<std::collections::BTreeMap<_, _>>(), expected.into());
    assert!(ops::fsck(&api, false).await.unwrap().is_empty());

    // This version finds stored shards (parts of a text) under the keys that the earlier version chose.
    let again = api.put_at(chapter.as_bytes(), 80).await.unwrap();
    assert_eq!(again.shards_reused, again.document.unwrap().shards);
}
