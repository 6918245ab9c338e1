//! Nodes and callers that go away, and programs that drain.

use c3_tests::cluster::Plan;
use c3_tests::row::assert_all;
use c3_tests::spine::faults;

#[tokio::test]
async fn a_read_survives_the_loss_of_its_decoder() {
    assert_all(&faults::failover(&crate::chapter()).await.unwrap());
}

#[tokio::test]
async fn without_a_node_the_error_names_the_stage_and_its_addresses() {
    assert_all(&faults::no_node(&crate::page()).await.unwrap());
}

#[tokio::test]
async fn callers_that_leave_free_their_place() {
    assert_all(&faults::callers_leave(&crate::chapter()).await.unwrap());
}

#[tokio::test]
async fn documents_outlive_the_programs() {
    let cluster = Plan::default().start().await.unwrap();
    let text = crate::page();
    let put = cluster.calls().unwrap().put_at(text.as_bytes(), 20).await.unwrap();
    let id = c3_tests::calls::id_of(&put.document.unwrap());
    let cluster = cluster.restart().await.unwrap();
    assert_eq!(cluster.calls().unwrap().get(&id).await.unwrap().text, text.as_bytes());
}
