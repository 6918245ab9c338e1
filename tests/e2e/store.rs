//! Durability, integrity and size of the store.

use std::fs;

use c3_tests::harness::cluster::ClusterSpec;
use c3_tests::harness::fixtures::middle;
use c3_tests::harness::gateway_api::id_of;
use c3_tests::harness::process::{Launch, Program};
use c3_tests::harness::quantity::assert_all;
use c3_tests::suites::store::ops::{default_options, small_text};
use c3_tests::suites::store::resume::KilledProcess;
use c3_tests::suites::store::{
    bit_flips, deletes, disk, edits, gateways, kills, long, many, names, resume, safetensors,
};
use tonic::Code;

#[tokio::test]
async fn a_killed_gateway_loses_nothing() {
    assert_all(&kills::kills(2, 1).await.unwrap());
}

#[tokio::test]
async fn damage_is_found_and_never_returned() {
    assert_all(&bit_flips::bit_flips(25, 1).await.unwrap());
}

#[tokio::test]
async fn deleted_documents_stay_deleted_during_a_sweep() {
    assert_all(&deletes::deletes(20, 60, 1).await.unwrap());
}

#[tokio::test]
async fn denied_access_is_reported_and_recovered_from() {
    assert_all(&disk::denied().await.unwrap());
}

#[tokio::test]
async fn exported_latents_are_imported_only_unchanged() {
    assert_all(&safetensors::again(&crate::page()).await.unwrap());
}

#[tokio::test]
async fn many_small_documents_need_few_files() {
    assert_all(&many::many(300).await.unwrap());
}

#[tokio::test]
async fn an_edit_or_append_compresses_only_the_affected_shards() {
    let (chapter, more) = (crate::chapter(), crate::essay());
    let text = middle(&chapter, 16_000);
    let more = [&more[..1500], &more[2000..3500]];
    assert_all(&edits::edits(text, more, edits::Reading::Whole).await.unwrap());
}

#[tokio::test]
async fn an_interrupted_put_is_resumed() {
    let texts = [1, 2].map(|variant| long::unique_variant(&crate::chapter(), 40_000, variant));
    let [first, second] = texts.each_ref().map(String::as_str);
    let puts = [(KilledProcess::Gateway, first), (KilledProcess::Client, second)];
    assert_all(&resume::resume(&puts, &["--shards-in-flight", "1"], None).await.unwrap());
}

#[tokio::test]
async fn two_gateways_see_the_same_store() {
    assert_all(&gateways::gateways(ClusterSpec::default(), 150, 1).await.unwrap());
}

#[tokio::test]
async fn a_contended_name_has_one_winner_per_version() {
    assert_all(&names::contended(5).await.unwrap());
}

#[tokio::test]
async fn fsck_reports_repairs_and_returns_its_exit_code() {
    let cluster = ClusterSpec::default().start().await.unwrap();
    let api = cluster.api().unwrap();
    let text = small_text(1);
    let put = api.put(text.as_bytes(), default_options()).await.unwrap();
    let id = id_of(&put.document.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original");
    fs::write(&original, &text).unwrap();
    let c3 = |args: &[&str]| {
        let launch = Launch::new(Program::C3).args(args).args(["--gateway", &cluster.gateway.url()]);
        async move { launch.output().await.unwrap() }
    };
    assert_eq!(c3(&["fsck"]).await.status.code(), Some(0));

    let file = cluster.objects().unwrap().remove(0);
    let mut damaged = fs::read(&file).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&file, damaged).unwrap();
    let found = c3(&["fsck"]).await;
    assert_eq!(found.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&found.stdout).contains(&id[..12]));
    assert_eq!(api.get(&id).await.unwrap_err().code(), Code::DataLoss);
    let listed = c3(&["ls"]).await;
    assert!(listed.status.success());
    assert!(String::from_utf8_lossy(&listed.stderr).contains(&id));

    let original = original.display().to_string();
    let repaired = c3(&["fsck", "--repair", "--original", &original]).await;
    assert_eq!(repaired.status.code(), Some(1), "{}", String::from_utf8_lossy(&repaired.stdout));
    assert_eq!(api.get(&id).await.unwrap().text, text.as_bytes());
    assert_eq!(c3(&["fsck"]).await.status.code(), Some(0));
    let nobody = Launch::new(Program::C3).args(["fsck", "--gateway", "http://127.0.0.1:9"]).output().await;
    assert_eq!(nobody.unwrap().status.code(), Some(8));
    assert!(c3(&["gc", "--grace", "0"]).await.status.success());
}

#[tokio::test]
async fn an_expired_document_is_not_found() {
    let cluster = ClusterSpec::default().start().await.unwrap();
    let api = cluster.api().unwrap();
    let options = c3_proto::pb::WriteOptions { ttl_seconds: 1, ..default_options() };
    let put = api.put(small_text(1).as_bytes(), options).await.unwrap();
    let document = put.document.unwrap();
    assert_eq!(document.expires_unix_ms, Some(document.created_unix_ms + 1000));
    let gone =
        c3_tests::harness::wait::until("the document to expire", std::time::Duration::from_secs(10), async || {
            api.stat(&id_of(&document)).await.is_err_and(|status| status.code() == Code::NotFound).then_some(())
        });
    gone.await.unwrap();
    assert!(api.ids().await.unwrap().is_empty());
}
