//! Tests of puts and switches that compete for a document.

use futures::future;

use super::*;
use crate::manifest::Verification;
use crate::tests::{large, open, path, small, store};

/// Returns the manifest of a put at the time `created`, which expires at `expires`. It is verified with `margin`;
/// `None`: it is not verified.
fn put_of(text: &str, created: u64, expires: Option<u64>, margin: Option<f32>) -> Manifest {
    let verification = margin.map(|margin| Verification { margin, arithmetic: "f32".to_owned() });
    Manifest { created_unix_ms: created, expires_unix_ms: expires, verification, ..small(text) }
}

#[tokio::test]
async fn a_put_never_weakens_a_document() {
    let (_folder, store) = store().await;
    let far = now_unix_ms() + 1_000_000;
    let puts = [
        (put_of("text", 5, Some(far), None), (5, Some(far), None)),
        (put_of("text", 9, Some(far - 9), Some(1.0)), (5, Some(far), Some(1.0))),
        (put_of("text", 4, Some(far + 9), None), (4, Some(far + 9), Some(1.0))),
        (put_of("text", 9, None, Some(2.0)), (4, None, Some(2.0))),
        (put_of("text", 9, Some(far), Some(0.0)), (4, None, Some(2.0))),
    ];
    for (put, guarantees) in puts {
        let stored = store.put_manifest(put).await.unwrap().value;
        assert_eq!(stored.guarantees(), guarantees);
        assert_eq!(store.manifest(stored.id).await.unwrap().value, stored);
    }
    // If the last put is as strong as the stored document, it decides about everything else, such as the ratio.
    let coarse = Manifest { ratio: 40, ..put_of("text", 9, None, Some(2.0)) };
    assert_eq!(store.put_manifest(coarse).await.unwrap().value.ratio, 40);
    let weak = Manifest { ratio: 10, ..put_of("text", 9, None, None) };
    assert_eq!(store.put_manifest(weak).await.unwrap().value.ratio, 40);
}

#[tokio::test]
async fn an_unreadable_document_is_repaired_even_by_a_weaker_put() {
    let (folder, store) = store().await;
    let (strong, keys) = large(&store, "text").await;
    store.put_manifest(strong).await.unwrap();
    std::fs::write(path(folder.path(), &keys.latents), b"damaged").unwrap();
    let repaired = store.put_manifest(put_of("text", 9, None, None)).await.unwrap().value;
    assert_eq!(repaired.guarantees(), (1, None, None));
}

#[tokio::test]
async fn concurrent_puts_keep_the_guarantees_of_all() {
    let (folder, store) = store().await;
    let stores = [store, open(folder.path()).await, open(folder.path()).await];
    let far = now_unix_ms() + 1_000_000;
    for round in 0..20 {
        let text = round.to_string();
        let (create, expire, verify) = (
            put_of(&text, 3, Some(far), None),
            put_of(&text, 7, Some(far + 9), Some(1.0)),
            put_of(&text, 7, Some(far), Some(2.0)),
        );
        let all = [&create, &expire, &verify, &verify, &expire, &create];
        let in_progress = stores.each_ref().map(Store::begin_put);
        let puts = all.iter().enumerate().map(|(i, &put)| stores[(round + i) % 3].put_manifest(put.clone()));
        for (put, stored) in all.into_iter().zip(future::try_join_all(puts).await.unwrap()) {
            // Each put is answered with a version that has its guarantees.
            assert_eq!(put.merged_with(std::slice::from_ref(&stored)).guarantees(), stored.value.guarantees());
        }
        drop(in_progress);
        for store in &stores {
            let read = store.manifest(create.id).await.unwrap().value;
            assert_eq!(read.guarantees(), (3, Some(far + 9), Some(2.0)), "round {round}");
        }
    }
}

#[tokio::test]
async fn a_put_during_a_switch_is_not_superseded() {
    let (folder, store) = store().await;
    let other = open(folder.path()).await;
    let far = now_unix_ms() + 1_000_000;
    for round in 0..40 {
        let put = |expires| put_of(&round.to_string(), 1, expires, Some(1.0));
        let from = store.put_manifest(put(Some(far))).await.unwrap().value;
        let switched = store.switch_manifest(&from, put(Some(far - 9)));
        let (switched, stored) = future::join(switched, other.put_manifest(put(None))).await;
        switched.unwrap();
        assert_eq!(stored.unwrap().value.expires_unix_ms, None, "round {round}");
        assert_eq!(store.manifest(from.id).await.unwrap().value.expires_unix_ms, None, "round {round}");
    }
}
