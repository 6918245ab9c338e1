//! Lost nodes, nodes with another arithmetic, clients that disconnect, and restarts.

use std::time::Duration;

use c3_client::{Client, DocumentName, Expected, WriteOptions};
use c3_proto::pb::decoder_client::DecoderClient;
use c3_proto::pb::{DescribeRequest, NodeState};
use c3_tests::harness::cluster::ClusterSpec;
use c3_tests::harness::fixtures;
use c3_tests::harness::gateway_api::{GatewayApi, id_of};
use c3_tests::harness::process::{Launch, Program};
use c3_tests::harness::quantity::assert_all;
use c3_tests::harness::wait::until;
use c3_tests::suites::pipeline::failover;
use futures::TryStreamExt;

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
    let id = id_of(&put.document.unwrap());
    let cluster = cluster.restart().await.unwrap();
    assert_eq!(cluster.api().unwrap().get(&id).await.unwrap().text, text.as_bytes());
}

#[tokio::test]
async fn reads_prefer_decoders_with_the_arithmetic_of_the_corrections() {
    let cluster = ClusterSpec::default().start().await.unwrap();
    let text = crate::page();
    let put = cluster.api().unwrap().put_at(text.as_bytes(), 20).await.unwrap();
    let id = id_of(&put.document.unwrap());

    let folder = tempfile::tempdir().unwrap();
    let other = Launch::new(Program::DecoderNode).arg("--model").arg(fixtures::default_model());
    let other = other.args(["--dtype", "f32"]).serve(folder.path()).await.unwrap();
    let gateway = Launch::new(Program::Gateway).arg("--data").arg(cluster.data());
    let gateway = gateway.args(["--decoder", &cluster.decoders[0].url(), "--decoder", &other.url()]);
    let gateway = gateway.serve(folder.path()).await.unwrap();
    let api = GatewayApi::to(&gateway).unwrap();
    let ready = async || {
        let nodes = api.nodes().await.unwrap();
        // The compressor at the default address does not exist.
        (nodes.iter().filter(|node| node.state == NodeState::Ready as i32).count() == 2).then_some(())
    };
    until("both decoders to be ready", Duration::from_secs(60), ready).await.unwrap();
    let decoded = async || {
        let described = DecoderClient::new(other.channel().unwrap()).describe(DescribeRequest {}).await.unwrap();
        described.into_inner().counters.unwrap().windows_decoded
    };
    let before = decoded().await;
    assert_eq!(api.get(&id).await.unwrap().text, text.as_bytes());
    assert_eq!(decoded().await, before);
}

#[tokio::test]
async fn calls_that_only_read_move_to_another_gateway() {
    let mut cluster = ClusterSpec::default().start().await.unwrap();
    let second = cluster.start_second_gateway().await.unwrap();
    let urls = format!("{},{}", cluster.gateway.url(), second.url());
    let client = async || Client::connect(&urls).await.unwrap();
    // Each call has its own client. A shared client would make all calls after the first on the second gateway, without
    // another failover.
    let [list, names, get_name, labels, totals] =
        [client().await, client().await, client().await, client().await, client().await];
    let stored = list.put_text(crate::page(), &WriteOptions::default()).await.unwrap();
    let (id, name): (_, DocumentName) = (stored.document.id.to_string(), "page".parse().unwrap());
    list.set_name(&name, &id, &Expected::Any).await.unwrap();
    cluster.gateway.kill().unwrap();
    let listed: Vec<_> = list.list("").try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
    let names: Vec<_> = names.names(name.namespace(), "").try_collect().await.unwrap();
    assert_eq!(names.len(), 1);
    assert_eq!(get_name.get_name(&name).await.unwrap().id, stored.document.id);
    assert_eq!(labels.labels(&id).await.unwrap().id, stored.document.id);
    assert_eq!(totals.totals().await.unwrap().documents, 1);
}
