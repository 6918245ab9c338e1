//! Requests that must be refused with a problem, and pairs of gRPC codes and HTTP statuses.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use c3_client::DocumentId;
use c3_proto::pb;
use serde_json::json;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

use super::conformance::put;
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::quantity::Quantity;
use crate::harness::raw_http1::{RawHttp1, Response};
use crate::harness::wait::until;
use crate::suites::pipeline::requests::{SHARED_DIGITS, texts_with_one_prefix};

/// Maximum size of a document of the gateway under test.
const BYTES_MAX: usize = 100_000;
/// Maximum time in which a text that is too large must be refused, and an abandoned call must end.
const LIMIT: Duration = Duration::from_secs(10);
const JSON: (&str, &str) = ("content-type", "application/json");
const DOCUMENTS: &str = "/v1/documents";

/// A request that must be refused.
struct Wrong {
    name: &'static str,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    /// Expected status, kind of the problem, and parts of its JSON.
    status: u16,
    kind: &'static str,
    says: Vec<String>,
}

/// Sends requests with mistakes; each must be refused with a problem that names the mistake, and nothing may be stored.
pub async fn bad_input(text: &str) -> Result<Vec<Quantity>> {
    let args = ["--document-size-max", &BYTES_MAX.to_string()];
    let cluster = ClusterSpec::with_gateway_args(&args).start().await?;
    let prefixed = texts_with_one_prefix();
    for text in &prefixed {
        put(&cluster, text).await?;
    }
    let id = put(&cluster, text).await?;
    let mut connection = RawHttp1::connect(cluster.gateway.address()).await?;
    let page = connection.get("/v1/documents?limit=1").await?.json();
    let cursor = page["next_cursor"].as_str().context("no cursor")?.to_owned();
    let before = documents(&cluster).await?;
    let mut quantities = Vec::new();
    for wrong in wrongs(&prefixed, &id, &cursor) {
        let mut connection = RawHttp1::connect(cluster.gateway.address()).await?;
        let response = connection.send(wrong.method, &wrong.path, &wrong.headers, &wrong.body).await?;
        let seen = (response.status, response.problem());
        let shown = response.json().to_string();
        let ok = seen == (wrong.status, wrong.kind.to_owned()) && wrong.says.iter().all(|part| shown.contains(part));
        let bound = format!("{} {} with {:?}", wrong.status, wrong.kind, wrong.says);
        quantities.push(Quantity::observed(format!("bad-input-{}", wrong.name), shown, ok, bound));
    }
    quantities.push(declared_too_large(&cluster).await?);
    quantities.push(sent_too_large(&cluster).await?);
    quantities.extend(gone_callers(&cluster).await?);
    quantities.push(Quantity::equal("bad-input-stored", documents(&cluster).await?, before));
    Ok(quantities)
}

fn wrongs(prefixed: &[String; 2], id: &str, cursor: &str) -> Vec<Wrong> {
    let ids = prefixed.each_ref().map(|text| DocumentId::of(text.as_bytes()).to_string());
    let text_path = format!("{DOCUMENTS}/{id}/text");
    let wrong = |name, method, path: &str, headers: &[_], body: &[u8], status, kind, says: &[&str]| Wrong {
        name,
        method,
        path: path.to_owned(),
        headers: headers.to_vec(),
        body: body.to_vec(),
        status,
        kind,
        says: says.iter().map(ToString::to_string).collect(),
    };
    let invalid = |name, path: &str, headers: &[_], body: &[u8], says: &[&str]| {
        wrong(name, "POST", path, headers, body, 400, "invalid_argument", says)
    };
    let refused = |name, path: &str, says: &[&str]| wrong(name, "GET", path, &[], b"", 400, "invalid_argument", says);
    let multipart = [("content-type", "multipart/form-data; boundary=b")];
    let late = b"--b\r\ncontent-disposition: form-data; name=text\r\n\r\nx\r\n--b\r\ncontent-disposition: form-data; \
        name=ratio\r\n\r\n20\r\n--b--\r\n";
    let unsupported = "unsupported_media_type";
    vec![
        wrong(
            "content-type",
            "POST",
            DOCUMENTS,
            &[("content-type", "image/png")],
            b"x",
            415,
            unsupported,
            &["text/plain"],
        ),
        wrong(
            "charset",
            "POST",
            DOCUMENTS,
            &[("content-type", "text/plain; charset=latin1")],
            b"x",
            415,
            unsupported,
            &["UTF-8"],
        ),
        wrong(
            "coding",
            "POST",
            DOCUMENTS,
            &[("content-encoding", "gzip")],
            b"x",
            415,
            unsupported,
            &["content-encoding"],
        ),
        wrong("name-content-type", "PUT", "/v1/names/default/x", &[], b"{}", 415, unsupported, &["application/json"]),
        invalid("broken-json", DOCUMENTS, &[JSON], b"{\"text\": ", &["JSON", "line 1"]),
        invalid("json-without-text", DOCUMENTS, &[JSON], b"{\"ratio\": 20}", &["text", "must be given"]),
        invalid(
            "unknown-field",
            DOCUMENTS,
            &[JSON],
            b"{\"text\": \"x\", \"ration\": 20}",
            &["ration", "expected one of"],
        ),
        invalid("unknown-parameter", "/v1/documents?ration=20", &[], b"x", &["ration"]),
        invalid("empty-parameter", "/v1/documents?name=", &[], b"x", &["`name` is empty"]),
        invalid("options-twice", "/v1/documents?ratio=20", &[JSON], b"{\"text\": \"x\"}", &["query string"]),
        invalid("ratio", "/v1/documents?ratio=9999", &[], b"x", &["ratio", "80"]),
        invalid("name", "/v1/documents?name=a%20b", &[], b"x", &["name"]),
        invalid("declared-size", "/v1/documents?bytes=7", &[], b"x", &["bytes"]),
        invalid("multipart-without-text", DOCUMENTS, &multipart, b"--b--\r\n", &["no part `text`"]),
        invalid("multipart-late-option", DOCUMENTS, &multipart, late, &["last part"]),
        invalid("not-utf-8", DOCUMENTS, &[], b"abc\xffdef", &["byte 3"]),
        invalid("half-a-character", DOCUMENTS, &[], b"abc\xc3", &["byte 3"]),
        invalid("not-safetensors", "/v1/latents", &[], b"not a safetensors file at all", &["latents"]),
        refused("id", "/v1/documents/no-id", &["no-id", "64 hexadecimal digits"]),
        refused(
            "ambiguous-id",
            &format!("{DOCUMENTS}/{}", &ids[0][..SHARED_DIGITS]),
            &["candidates", &ids[0], &ids[1]],
        ),
        refused("other-cursor", &format!("{DOCUMENTS}?limit=1&label=a=b&cursor={cursor}"), &["other filters"]),
        refused("cursor", &format!("{DOCUMENTS}?cursor=1"), &["next_cursor"]),
        refused("limit", &format!("{DOCUMENTS}?limit=0"), &["limit", "1000"]),
        refused("time", &format!("{DOCUMENTS}?created_from=yesterday"), &["created_from"]),
        refused("lines", &format!("{text_path}?lines=3-1"), &["lines"]),
        wrong("timeout", "GET", &text_path, &[("request-timeout", "soon")], b"", 400, "invalid_argument", &["250ms"]),
        wrong(
            "unknown-id",
            "GET",
            &format!("{DOCUMENTS}/{}", "0".repeat(64)),
            &[],
            b"",
            404,
            "not_found",
            &["no document"],
        ),
        wrong("unknown-path", "GET", "/v1/documentz", &[], b"", 404, "not_found", &["/docs"]),
        wrong("method", "POST", &text_path, &[], b"", 405, "method_not_allowed", &["allow"]),
        wrong("range", "GET", &text_path, &[("range", "bytes=999999-")], b"", 416, "out_of_range", &["\"bytes\":"]),
        wrong("line", "GET", &format!("{text_path}?lines=9999"), &[], b"", 416, "out_of_range", &["\"lines\":"]),
        wrong(
            "recode-labels",
            "POST",
            &format!("{DOCUMENTS}/{id}/recode"),
            &[JSON],
            b"{\"labels\": {}}",
            400,
            "invalid_argument",
            &["labels"],
        ),
    ]
}

/// Declares a text that is too large and sends none of it.
async fn declared_too_large(cluster: &Cluster) -> Result<Quantity> {
    let mut connection = RawHttp1::connect(cluster.gateway.address()).await?;
    let begun = Instant::now();
    let length = (BYTES_MAX + 1).to_string();
    let headers = [("content-length", length.as_str()), ("expect", "100-continue")];
    connection.begin("PUT", DOCUMENTS, &headers, b"").await?;
    let response = connection.response("PUT").await?;
    let ok = response.problem() == "too_large" && response.json()["bytes_max"] == BYTES_MAX && begun.elapsed() < LIMIT;
    Ok(Quantity::observed("bad-input-declared-too-large", response.json(), ok, "413 before the text is sent"))
}

/// Sends a text that is too large in chunks.
async fn sent_too_large(cluster: &Cluster) -> Result<Quantity> {
    let mut connection = RawHttp1::connect(cluster.gateway.address()).await?;
    connection.begin("PUT", DOCUMENTS, &[("transfer-encoding", "chunked")], b"").await?;
    for _ in 0..=BYTES_MAX / 1000 {
        connection.write_chunk(&[b'x'; 1000]).await?;
    }
    let response = connection.response("PUT").await?;
    let ok = response.problem() == "too_large";
    Ok(Quantity::observed("bad-input-sent-too-large", response.json(), ok, "413"))
}

/// Leaves in the middle of a put, in the middle of its head, and before the response to a read; the calls must end.
async fn gone_callers(cluster: &Cluster) -> Result<Vec<Quantity>> {
    let address = cluster.gateway.address();
    let mut half = RawHttp1::connect(address).await?;
    half.begin("PUT", DOCUMENTS, &[("content-length", "5000")], b"half of a text").await?;
    let mut chunked = RawHttp1::connect(address).await?;
    chunked.begin("PUT", DOCUMENTS, &[("transfer-encoding", "chunked")], b"").await?;
    chunked.write_chunk(b"some text").await?;
    let mut events = RawHttp1::connect(address).await?;
    let headers = [("accept", "text/event-stream"), ("transfer-encoding", "chunked")];
    events.begin("PUT", DOCUMENTS, &headers, b"").await?;
    let in_flight = async || calls_in_flight(cluster).await;
    let begun = until("calls to be in flight", LIMIT, async || (in_flight().await.ok()? >= 3.0).then_some(())).await;
    drop((half, chunked, events));
    let ended = until("calls of gone callers to end", LIMIT, async || (in_flight().await.ok()? == 0.0).then_some(()));
    let ended = ended.await;
    Ok(vec![
        Quantity::holds("bad-input-calls-begun", begun.is_ok(), "are in flight"),
        Quantity::holds("bad-input-gone-callers", ended.is_ok(), "their calls end"),
    ])
}

async fn calls_in_flight(cluster: &Cluster) -> Result<f64> {
    let metrics = cluster.gateway.metrics().await?;
    let line = metrics.lines().find(|line| line.starts_with("c3_calls_in_flight{") && line.contains("gateway"));
    Ok(line.and_then(|line| line.rsplit(' ').next()).context("no metric")?.parse()?)
}

async fn documents(cluster: &Cluster) -> Result<Vec<String>> {
    let mut connection = RawHttp1::connect(cluster.gateway.address()).await?;
    let page = connection.get(DOCUMENTS).await?.json();
    let documents = page["documents"].as_array().context("no list")?;
    Ok(documents.iter().map(|document| document["id"].to_string()).collect())
}

/// Causes each kind of error over gRPC and over HTTP; code and status must be those of the table of error kinds.
pub async fn error_pairs(text: &str) -> Result<Vec<Quantity>> {
    let args = ["--document-size-max", &BYTES_MAX.to_string()];
    let cluster = ClusterSpec::with_gateway_args(&args).start().await?;
    let api = cluster.api()?;
    let id = put(&cluster, text).await?;
    let mut quantities = Vec::new();
    let mut pair = |kind: &str, grpc: Option<Status>, http: Response, expected: (Code, u16)| {
        let seen = (grpc.as_ref().map_or(Code::Ok, Status::code), http.status);
        let ok = seen == expected && http.problem() == kind;
        let shown = format!("{:?}, {} {}", seen.0, seen.1, http.problem());
        quantities.push(Quantity::observed(format!("error-pair-{kind}"), shown, ok, format!("{expected:?}")));
    };
    let mut http = RawHttp1::connect(cluster.gateway.address()).await?;
    let text_path = format!("{DOCUMENTS}/{id}/text");

    let grpc = api.put(b"\xff", pb::WriteOptions::default()).await.err();
    pair("invalid_argument", grpc, http.send("PUT", DOCUMENTS, &[], b"\xff").await?, (Code::InvalidArgument, 400));
    let grpc = api.stat("@none").await.err();
    pair("not_found", grpc, http.get("/v1/documents/@none").await?, (Code::NotFound, 404));
    let grpc = api.get_range(&id, 1_000_000..1_000_001).await.err();
    let range = http.send("GET", &text_path, &[("range", "bytes=1000000-1000000")], b"").await?;
    pair("out_of_range", grpc, range, (Code::OutOfRange, 416));
    let large = "x".repeat(BYTES_MAX + 1);
    let grpc = api.put(large.as_bytes(), pb::WriteOptions::default()).await.err();
    let mut other = RawHttp1::connect(cluster.gateway.address()).await?;
    let chunked = [("content-length", "100001")];
    other.begin("PUT", DOCUMENTS, &chunked, b"").await?;
    pair("too_large", grpc, other.response("PUT").await?, (Code::InvalidArgument, 413));
    let named =
        pb::SetNameRequest { name: "n".into(), id: id.clone(), expected: Some("0".into()), ..Default::default() };
    let grpc = api.stub().set_name(named).await.err();
    let headers = [JSON, ("if-match", "\"0\"")];
    let body = json!({ "id": id }).to_string();
    let set = http.send("PUT", "/v1/names/default/n", &headers, body.as_bytes()).await?;
    pair("precondition_failed", grpc, set, (Code::Aborted, 412));
    let windows = api.windows(&id).await?;
    let prompt = pb::DecompressOptions { prompt: Some("Why?".into()), ..Default::default() };
    let grpc = api.decompress(windows, prompt).await.err();
    let latents = http.get(&format!("{DOCUMENTS}/{id}/latents")).await?.body;
    let answer = http.send("POST", "/v1/decompress?prompt=Why", &[], &latents).await?;
    pair("wrong_model", grpc, answer, (Code::FailedPrecondition, 409));
    let mut foreign = Request::new(pb::StatRequest { id: id.clone() });
    foreign.metadata_mut().insert("origin", MetadataValue::from_static("https://evil.example"));
    let grpc = api.stub().stat(foreign).await.err();
    let origin = http.send("GET", &text_path, &[("origin", "https://evil.example")], b"").await?;
    pair("permission_denied", grpc, origin, (Code::PermissionDenied, 403));

    // A gRPC client would report its own timeout, so the call is sent by hand.
    let mut grpc = RawHttp1::connect(cluster.gateway.address()).await?;
    let headers = [("content-type", "application/grpc"), ("grpc-timeout", "50m"), ("content-length", "9")];
    grpc.begin("POST", "/c3.v1.Gateway/PutDocument", &headers, b"").await?;
    let code = grpc.response("POST").await?.header("grpc-status").parse::<i32>()?;
    let grpc = Some(Status::new(Code::from_i32(code), ""));
    let mut late = RawHttp1::connect(cluster.gateway.address()).await?;
    late.begin("PUT", DOCUMENTS, &[("request-timeout", "50ms"), ("content-length", "9")], b"").await?;
    pair("deadline_exceeded", grpc, late.response("PUT").await?, (Code::DeadlineExceeded, 504));

    let limited = ClusterSpec::with_gateway_args(&["--calls-max", "1"]).start().await?;
    let mut busy = RawHttp1::connect(limited.gateway.address()).await?;
    busy.begin("PUT", DOCUMENTS, &[("content-length", "9")], b"").await?;
    until("the call to begin", LIMIT, async || (calls_in_flight(&limited).await.ok()? >= 1.0).then_some(())).await?;
    let grpc = limited.api()?.stat("@none").await.err();
    let refused = RawHttp1::connect(limited.gateway.address()).await?.get(DOCUMENTS).await?;
    let names_time = refused.header("retry-after") == "1";
    pair("overloaded", grpc, refused, (Code::ResourceExhausted, 429));

    let args = ["--node-wait", "100ms"];
    let lonely = ClusterSpec { compressors: 1, decoders: 1, ..ClusterSpec::with_gateway_args(&args) }.start().await?;
    let mut lonely = lonely;
    lonely.node(0).kill()?;
    lonely.node(1).kill()?;
    let grpc = until("the nodes to be gone", LIMIT, async || {
        lonely.api().ok()?.put(b"a text", pb::WriteOptions::default()).await.err()
    });
    let grpc = grpc.await?;
    let mut http = RawHttp1::connect(lonely.gateway.address()).await?;
    pair("unavailable", Some(grpc), http.send("PUT", DOCUMENTS, &[], b"a text").await?, (Code::Unavailable, 503));

    for file in cluster.objects()? {
        let mut bytes = fs::read(&file)?;
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        fs::write(&file, bytes)?;
    }
    let mut cluster = cluster;
    cluster.restart_gateway().await?;
    let grpc = cluster.api()?.get(&id).await.err();
    let damaged = RawHttp1::connect(cluster.gateway.address()).await?.get(&text_path).await?;
    pair("data_loss", grpc, damaged, (Code::DataLoss, 500));
    quantities.push(Quantity::holds("error-pair-retry-after", names_time, "names the time to retry"));
    Ok(quantities)
}
