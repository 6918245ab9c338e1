//! Codecs, recoding and automatic ratios.

use c3_tests::harness::quantity::assert_all;
use c3_tests::suites::store::{auto, codecs, recode};

#[tokio::test]
async fn every_codec_is_recorded_and_lossless() {
    assert_all(&codecs::table(&[("page", crate::page())]).await.unwrap());
}

#[tokio::test]
async fn a_document_is_recoded_to_every_codec_and_back() {
    assert_all(&recode::codecs(&crate::page()).await.unwrap());
}

#[tokio::test]
async fn a_delete_wins_over_a_recode() {
    assert_all(&recode::deleted(&crate::chapter()).await.unwrap());
}

#[tokio::test]
async fn a_killed_gateway_does_not_damage_a_recoded_document() {
    assert_all(&recode::kills(&crate::essay(), 2).await.unwrap());
}

#[tokio::test]
async fn ratios_are_chosen_by_fidelity() {
    assert_all(&auto::auto(&[("chapter", crate::chapter())]).await.unwrap());
}

#[tokio::test]
async fn ratios_are_chosen_by_size() {
    assert_all(&auto::stored_bytes(&crate::chapter()).await.unwrap());
}
