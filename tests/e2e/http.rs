//! The HTTP API.

use c3_tests::harness::quantity::assert_all;
use c3_tests::suites::http::{bad_input, conformance, examples, web};

#[tokio::test]
async fn ranges_and_conditions_work_as_rfc_9110_says() {
    assert_all(&conformance::requests(&crate::page()).await.unwrap());
}

#[tokio::test]
async fn bad_requests_are_refused_with_a_problem() {
    assert_all(&bad_input::bad_input(&crate::page()).await.unwrap());
}

#[tokio::test]
async fn errors_have_the_same_kind_over_grpc_and_http() {
    assert_all(&bad_input::error_pairs(&crate::page()).await.unwrap());
}

#[tokio::test]
async fn web_pages_of_other_origins_are_refused() {
    assert_all(&web::pages(&crate::page()).await.unwrap());
}

#[tokio::test]
async fn the_curl_examples_of_the_documents_work() {
    assert_all(&examples::curl().await.unwrap());
}
