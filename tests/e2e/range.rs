//! Range reads.

use c3_tests::harness::cluster::ClusterSpec;
use c3_tests::harness::gateway_api::id_of;
use c3_tests::harness::quantity::assert_all;
use c3_tests::suites::pipeline::reading;
use tonic::Code;

#[tokio::test]
async fn a_range_decodes_only_the_windows_that_it_touches() {
    assert_all(&reading::range(&crate::chapter(), 500, 2).await.unwrap());
}

#[tokio::test]
async fn ranges_are_bytes_of_the_document() {
    let cluster = ClusterSpec::default().start().await.unwrap();
    let api = cluster.api().unwrap();
    let text = crate::page();
    let id = id_of(&api.put_at(text.as_bytes(), 20).await.unwrap().document.unwrap());
    let bytes = text.len() as u64;
    for range in [0..0, 0..1, 7..7, 100..1000, bytes - 1..bytes, bytes..bytes, 0..bytes] {
        let got = api.get_range(&id, range.clone()).await.unwrap();
        assert_eq!(got.text, &text.as_bytes()[range.start as usize..range.end as usize], "{range:?}");
    }
    let past = api.get_range(&id, 5..bytes + 1).await.unwrap_err();
    assert_eq!(past.code(), Code::OutOfRange, "{past}");
    assert!(past.message().contains(&bytes.to_string()), "{past}");
}
