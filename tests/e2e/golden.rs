//! Comparison of the network with vectors that PyTorch computed.

use c3_cascade::Options;
use c3_tests::harness::fixtures;
use c3_tests::harness::golden::{Arithmetic, default_layout, published_layout};
use c3_tests::harness::quantity::assert_all;

#[test]
fn the_published_layout_matches_the_published_code() {
    let golden = fixtures::golden();
    assert_all(&published_layout(&golden.join("checkpoint"), &golden, Options::default()).unwrap());
}

#[test]
fn the_default_model_matches_the_training_code() {
    let vectors = fixtures::root().join("tests/fixtures/c3-mini");
    let (model, options) = (fixtures::default_model(), Options::default());
    // Longer cases take minutes in f32. Only `just accept pipeline golden` runs them in f32.
    for (path, tokens_max) in [(Arithmetic::F32, 320), (Arithmetic::Served, usize::MAX)] {
        assert_all(&default_layout(&model, &vectors, options, path, tokens_max).unwrap());
    }
}
