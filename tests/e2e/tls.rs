//! TLS between clients, gateways and nodes.

use c3_tests::harness::fixtures::Corpus;
use c3_tests::harness::quantity::assert_all;
use c3_tests::suites::security::tls;

async fn assert_row(row: &str) {
    assert_all(&tls::measure(row, Corpus { full: false }).await.expect("the row is measured"));
}

#[tokio::test]
async fn wrong_certificates_versions_and_protocols_are_refused() {
    assert_row("tls-refusals").await;
}

#[tokio::test]
async fn nodes_take_calls_from_gateways_only() {
    assert_row("tls-identity").await;
}

#[tokio::test]
async fn nodes_announce_only_their_own_address() {
    assert_row("tls-announcement").await;
}
