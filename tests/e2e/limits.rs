//! Size limits and memory limits.

use c3_tests::harness::quantity::assert_all;
use c3_tests::suites::pipeline::{roundtrip, texts};

#[tokio::test]
async fn oversized_texts_are_refused_early() {
    assert_all(&texts::too_large(&crate::page()).await.unwrap());
}

#[tokio::test]
async fn the_gateway_memory_stays_bounded() {
    assert_all(&roundtrip::memory(&crate::chapter(), 256).await.unwrap());
}
