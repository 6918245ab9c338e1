//! Optimisations must change no result, and `c3 bench` must report consistent numbers.

use c3_tests::harness::cluster::ClusterSpec;
use c3_tests::harness::fixtures;
use c3_tests::harness::process::{Launch, Program};
use c3_tests::harness::quantity::assert_all;
use c3_tests::suites::speed::exact;
use serde_json::Value;

#[test]
fn batches_threads_and_instruction_sets_change_no_bit() {
    assert_all(&exact::identical(&crate::page(), 1).unwrap());
}

#[tokio::test]
async fn bench_reports_consistent_numbers() {
    let cluster = ClusterSpec::default().start().await.unwrap();
    let file = fixtures::root().join("tests/fixtures/texts/essay.txt");
    let bench = Launch::new(Program::C3).arg("bench").arg(file);
    let bench = bench.args(["--json", "--gateway", &cluster.gateway.url(), "--size", "300", "--duration", "1"]);
    let closed = ["--op", "put", "--op", "get", "--clients", "2", "--documents", "2"];
    for (args, sides) in [(&closed[..], &["put", "get"][..]), (&["--rate", "3"], &["get"])] {
        let output = bench.clone().args(args).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        for side in sides {
            let number = |path: &str| report.pointer(&format!("/{side}/{path}")).and_then(Value::as_f64).unwrap();
            assert_eq!(number("failed"), 0.0, "{report}");
            assert!(number("calls") >= 1.0 && number("tokens_per_second") > 0.0, "{report}");
            let (first, whole) = (number("first_byte_ms/p50"), number("total_ms/p50"));
            assert!(0.1 < first && first <= whole && whole <= number("total_ms/max"), "{report}");
        }
    }
    let wrong = bench.args(["--size", "100000000"]).output().await.unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("--size"));
}
