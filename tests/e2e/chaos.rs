//! The chaos suite in a short form: each kind of fault once or twice.

use std::time::Duration;

use c3_tests::suites::chaos::schedules::{Retries, schedules};
use c3_tests::suites::chaos::{callers, finding, gateways, nodes};
use c3_tests::harness::row::{Row, assert_all};

fn text() -> String {
    crate::page().repeat(5)
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_killed_fail_no_call() {
    assert_all(&nodes::kills(&text(), 3, 1).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_restarted_fail_no_call() {
    assert_all(&nodes::rolling(&text(), 1).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_restarted_fails_no_call_of_the_client() {
    assert_all(&gateways::rolling(&text(), 1).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_packets_vanish_fails_no_call() {
    assert_all(&nodes::half_open(&text(), Duration::from_secs(6)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_lie_are_left_out_and_no_wrong_text_is_delivered() {
    assert_all(&nodes::liars(&text(), Duration::from_secs(8)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_announce_themselves() {
    assert_all(&discovery::announced(&crate::page()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_found_by_a_name() {
    assert_all(&discovery::resolved(&crate::page()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_of_a_window_have_it_decoded_once() {
    assert_all(&nodes::hot(&text(), 30).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_retries_the_checker_finds_what_fails() {
    // On a busy machine a fault may coincide with no call, so that nothing fails.
    const SCHEDULES: u64 = 4;
    let mut rows = Vec::new();
    for seed in 1..=SCHEDULES {
        rows = schedules(&text(), 1, Duration::from_secs(25), seed, Retries::Off).await.unwrap();
        rows.truncate(2);
        if !rows.iter().any(Row::is_out_of_bounds) {
            break;
        }
    }
    assert_all(&rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_is_worked_off_soon_is_refused_early() {
    assert_all(&callers::waiting(&text()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_leave_free_their_places() {
    let rows = callers::cancelled(&text(), 100, 2).await.unwrap();
    // The time until the slots are free is not asserted because other tests run at the same time.
    assert_all(&rows[..1]);
}
