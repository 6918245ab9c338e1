//! Invalid requests, corrupt data and failed starts.

use c3_tests::harness::quantity::assert_all;
use c3_tests::suites::pipeline::{bit_flips, requests, startup, texts};

#[tokio::test]
async fn invalid_utf8_is_refused_with_its_offset() {
    assert_all(&texts::not_utf8(&crate::page()).await.unwrap());
}

#[tokio::test]
async fn ratios_out_of_range_are_refused_with_the_range() {
    assert_all(&requests::ratios(&crate::page()).await.unwrap());
}

#[tokio::test]
async fn unknown_malformed_and_ambiguous_ids_are_refused() {
    assert_all(&requests::ids().await.unwrap());
}

#[tokio::test]
async fn latents_of_another_model_are_refused() {
    assert_all(&requests::other_model(&crate::page()).await.unwrap());
}

#[tokio::test]
async fn a_flipped_bit_never_gives_a_wrong_text() {
    assert_all(&bit_flips::flipped_bits(&crate::page()).await.unwrap());
}

#[tokio::test]
async fn a_failed_start_says_what_to_do() {
    assert_all(&startup::refusals().await.unwrap());
}
