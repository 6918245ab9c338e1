//! Hostile requests.

use c3_tests::harness::fixtures::Corpus;
use c3_tests::harness::quantity::assert_all;
use c3_tests::suites::security::hostile;

#[tokio::test]
async fn bombs_are_refused_and_memory_stays_flat() {
    assert_all(&hostile::measure("bombs", Corpus { full: false }).await.unwrap());
}
