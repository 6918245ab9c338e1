//! Lost nodes, clients that disconnect, and restarts.

use c3_tests::harness::cluster::ClusterSpec;
use c3_tests::harness::row::assert_all;
use c3_tests::suites::pipeline::failover;

#[tokio::test]
async fn a_read_survives_the_loss_of_its_decoder() {
    assert_all(&failover::failover(&crate::chapter()).await.unwrap());
}

#[tokio::test]
async fn without_a_node_the_error_names_the_stage_and_its_addresses() {
    assert_all(&failover::no_node(&crate::page()).await.unwrap());
}

#[tokio::test]
async fn disconnected_clients_free_the_nodes() {
    assert_all(&failover::client_disconnects(&crate::chapter()).await.unwrap());
}

#[tokio::test]
async fn documents_survive_a_restart() {
    let cluster = ClusterSpec::default().start().await.unwrap();
    let text = crate::page();
    let put = cluster.api().unwrap().put_at(text.as_bytes(), 20).await.unwrap();
    let id = c3_tests::harness::gateway_api::id_of(&put.document.unwrap());
    let cluster = cluster.restart().await.unwrap();
    assert_eq!(cluster.api().unwrap().get(&id).await.unwrap().text, text.as_bytes());
}
