//! The console: its pages, sessions and drafts. The suite `console` opens it in a browser.

use c3_server::access::Scope;
use c3_tests::harness::access::Access;
use c3_tests::harness::cluster::ClusterSpec;
use c3_tests::harness::raw_http1::RawHttp1;
use serde_json::json;

#[tokio::test]
async fn the_pages_run_only_scripts_of_the_gateway() {
    let cluster = ClusterSpec::default().start().await.unwrap();
    let mut connection = RawHttp1::connect(cluster.gateway.address()).await.unwrap();
    let index = connection.get("/console").await.unwrap();
    assert_eq!((index.status, index.header("content-type")), (200, "text/html"));
    let policy = index.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    // Every address within the console shows the same page, which reads the address itself.
    for path in ["/console/", "/console/nodes", "/console/documents/abc"] {
        assert_eq!(connection.get(path).await.unwrap().body, index.body, "{path}");
    }
    assert_eq!(connection.get("/console/assets/missing.js").await.unwrap().status, 404);
    let session = connection.get("/console/session").await.unwrap().json();
    assert_eq!((&session["required"], &session["signed_in"]), (&json!(false), &json!(true)));
}

#[tokio::test]
async fn a_session_stands_for_its_key_and_changes_need_its_token() {
    let access = Access::with_tenants(&["acme"]).unwrap();
    let key = access.key("acme", &[Scope::Read, Scope::Write]).unwrap();
    let args = ["--access", &access.path().display().to_string()];
    let spec = ClusterSpec { api_key: Some(key.clone()), ..ClusterSpec::with_gateway_args(&args) };
    let cluster = spec.start().await.unwrap();
    let mut connection = RawHttp1::connect(cluster.gateway.address()).await.unwrap();
    let json_body = ("content-type", "application/json");

    let before = connection.get("/console/session").await.unwrap().json();
    assert_eq!((&before["required"], &before["signed_in"]), (&json!(true), &json!(false)));
    let wrong = json!({"key": "c3_0011223344_wrong"}).to_string();
    let refused = connection.send("POST", "/console/session", &[json_body], wrong.as_bytes()).await.unwrap();
    assert_eq!(
        (refused.status, refused.problem().as_str(), refused.header("set-cookie")),
        (401, "unauthenticated", "")
    );

    let right = json!({"key": key}).to_string();
    let begun = connection.send("POST", "/console/session", &[json_body], right.as_bytes()).await.unwrap();
    let cookie = begun.header("set-cookie").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let session = begun.json();
    assert_eq!((&session["tenant"], &session["scopes"]), (&json!("acme"), &json!(["read", "write"])));
    let sent = ("cookie", cookie.split(';').next().unwrap());
    let again = connection.send("GET", "/console/session", &[sent], b"").await.unwrap().json();
    assert_eq!(again, session);

    let put = async |headers: &[(&str, &str)]| {
        let mut connection = RawHttp1::connect(cluster.gateway.address()).await.unwrap();
        connection.send("PUT", "/v1/documents", headers, crate::page().as_bytes()).await.unwrap().status
    };
    let csrf = session["csrf"].as_str().unwrap();
    assert_eq!(put(&[sent]).await, 403);
    assert_eq!(put(&[sent, ("x-csrf-token", "0")]).await, 403);
    assert_eq!(put(&[sent, ("x-csrf-token", csrf)]).await, 201);
    let list = connection.send("GET", "/v1/documents", &[sent], b"").await.unwrap();
    assert_eq!((list.status, list.json()["documents"].as_array().unwrap().len()), (200, 1));
    // The key lacks the scope of metrics.
    assert_eq!(connection.send("GET", "/metrics", &[sent], b"").await.unwrap().status, 403);

    let ended = connection.send("DELETE", "/console/session", &[sent], b"").await.unwrap();
    assert!(ended.header("set-cookie").contains("Max-Age=0"));
}

#[tokio::test]
async fn a_draft_is_what_the_decoder_writes_alone() {
    let cluster = ClusterSpec::default().start().await.unwrap();
    let mut connection = RawHttp1::connect(cluster.gateway.address()).await.unwrap();
    // A text of one window.
    let text = &crate::page()[..700];
    let mut differing = 0;
    for ratio in [10, 80] {
        let path = format!("/v1/documents?ratio={ratio}");
        let stored = connection.send("PUT", &path, &[], text.as_bytes()).await.unwrap().json();
        assert_eq!(stored["windows"], 1);
        let id = stored["id"].as_str().unwrap();
        let draft = connection.get(&format!("/v1/documents/{id}/drafts/0")).await.unwrap();
        let is_exact = draft.body == text.as_bytes();
        assert_eq!((draft.status, is_exact), (200, stored["fidelity"] == 1.0), "{ratio}: {stored}");
        differing += usize::from(!is_exact);
        let beyond = connection.get(&format!("/v1/documents/{id}/drafts/1")).await.unwrap();
        assert_eq!((beyond.status, &beyond.json()["windows"]), (416, &json!(1)));
        // Otherwise the second put would find the document.
        connection.send("DELETE", &format!("/v1/documents/{id}"), &[], b"").await.unwrap();
    }
    assert!(differing > 0, "every draft equals the text, so drafts may be corrected");
    assert_eq!(connection.get("/v1/documents/00000000/drafts/0").await.unwrap().status, 404);
}
