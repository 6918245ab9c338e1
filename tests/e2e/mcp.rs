//! The MCP server, over standard input and output and over HTTP.

use c3_server::access::Scope;
use c3_tests::harness::access::Access;
use c3_tests::harness::agent::{StdioAgent, http_request, text_of};
use c3_tests::harness::cluster::ClusterSpec;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Lines with characters of several bytes.
fn lines(count: usize) -> String {
    (1..=count).map(|line| format!("Line {line}: der Schlüssel 钥匙 is {}.\n", line * 7919 % 1000)).collect()
}

#[tokio::test]
async fn an_agent_stores_recalls_finds_and_forgets() {
    let cluster = ClusterSpec::default().start().await.unwrap();
    let (url, folder) = (cluster.gateway.url(), TempDir::new().unwrap());
    let file = folder.path().join("notes.txt");
    std::fs::write(&file, crate::page()).unwrap();
    let files = folder.path().display().to_string();
    let mut agent = StdioAgent::initialized(&["--gateway", &url, "--files", &files]).await.unwrap();

    let text = lines(60);
    let arguments = json!({ "text": text, "name": "keys", "labels": { "kind": "log" } });
    let stored = agent.call("store", arguments).await.unwrap()["structuredContent"].clone();
    assert_eq!((&stored["size"], &stored["lines"]), (&json!(text.len()), &json!(60)));
    assert!(stored["summary"].as_str().unwrap().contains("begins: Line 1: der Schlüssel"), "{stored}");
    let handle = stored["handle"].as_str().unwrap().to_owned();
    for reference in [handle.as_str(), stored["id"].as_str().unwrap(), "@keys", &format!("c3://documents/{handle}")] {
        let recalled = agent.call("recall", json!({ "handle": reference })).await.unwrap();
        assert_eq!(text_of(&recalled), text, "{reference}");
        assert_eq!(recalled["structuredContent"]["text"], text);
    }

    // Ranges tile the text, wherever they are cut.
    let (mut parts, mut start) = (String::new(), 0);
    while start < text.len() {
        let end = (start + 331).min(text.len());
        let part = agent.call("recall", json!({ "handle": handle, "start": start, "end": end })).await.unwrap();
        parts += text_of(&part);
        start = end;
    }
    assert_eq!(parts, text);
    // A budget cuts the text, and says where it goes on.
    let (mut parts, mut next) = (String::new(), json!(0));
    while let Some(start) = next.as_u64() {
        let part = agent.call("recall", json!({ "handle": handle, "start": start, "max_tokens": 200 })).await.unwrap();
        assert!(part["content"][1].is_null() || part["content"][1]["text"].as_str().unwrap().contains("start="));
        parts += text_of(&part);
        next = part["structuredContent"]["next"].clone();
    }
    assert_eq!(parts, text);
    let part = agent.call("recall", json!({ "handle": handle, "first_line": 17, "last_line": 18 })).await.unwrap();
    let expected = Vec::from_iter(text.lines().skip(16).take(2)).join("\n") + "\n";
    assert_eq!(text_of(&part), expected);
    let at = part["structuredContent"]["start"].as_u64().unwrap() as usize;
    assert_eq!(&text[at..at + expected.len()], expected);
    let arguments = json!({ "handle": handle, "match": "钥匙 is 838", "context": 1 });
    let part = agent.call("recall", arguments).await.unwrap();
    let line = text.lines().position(|line| line.contains("钥匙 is 838")).unwrap();
    assert_eq!(text_of(&part), Vec::from_iter(text.lines().skip(line - 1).take(3)).join("\n") + "\n");

    let by_path = agent.call("store", json!({ "path": "notes.txt" })).await.unwrap()["structuredContent"].clone();
    let found = agent.call("find", json!({ "labels": { "path": "notes.txt" } })).await.unwrap();
    assert_eq!(found["structuredContent"]["hits"][0]["id"], by_path["id"]);
    let found = agent.call("find", json!({ "labels": { "kind": "log" } })).await.unwrap();
    assert_eq!(found["structuredContent"]["hits"][0]["handle"], handle);

    let forgotten = agent.call("forget", json!({ "handle": "@keys" })).await.unwrap();
    assert_eq!(forgotten["structuredContent"]["id"], stored["id"]);
    let gone = agent.call("recall", json!({ "handle": handle })).await.unwrap();
    assert!(gone["isError"] == true && text_of(&gone).contains(&format!("begins with `{handle}`")), "{gone}");
    let stats = agent.call("stats", json!({})).await.unwrap();
    assert_eq!(stats["structuredContent"]["documents"], 1);
    assert!(agent.end().await.unwrap().success());
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let cluster = ClusterSpec::default().start().await.unwrap();
    let url = cluster.gateway.url();
    let mut agent = StdioAgent::initialized(&["--gateway", &url]).await.unwrap();
    let stored = agent.call("store", json!({ "text": "Soft as water.\n中文", "name": "tao" })).await.unwrap();
    let id = stored["structuredContent"]["id"].as_str().unwrap().to_owned();
    let near = format!("{}{}", &id[..4], if id.as_bytes()[4] == b'0' { '1' } else { '0' });
    for (tool, arguments, expected) in [
        ("recall", json!({ "handle": near }), format!("the nearest are {}", &id[..12])),
        ("recall", json!({ "handle": "@ta" }), "the nearest are @tao".to_owned()),
        ("recall", json!({ "handle": "the plan" }), "names are written with @".to_owned()),
        ("recall", json!({ "handle": id, "start": 500 }), "which has 21 bytes".to_owned()),
        ("recall", json!({ "handle": id, "start": 16, "end": 17 }), "within one character".to_owned()),
        ("recall", json!({ "handle": id, "first_line": 9 }), "the document has 2 lines".to_owned()),
        ("recall", json!({ "handle": id, "first_line": 1, "start": 2 }), "either lines, or bytes".to_owned()),
        ("recall", json!({ "handle": id, "match": "hard as stone" }), "does not occur".to_owned()),
        ("recall", json!({ "handle": 7 }), "argument `handle`: invalid type".to_owned()),
        ("store", json!({}), "give `text`".to_owned()),
        ("store", json!({ "path": "/etc/passwd" }), "this server reads no files".to_owned()),
        ("store", json!({ "text": "a", "name": "b c" }), "contains ` `".to_owned()),
        ("find", json!({ "created_from": "yesterday" }), "write the time as".to_owned()),
        ("find", json!({ "query": "!?" }), "word".to_owned()),
        ("forget", json!({ "handle": "0000" }), "no document begins with `0000`".to_owned()),
    ] {
        let result = agent.call(tool, arguments.clone()).await.unwrap();
        assert!(result["isError"] == true && text_of(&result).contains(&expected), "{tool} {arguments}: {result}");
    }
    let unknown = agent.request("tools/call", json!({ "name": "delete_all" })).await.unwrap();
    assert!(unknown["error"]["message"].as_str().unwrap().contains("tools/list"), "{unknown}");
    let unknown = agent.request("resources/read", json!({ "uri": "c3://names/default/none" })).await.unwrap();
    assert_eq!(unknown["error"]["code"], -32002, "{unknown}");
    let name = agent.request("resources/read", json!({ "uri": "c3://names/default/tao?end=4" })).await.unwrap();
    assert_eq!(name["result"]["contents"][0]["text"], "Soft");
}

#[tokio::test]
async fn over_http_each_call_has_the_key_of_its_caller() {
    let access = Access::with_tenants(&["acme", "other"]).unwrap();
    let key = access.key("acme", &[Scope::Read, Scope::Write]).unwrap();
    let reader = access.key("acme", &[Scope::Read]).unwrap();
    let stranger = access.key("other", &Scope::ALL).unwrap();
    let path = access.path().display().to_string();
    let spec = ClusterSpec { api_key: Some(key.clone()), ..ClusterSpec::with_gateway_args(&["--access", &path]) };
    let cluster = spec.start().await.unwrap();
    let address = cluster.gateway.address();
    let call = async |key: Option<&str>, tool: &str, arguments: Value| {
        let params = json!({ "name": tool, "arguments": arguments });
        http_request(address, key, "tools/call", params).await.unwrap()
    };
    let (status, stored) = call(Some(&key), "store", json!({ "text": crate::page() })).await;
    assert_eq!(status, 200, "{stored}");
    let handle = &stored["result"]["structuredContent"]["handle"];
    let (_, recalled) = call(Some(&reader), "recall", json!({ "handle": handle })).await;
    assert_eq!(text_of(&recalled["result"]), crate::page());
    let id = stored["result"]["structuredContent"]["id"].as_str().unwrap();
    let uri = json!({ "uri": format!("c3://documents/{id}") });
    let (_, read) = http_request(address, Some(&reader), "resources/read", uri.clone()).await.unwrap();
    let result = &read["result"];
    assert_eq!(result["contents"][0]["text"], crate::page());
    assert!(result["ttlMs"].as_u64().unwrap() > 1_000_000_000 && result["cacheScope"] == "private", "{result}");
    let (_, tools) = http_request(address, Some(&reader), "tools/list", json!({})).await.unwrap();
    assert_eq!(tools["result"]["tools"].as_array().unwrap().len(), 5);

    for wrong in [None, Some("c3_0123456789_wrong")] {
        let (status, refused) = call(wrong, "recall", json!({ "handle": handle })).await;
        assert_eq!(status, 401, "{refused}");
    }
    let (_, refused) = call(Some(&reader), "store", json!({ "text": "a" })).await;
    assert!(text_of(&refused["result"]).contains("does not allow"), "{refused}");
    let (_, hidden) = call(Some(&stranger), "recall", json!({ "handle": handle })).await;
    let (_, absent) = call(Some(&stranger), "recall", json!({ "handle": "0123456789ab" })).await;
    let unnamed = |result: &Value, handle: &str| text_of(&result["result"]).replace(handle, "HANDLE");
    assert_eq!(unnamed(&hidden, handle.as_str().unwrap()), unnamed(&absent, "0123456789ab"));
    let (_, hidden) = http_request(address, Some(&stranger), "resources/read", uri).await.unwrap();
    assert!(hidden["error"]["message"].as_str().unwrap().contains("no document begins"), "{hidden}");
}
