//! Search: what is found, by which gateway, and when.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use c3_proto::pb;
use c3_server::access::Scope;
use c3_tests::harness::access::Access;
use c3_tests::harness::cluster::ClusterSpec;
use c3_tests::harness::gateway_api::GatewayApi;
use c3_tests::harness::raw_http1::RawHttp1;
use c3_tests::harness::wait::until;
use tokio::task::JoinSet;
use tonic::Code;

/// Maximum time until the gateway that stored a document finds it, and until another one does.
const OWN_LIMIT: Duration = Duration::from_secs(10);
const OTHERS_LIMIT: Duration = Duration::from_secs(40);
/// Maximum time until a reindex job reaches a state.
const JOB_LIMIT: Duration = Duration::from_secs(120);

fn query(text: &str) -> pb::SearchRequest {
    pb::SearchRequest { query: text.to_owned(), snippet_bytes: 120, ..Default::default() }
}

async fn search(api: &GatewayApi, request: pb::SearchRequest) -> pb::SearchResponse {
    api.stub().search(request).await.unwrap().into_inner()
}

/// Waits until exactly these documents are found.
async fn finds(api: &GatewayApi, text: &str, ids: &[&str], limit: Duration) -> Vec<pb::SearchHit> {
    let mut wanted = Vec::from(ids);
    wanted.sort_unstable();
    until(&format!("{text} to be found"), limit, async || {
        let page = search(api, query(text)).await;
        let mut found = Vec::from_iter(page.hits.iter().map(|hit| hit.hex_document.as_str()));
        found.sort_unstable();
        found.dedup();
        (found == wanted && !page.partial).then(|| page.hits.clone())
    })
    .await
    .unwrap()
}

async fn put(api: &GatewayApi, text: &str, options: pb::WriteOptions) -> String {
    api.put(text.as_bytes(), options).await.unwrap().document.unwrap().hex_id
}

#[tokio::test]
async fn words_and_phrases_are_found_until_the_document_is_deleted() {
    let cluster = ClusterSpec::default().start().await.unwrap();
    let api = cluster.api().unwrap();
    let labels = [("kind".to_owned(), "log".to_owned())].into();
    // Several windows, so that phrases cross their borders.
    let long = format!("{}\nThe keeper polished the brass lighthouse lamp.\n{}", crate::essay(), crate::page());
    let long_id = put(&api, &long, pb::WriteOptions { labels, ..Default::default() }).await;
    let short = "A lighthouse is drawn here: 灯塔看守人记录了船只。 let key = TermKey::derive(secret);";
    let short_id = put(&api, short, pb::WriteOptions::default()).await;
    let hidden = pb::WriteOptions { skip_search: true, ..Default::default() };
    let hidden_id = put(&api, "A lighthouse that nobody finds.", hidden).await;

    let hits = finds(&api, "lighthouses", &[&long_id, &short_id], OWN_LIMIT).await;
    for hit in &hits {
        assert!(hit.snippet.as_ref().unwrap().text.contains("lighthouse") && hit.terms == ["lighthouses"], "{hit:?}");
    }
    let (phrase, at) = ("brass lighthouse lamp", long.find("brass lighthouse lamp").unwrap() as u64);
    let hits = finds(&api, &format!("\"{phrase}\""), &[&long_id], OWN_LIMIT).await;
    let span = hits[0].matches[0];
    assert_eq!((span.start, span.end), (at, at + phrase.len() as u64));
    assert!(search(&api, query("\"lighthouse brass\"")).await.hits.is_empty());
    finds(&api, "看守人记录", &[&short_id], OWN_LIMIT).await;
    // The identifier ranks first; other documents have one of its parts.
    assert_eq!(search(&api, query("TermKey")).await.hits[0].hex_document, short_id);
    let exact = pb::SearchRequest { exact: true, ..query("key = TermKey::der") };
    let hits = search(&api, exact).await.hits;
    let at = short.find("key = TermKey").unwrap() as u64;
    assert_eq!((hits.len(), hits[0].matches[0].start), (1, at));

    let filter = pb::ListRequest { labels: [("kind".to_owned(), "log".to_owned())].into(), ..Default::default() };
    let filtered = search(&api, pb::SearchRequest { filter: Some(filter), ..query("lighthouse") }).await;
    assert!(!filtered.hits.is_empty() && filtered.hits.iter().all(|hit| hit.hex_document == long_id));
    let within = search(&api, pb::SearchRequest { documents: vec![short_id.clone()], ..query("the") }).await;
    assert!(within.hits.iter().all(|hit| hit.hex_document == short_id));

    // Pages have the same hits as one list.
    let all = search(&api, pb::SearchRequest { limit: 100, ..query("the of and") }).await.hits;
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = search(&api, pb::SearchRequest { limit: 2, cursor, ..query("the of and") }).await;
        paged.extend(page.hits);
        cursor = page.next_cursor;
        if cursor.is_empty() {
            break;
        }
    }
    assert!(all.len() > 3);
    assert_eq!(paged, all);

    assert_eq!(reindex(&api, &hidden_id).await, 1);
    finds(&api, "nobody", &[&hidden_id], OWN_LIMIT).await;
    assert_eq!(reindex(&api, &hidden_id).await, 0);
    assert_eq!(api.get(&hidden_id).await.unwrap().text, b"A lighthouse that nobody finds.");

    for id in [&long_id, &hidden_id] {
        api.stub().delete(pb::DeleteRequest { id: id.clone() }).await.unwrap();
        let found = search(&api, query("lighthouse")).await.hits;
        assert!(found.iter().all(|hit| hit.hex_document != *id));
    }
}

async fn reindex(api: &GatewayApi, id: &str) -> u64 {
    api.stub().reindex(pb::ReindexRequest { id: id.to_owned() }).await.unwrap().into_inner().windows
}

async fn start_reindex(api: &GatewayApi) -> pb::ReindexJob {
    api.stub().start_reindex(pb::StartReindexRequest {}).await.unwrap().into_inner().job.unwrap()
}

async fn reindex_job(api: &GatewayApi) -> pb::ReindexJob {
    api.stub().get_reindex(pb::GetReindexRequest {}).await.unwrap().into_inner().job.unwrap()
}

/// Waits until the reindex job has this state.
async fn reaches(api: &GatewayApi, state: pb::ReindexState) -> pb::ReindexJob {
    until(&format!("the job to be {state:?}"), JOB_LIMIT, async || {
        Some(reindex_job(api).await).filter(|job| job.state() == state)
    })
    .await
    .unwrap()
}

fn unsearchable() -> pb::WriteOptions {
    pb::WriteOptions { skip_search: true, ..Default::default() }
}

#[tokio::test]
async fn all_documents_are_reindexed_although_the_caller_is_gone() {
    let mut cluster = ClusterSpec::default().start().await.unwrap();
    let api = cluster.api().unwrap();
    assert_eq!(reindex_job(&api).await.state(), pb::ReindexState::Idle);
    let short_id = put(&api, "A harbour that nobody finds.", unsearchable()).await;
    let long_id = put(&api, &format!("{}\nThe harbour froze.", crate::chapter()), unsearchable()).await;
    put(&api, "It is found already.", pb::WriteOptions::default()).await;
    let unverified = pb::WriteOptions { skip_verification: true, ..Default::default() };
    put(&api, "It was not verified.", unverified).await;

    // The caller is gone before the job does anything.
    let caller = cluster.api().unwrap();
    assert!([pb::ReindexState::Running, pb::ReindexState::Waiting].contains(&start_reindex(&caller).await.state()));
    drop(caller);
    let job = reaches(&api, pb::ReindexState::Ended).await;
    assert_eq!((job.documents, job.reindexed, job.skipped, job.failed), (4, 2, 2, 0), "{job:?}");
    let windows = api.stat(&short_id).await.unwrap().windows + api.stat(&long_id).await.unwrap().windows;
    assert_eq!(job.windows, windows);
    assert!(job.last_problem.contains("without verification"), "{job:?}");
    finds(&api, "harbour", &[&short_id, &long_id], OWN_LIMIT).await;

    let mut http = RawHttp1::connect(cluster.gateway.address()).await.unwrap();
    let started = http.send("POST", "/v1/reindex", &[], b"").await.unwrap();
    assert_eq!(started.status, 202, "{}", started.text());
    let job = reaches(&api, pb::ReindexState::Ended).await;
    assert_eq!((job.documents, job.reindexed, job.skipped, job.windows), (4, 0, 4, 0), "{job:?}");
    let state = http.get("/v1/reindex").await.unwrap();
    assert_eq!((state.status, &state.json()["skipped"]), (200, &4.into()), "{}", state.text());

    cluster.restart_gateway().await.unwrap();
    assert_eq!(reindex_job(&cluster.api().unwrap()).await.state(), pb::ReindexState::Idle);
}

#[tokio::test]
async fn reindexing_waits_while_others_need_the_decoder() {
    const READERS: usize = 4;
    let cluster = ClusterSpec::default().start().await.unwrap();
    let api = cluster.api().unwrap();
    let hidden_id = put(&api, "A xebec that nobody finds.", unsearchable()).await;
    let (reads, mut readers) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
    for number in 0..READERS {
        let id = put(&api, &format!("{number}\n{}", crate::essay()), pb::WriteOptions::default()).await;
        let (api, reads) = (api.clone(), Arc::clone(&reads));
        readers.spawn(async move {
            loop {
                api.get(&id).await.unwrap();
                reads.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    // The gateway knows the rate of the decoder once every document was read.
    let all_read = async |more: usize| {
        let wanted = reads.load(Ordering::Relaxed) + more as u64;
        until("reads", JOB_LIMIT, async || (reads.load(Ordering::Relaxed) >= wanted).then_some(())).await.unwrap();
    };
    all_read(2 * READERS).await;
    start_reindex(&api).await;
    reaches(&api, pb::ReindexState::Waiting).await;
    all_read(2 * READERS).await;
    let job = reindex_job(&api).await;
    assert_eq!((job.state(), job.reindexed), (pb::ReindexState::Waiting, 0), "{job:?}");
    readers.shutdown().await;
    let job = reaches(&api, pb::ReindexState::Ended).await;
    assert_eq!((job.reindexed, job.skipped), (1, READERS as u64), "{job:?}");
    finds(&api, "xebec", &[&hidden_id], OWN_LIMIT).await;
}

#[tokio::test]
async fn reindexing_waits_for_a_decoder() {
    const DECODER: usize = 1;
    let mut cluster = ClusterSpec::default().start().await.unwrap();
    let api = cluster.api().unwrap();
    put(&api, "A harbour that nobody finds.", unsearchable()).await;
    cluster.node(DECODER).kill().unwrap();
    until("the decoder to be unready", JOB_LIMIT, async || {
        let nodes = api.nodes().await.unwrap();
        nodes.iter().any(|node| node.state() != pb::NodeState::Ready).then_some(())
    })
    .await
    .unwrap();
    start_reindex(&api).await;
    reaches(&api, pb::ReindexState::Waiting).await;
    // A second start joins the job.
    assert_eq!(start_reindex(&api).await.state(), pb::ReindexState::Waiting);
    cluster.restart_node(DECODER).await.unwrap();
    let job = reaches(&api, pb::ReindexState::Ended).await;
    assert_eq!((job.documents, job.reindexed, job.failed), (1, 1, 0), "{job:?}");
}

#[tokio::test]
async fn bad_searches_are_refused_with_what_to_do() {
    let cluster = ClusterSpec::default().start().await.unwrap();
    let api = cluster.api().unwrap();
    let refused = async |request: pb::SearchRequest, says: &str| {
        let status = api.stub().search(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(says), "{status}");
    };
    refused(query(" "), "empty").await;
    refused(query(&"word ".repeat(200_000)), "at most").await;
    refused(query("... !? —"), "no word").await;
    refused(pb::SearchRequest { exact: true, ..query("wor") }, "no whole word").await;
    refused(pb::SearchRequest { limit: 101, ..query("word") }, "at most 100").await;
    refused(pb::SearchRequest { cursor: "x".to_owned(), ..query("word") }, "next_cursor").await;
    let unknown = pb::SearchRequest { documents: vec!["@unknown".to_owned()], ..query("word") };
    assert_eq!(api.stub().search(unknown).await.unwrap_err().code(), Code::NotFound);
    assert!(search(&api, query("the of and")).await.hits.is_empty());

    let off = ClusterSpec::with_gateway_args(&["--search-memory", "0"]).start().await.unwrap();
    let status = off.api().unwrap().stub().search(query("word")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains("--search-memory"), "{status}");
    let status = off.api().unwrap().stub().start_reindex(pb::StartReindexRequest {}).await.unwrap_err();
    assert!(status.code() == Code::FailedPrecondition && status.message().contains("--search-memory"), "{status}");
}

#[tokio::test]
async fn other_gateways_and_restarted_ones_find_the_same_documents() {
    let mut cluster = ClusterSpec::default().start().await.unwrap();
    let other = cluster.start_second_gateway().await.unwrap();
    let (api, others) = (cluster.api().unwrap(), GatewayApi::to(&other).unwrap());
    let id = put(&api, "A lighthouse keeper counted ships.", pb::WriteOptions::default()).await;
    finds(&api, "counted", &[&id], OWN_LIMIT).await;
    finds(&others, "counted", &[&id], OTHERS_LIMIT).await;
    cluster.restart_gateway().await.unwrap();
    finds(&cluster.api().unwrap(), "counted", &[&id], OTHERS_LIMIT).await;
    others.stub().delete(pb::DeleteRequest { id: id.clone() }).await.unwrap();
    assert!(search(&others, query("counted")).await.hits.is_empty());
    finds(&cluster.api().unwrap(), "counted", &[], OTHERS_LIMIT).await;
}

#[tokio::test]
async fn tenants_find_only_their_own_documents() {
    let access = Access::with_tenants(&["acme", "beta"]).unwrap();
    let args = ["--access", &access.path().display().to_string()];
    let [acme, beta] = ["acme", "beta"].map(|tenant| access.key(tenant, &[Scope::Read, Scope::Write]).unwrap());
    let spec = ClusterSpec { api_key: Some(acme), ..ClusterSpec::with_gateway_args(&args) };
    let cluster = spec.start().await.unwrap();
    let (acme, beta) = (cluster.api().unwrap(), GatewayApi::with_key(&cluster.gateway, Some(&beta)).unwrap());
    let text = "A lighthouse keeper counted ships.";
    let id = put(&acme, text, pb::WriteOptions::default()).await;
    finds(&acme, "counted", &[&id], OWN_LIMIT).await;
    finds(&beta, "counted", &[], OWN_LIMIT).await;
    let named = pb::SearchRequest { documents: vec![id], ..query("counted") };
    assert_eq!(beta.stub().search(named).await.unwrap_err().code(), Code::NotFound);
    put(&beta, "A harbour.", unsearchable()).await;
    start_reindex(&beta).await;
    let job = reaches(&beta, pb::ReindexState::Ended).await;
    assert_eq!((job.documents, job.reindexed), (1, 1), "{job:?}");
    assert_eq!(reindex_job(&acme).await.state(), pb::ReindexState::Idle);
}
