//! Metrics and the identity of programs in traces.

use c3_tests::harness::quantity::assert_all;
use c3_tests::suites::found::metrics;

#[tokio::test]
async fn programs_serve_the_metrics_that_the_reference_lists() {
    assert_all(&metrics::table().await.unwrap());
}

#[tokio::test]
async fn spans_name_their_process_and_leave_out_periodic_calls() {
    assert_all(&metrics::identity().await.unwrap());
}
