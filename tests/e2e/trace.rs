//! Distributed tracing.

use c3_tests::harness::fixtures;
use c3_tests::harness::quantity::assert_all;
use c3_tests::suites::pipeline::trace;

#[tokio::test]
async fn a_roundtrip_is_one_trace_of_four_programs() {
    let file = fixtures::root().join("tests/fixtures/texts/page.txt");
    assert_all(&trace::trace(&file).await.unwrap());
}
