//! Short forms of measurements of the chaos suite.

use std::time::Duration;

use c3_tests::harness::quantity::{Quantity, assert_all};
use c3_tests::suites::chaos::schedules::{Retries, schedules};
use c3_tests::suites::chaos::{clients, discovery, gateways, nodes};

fn text() -> String {
    crate::page().repeat(5)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_nodes_fail_no_call() {
    assert_all(&nodes::kills(&text(), 3, 1).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_nodes_fail_no_call() {
    assert_all(&nodes::rolling(&text(), 1).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_gateway_fails_no_call_of_the_client_library() {
    assert_all(&gateways::rolling(&text(), 1).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_connection_fails_no_call() {
    assert_all(&nodes::half_open(&text(), Duration::from_secs(6)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn corrupt_nodes_are_ejected_and_no_wrong_text_is_delivered() {
    assert_all(&nodes::byzantine(&text(), Duration::from_secs(8)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_announce_themselves() {
    assert_all(&discovery::announced(&crate::page()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_resolved_by_dns() {
    assert_all(&discovery::resolved(&crate::page()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_readers_share_the_decoding_of_a_window() {
    assert_all(&nodes::hot(&text(), 30).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_retries_the_checks_detect_failures() {
    // On a busy machine the faults may hit no call, so that nothing fails. In that case, tries the next seed.
    const SCHEDULES: u64 = 4;
    let mut quantities = Vec::new();
    for seed in 1..=SCHEDULES {
        quantities = schedules(&text(), 1, Duration::from_secs(25), seed, Retries::Off).await.unwrap();
        quantities.truncate(2);
        if !quantities.iter().any(Quantity::is_out_of_bounds) {
            break;
        }
    }
    assert_all(&quantities);
}

#[tokio::test(flavor = "multi_thread")]
async fn excess_load_is_refused_immediately() {
    assert_all(&clients::excess_load(&text()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnected_clients_free_their_slots() {
    let quantities = clients::cancelled(&text(), 100, 2).await.unwrap();
    // A slot is the place of a call on the gateway or the decoder. The time until all slots are free is not asserted,
    // because other tests run at the same time.
    assert_all(&quantities[..1]);
}
