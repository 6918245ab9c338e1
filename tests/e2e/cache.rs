//! What is not computed twice.

use c3_tests::calls::id_of;
use c3_tests::cluster::Plan;
use c3_tests::row::assert_all;
use c3_tests::spine::reading;

#[tokio::test]
async fn a_text_put_again_calls_no_model() {
    assert_all(&reading::reuse(&crate::chapter(), 3).await.unwrap());
}

#[tokio::test]
async fn other_settings_replace_a_documents_latents() {
    let cluster = Plan::default().start().await.unwrap();
    let calls = cluster.calls().unwrap();
    let text = crate::page();
    let first = calls.put_at(text.as_bytes(), 20).await.unwrap().document.unwrap();
    let second = calls.put_at(text.as_bytes(), 40).await.unwrap().document.unwrap();
    assert_eq!(first.id, second.id);
    assert!(second.latents < first.latents);
    let id = id_of(&second);
    assert_eq!(calls.stat(&id).await.unwrap().ratio, 40);
    assert_eq!(calls.ids().await.unwrap(), [id.as_str()]);
    assert_eq!(calls.get(&id).await.unwrap().text, text.as_bytes());
}
