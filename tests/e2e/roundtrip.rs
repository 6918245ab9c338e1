//! Texts come back byte for byte.

use c3_tests::harness::cluster::ClusterSpec;
use c3_tests::harness::fixtures;
use c3_tests::harness::row::assert_all;
use c3_tests::suites::pipeline::{fidelity, roundtrip, texts};

#[tokio::test]
async fn a_page_comes_back_at_every_ratio() {
    let bounds = [(8, 0.99), (20, 0.99), (40, 0.98), (80, 0.80)];
    assert_all(&roundtrip::ratios(&crate::page(), &bounds).await.unwrap());
}

#[tokio::test]
async fn the_published_layout_serves_documents_too() {
    let plan = ClusterSpec::of_model(fixtures::golden().join("checkpoint"));
    assert_all(&roundtrip::identical("published", plan, &crate::page(), 0).await.unwrap());
}

#[tokio::test]
async fn odd_texts_come_back() {
    assert_all(&texts::odd_texts(4000).await.unwrap());
}

#[tokio::test]
async fn many_clients_do_not_mix() {
    let essay = crate::essay();
    let texts: Vec<&str> = essay.split("\n\n").filter(|text| text.len() > 200).take(8).collect();
    assert_all(&roundtrip::clients(&texts).await.unwrap());
}

#[tokio::test]
async fn the_reported_fidelity_is_the_decoders_and_no_text_is_stored() {
    assert_all(&fidelity::fidelity("fidelity", &crate::page(), 40).await.unwrap());
}
