//! Keys, scopes and tenants.

use c3_tests::harness::fixtures::Corpus;
use c3_tests::harness::quantity::assert_all;
use c3_tests::suites::security::access;

#[tokio::test]
async fn wrong_keys_are_refused_everywhere() {
    assert_all(&access::measure("routes", Corpus { full: false }).await.unwrap());
}

#[tokio::test]
async fn keys_are_rotated_without_a_failed_call() {
    assert_all(&access::measure("key-rotation", Corpus { full: false }).await.unwrap());
}
