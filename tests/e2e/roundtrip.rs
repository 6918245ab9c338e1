//! Roundtrips: texts must come back byte for byte.

use c3_tests::harness::cluster::ClusterSpec;
use c3_tests::harness::fixtures;
use c3_tests::harness::quantity::assert_all;
use c3_tests::suites::pipeline::{fidelity, roundtrip, texts};

#[tokio::test]
async fn a_page_comes_back_at_every_ratio() {
    let bounds = [(8, 0.99), (20, 0.99), (40, 0.98), (80, 0.80)];
    assert_all(&roundtrip::ratios(&crate::page(), &bounds).await.unwrap());
}

#[tokio::test]
async fn the_published_layout_serves_documents_too() {
    let spec = ClusterSpec::of_model(fixtures::golden().join("checkpoint"));
    assert_all(&roundtrip::identical("published", spec, &crate::page(), 0).await.unwrap());
}

#[tokio::test]
async fn unusual_texts_come_back() {
    assert_all(&texts::unusual_texts(4000).await.unwrap());
}

#[tokio::test]
async fn concurrent_clients_get_their_own_texts() {
    let essay = crate::essay();
    let texts: Vec<&str> = essay.split("\n\n").filter(|text| text.len() > 200).take(8).collect();
    assert_all(&roundtrip::clients(&texts).await.unwrap());
}

#[tokio::test]
async fn the_reported_fidelity_is_exact_and_no_plaintext_is_stored() {
    assert_all(&fidelity::fidelity("fidelity", &crate::page(), 40).await.unwrap());
}
