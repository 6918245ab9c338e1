//! Keys, scopes and tenants; encryption at rest.

use c3_tests::harness::fixtures::Corpus;
use c3_tests::harness::quantity::assert_all;
use c3_tests::suites::security::{access, encryption};

#[tokio::test]
async fn wrong_keys_are_refused_everywhere() {
    assert_all(&access::measure("routes", Corpus { full: false }).await.unwrap());
}

#[tokio::test]
async fn keys_are_rotated_without_a_failed_call() {
    assert_all(&access::measure("key-rotation", Corpus { full: false }).await.unwrap());
}

#[tokio::test]
async fn a_store_is_encrypted_in_place_and_nothing_is_lost() {
    assert_all(&encryption::measure("encrypt-in-place", Corpus { full: false }).await.unwrap());
}

#[tokio::test]
async fn a_gateway_refuses_a_store_that_it_cannot_decrypt() {
    assert_all(&encryption::measure("wrong-key", Corpus { full: false }).await.unwrap());
}
