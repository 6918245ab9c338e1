//! Every tool and resource without a key, with a wrong one, and with that of another tenant.

use anyhow::{Context, Result};
use c3_server::access::Scope;
use serde_json::{Value, json};

use crate::harness::access::Access;
use crate::harness::agent::http_request;
use crate::harness::cluster::ClusterSpec;
use crate::harness::fixtures::text;
use crate::harness::quantity::Quantity;

/// Id of no document.
const ABSENT: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Makes every request of MCP. Without a valid key, all are refused. With the key of another tenant, each has the same
/// answer as for a document that does not exist.
pub(in crate::suites) async fn access() -> Result<Vec<Quantity>> {
    let access = Access::with_tenants(&["acme", "other"])?;
    let (key, stranger) = (access.key("acme", &Scope::ALL)?, access.key("other", &Scope::ALL)?);
    let path = access.path().display().to_string();
    let spec = ClusterSpec { api_key: Some(key.clone()), ..ClusterSpec::with_gateway_args(&["--access", &path]) };
    let cluster = spec.start().await?;
    let address = cluster.gateway.address();
    let arguments = json!({ "text": text("page.txt")?, "name": "secret", "labels": { "kind": "secret" } });
    let (_, stored) = http_request(address, Some(&key), "tools/call", tool("store", arguments)).await?;
    let id = stored["result"]["structuredContent"]["id"].as_str().with_context(|| stored.to_string())?.to_owned();
    let (mut requests, mut admitted, mut revealed) = (0, Vec::new(), Vec::new());
    for ((method, params), (_, absent)) in
        requests_about(&id, "secret").into_iter().zip(requests_about(ABSENT, "absent"))
    {
        requests += 1;
        for wrong in [None, Some("c3_0123456789_wrong"), Some("nonsense")] {
            let (status, _) = http_request(address, wrong, method, params.clone()).await?;
            if status != 401 {
                admitted.push(format!("{method} {params}: {status}"));
            }
        }
        let (_, answer) = http_request(address, Some(&stranger), method, params.clone()).await?;
        let (_, expected) = http_request(address, Some(&stranger), method, absent).await?;
        let neutral = |answer: &Value| {
            let text = answer.to_string();
            let ids = [(&id[..], "ID"), (ABSENT, "ID"), (&id[..12], "HANDLE"), (&ABSENT[..12], "HANDLE")];
            ids.into_iter()
                .chain([("secret", "NAME"), ("absent", "NAME")])
                .fold(text, |text, (from, to)| text.replace(from, to))
        };
        if neutral(&answer) != neutral(&expected) {
            revealed.push(format!("{method} {params}: {answer}, but {expected}"));
        }
    }
    let (_, kept) = http_request(address, Some(&key), "resources/read", document(&id)).await?;
    let is_kept = kept["result"]["contents"][0]["text"] == text("page.txt")?;
    Ok(vec![
        Quantity::reported("access-requests", requests),
        Quantity::equal("access-admitted-without-key", admitted, Vec::new()),
        Quantity::equal("access-revealed-to-others", revealed, Vec::new()),
        Quantity::holds("access-document-kept", is_kept, "the document is still there"),
    ])
}

fn tool(name: &str, arguments: Value) -> Value {
    json!({ "name": name, "arguments": arguments })
}

fn document(id: &str) -> Value {
    json!({ "uri": format!("c3://documents/{id}") })
}

/// Returns every kind of request, about a document and its name.
fn requests_about(id: &str, name: &str) -> Vec<(&'static str, Value)> {
    let template = json!({ "type": "ref/resource", "uri": "c3://documents/{id}{?start,end}" });
    vec![
        ("server/discover", json!({})),
        ("tools/list", json!({})),
        ("resources/list", json!({})),
        ("resources/templates/list", json!({})),
        ("tools/call", tool("recall", json!({ "handle": id }))),
        ("tools/call", tool("recall", json!({ "handle": &id[..12] }))),
        ("tools/call", tool("recall", json!({ "handle": format!("@{name}") }))),
        ("tools/call", tool("recall", json!({ "handle": id, "match": "the", "max_tokens": 10 }))),
        ("tools/call", tool("find", json!({ "labels": { "kind": name } }))),
        ("tools/call", tool("find", json!({ "query": "the water", "documents": [id] }))),
        ("tools/call", tool("forget", json!({ "handle": id }))),
        ("tools/call", tool("forget", json!({ "handle": format!("@{name}") }))),
        ("tools/call", tool("stats", json!({}))),
        ("resources/read", document(id)),
        ("resources/read", json!({ "uri": format!("c3://names/default/{name}?end=10") })),
        ("completion/complete", json!({ "ref": template, "argument": { "name": "id", "value": &id[..4] } })),
    ]
}
