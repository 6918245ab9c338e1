//! Stored results are reused and not computed again.

use c3_tests::harness::cluster::ClusterSpec;
use c3_tests::harness::gateway_api::id_of;
use c3_tests::harness::quantity::assert_all;
use c3_tests::suites::pipeline::reading;

#[tokio::test]
async fn a_repeated_put_calls_no_model() {
    assert_all(&reading::reuse(&crate::chapter(), 3).await.unwrap());
}

#[tokio::test]
async fn other_settings_replace_a_documents_latents() {
    let cluster = ClusterSpec::default().start().await.unwrap();
    let api = cluster.api().unwrap();
    let text = crate::page();
    let first = api.put_at(text.as_bytes(), 20).await.unwrap().document.unwrap();
    let second = api.put_at(text.as_bytes(), 40).await.unwrap().document.unwrap();
    assert_eq!(first.id, second.id);
    assert!(second.latents < first.latents);
    let id = id_of(&second);
    assert_eq!(api.stat(&id).await.unwrap().ratio, 40);
    assert_eq!(api.ids().await.unwrap(), [id.as_str()]);
    assert_eq!(api.get(&id).await.unwrap().text, text.as_bytes());
}
