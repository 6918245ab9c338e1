//! Requests that are small on the wire and would be large in memory, or that exceed a limit.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use c3_proto::pb;
use h2::client::SendRequest;
use prost::Message;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::cluster::ClusterSpec;
use crate::harness::quantity::Quantity;
use crate::harness::raw_http1::RawHttp1;
use crate::harness::raw_http2::grpc_frame;

/// Maximum size of a document of the gateway under test.
const DOCUMENT_BYTES_MAX: usize = 1 << 20;
/// Maximum growth of the gateway's peak memory while it refuses all bombs.
const GROWTH_MAX_MIB: f64 = 64.0;
/// Each bomb is sent this many times, so that memory per bomb would add up.
const ROUNDS: usize = 20;
const LIMIT: Duration = Duration::from_secs(20);
const PUT_LATENTS: &str = "/c3.v1.Gateway/PutLatents";
const STAT: &str = "/c3.v1.Gateway/Stat";
/// gRPC codes.
const INVALID_ARGUMENT: &str = "3";
const OUT_OF_RANGE: &str = "11";
const RESOURCE_EXHAUSTED: &str = "8";
const UNIMPLEMENTED: &str = "12";

/// Sends bombs; each must be refused with the right code, and the gateway's memory must stay flat.
pub(super) async fn bombs() -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::with_gateway_args(&["--document-size-max", &DOCUMENT_BYTES_MAX.to_string()]);
    let cluster = cluster.start().await?;
    let address = cluster.gateway.address();
    let mut quantities = Vec::new();
    let mut refused = |name: &str, statuses: Vec<String>, expected: &[&str]| {
        let ok = statuses.iter().all(|status| expected.contains(&status.as_str()));
        let seen = statuses.first().cloned().unwrap_or_default();
        quantities.push(Quantity::observed(format!("bombs-{name}"), seen, ok, expected.join(" or ")));
    };
    // Loads code and buffers that every request needs, before memory is measured.
    refused("small-request", http(address, "GET", "/v1/documents", &[], b"").await?, &["200"]);
    let before = cluster.gateway.peak_bytes()?;

    let large = "x".repeat(200_000);
    refused("header", http(address, "GET", "/v1/documents", &[("x-large", &large)], b"").await?, &["431", "closed"]);
    let many = vec![("x-many", "1"); 5000];
    refused("headers", http(address, "GET", "/v1/documents", &many, b"").await?, &["431", "closed"]);
    refused(
        "uri",
        http(address, "GET", &format!("/{}", "y".repeat(100_000)), &[], b"").await?,
        &["414", "431", "closed"],
    );
    let too_large = vec![b'x'; 2 * DOCUMENT_BYTES_MAX];
    refused("text", http(address, "POST", "/v1/documents", &[], &too_large).await?, &["413"]);
    for coding in ["gzip", "zstd", "br", "deflate"] {
        let status = http(address, "POST", "/v1/documents", &[("content-encoding", coding)], b"bomb").await?;
        refused(coding, status, &["415"]);
    }
    let json = [("content-type", "application/json")];
    let nested = vec![b'['; 1 << 20];
    refused("nested-json", http(address, "POST", "/v1/documents", &json, &nested).await?, &["400"]);
    let labels = format!("{{\"labels\": {{{}", "\"a\": \"b\",".repeat(100_000));
    refused("endless-json", http(address, "POST", "/v1/documents", &json, labels.as_bytes()).await?, &["400"]);
    let part = "--b\r\ncontent-disposition: form-data; name=label\r\n\r\na=b\r\n".repeat(10_000);
    let multipart = [("content-type", "multipart/form-data; boundary=b")];
    refused("multipart", http(address, "POST", "/v1/documents", &multipart, part.as_bytes()).await?, &["400"]);
    for (name, file) in tensors() {
        refused(name, http(address, "POST", "/v1/latents", &[], &file).await?, &["400", "413"]);
    }

    let window = pb::WindowLatents { end: 100, group: Some(absurd_group()), ..Default::default() };
    let part = Some(pb::put_latents_request::Part::Window(window));
    let window = grpc_frame(&pb::PutLatentsRequest { part }.encode_to_vec());
    refused("grpc-tensor", grpc(address, PUT_LATENTS, &[], &window).await?, &[INVALID_ARGUMENT]);
    // A message that claims to have 4 GiB.
    let claim = [&[0, 0xff, 0xff, 0xff, 0xff][..], &[0; 1000]].concat();
    refused("grpc-length", grpc(address, STAT, &[], &claim).await?, &[OUT_OF_RANGE, RESOURCE_EXHAUSTED]);
    let compressed = [&[1, 0, 0, 0, 4][..], b"bomb"].concat();
    refused("grpc-gzip", grpc(address, STAT, &[("grpc-encoding", "gzip")], &compressed).await?, &[UNIMPLEMENTED]);

    let growth = cluster.gateway.peak_bytes()?.saturating_sub(before) as f64 / f64::from(1 << 20);
    quantities.push(Quantity::at_most("bombs-memory-growth-mib", growth, GROWTH_MAX_MIB));
    let alive = RawHttp1::connect(address).await?.get("/v1/documents").await?.status;
    quantities.push(Quantity::equal("bombs-afterwards", alive, 200));
    Ok(quantities)
}

/// Sends a request [`ROUNDS`] times. Returns the statuses, or `closed` if the server closed the connection.
async fn http(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Vec<String>> {
    let mut statuses = Vec::new();
    for _ in 0..ROUNDS {
        let mut connection = RawHttp1::connect(address).await?;
        // The server may refuse the request before it has read all of it; the response counts then.
        let _ = timeout(LIMIT, connection.begin(method, path, headers, body)).await;
        let response = timeout(LIMIT, connection.head()).await?;
        statuses.push(response.map_or_else(|_| "closed".to_owned(), |response| response.status.to_string()));
    }
    Ok(statuses)
}

/// Makes a gRPC call [`ROUNDS`] times. Returns the codes.
async fn grpc(address: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Vec<String>> {
    let mut codes = Vec::new();
    for _ in 0..ROUNDS {
        let (client, connection) = h2::client::handshake(TcpStream::connect(address).await?).await?;
        let connection = tokio::spawn(connection);
        codes.push(timeout(LIMIT, grpc_call(client, path, headers, body)).await??);
        connection.abort();
    }
    Ok(codes)
}

/// Makes a gRPC call with this body. Returns its code.
async fn grpc_call(client: SendRequest<Bytes>, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<String> {
    let mut request = http::Request::post(format!("http://localhost{path}")).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (response, mut stream) = client.ready().await?.send_request(request.body(())?, false)?;
    // Fails if the server has already answered.
    let _ = stream.send_data(Bytes::copy_from_slice(body), true);
    let (head, mut body) = response.await?.into_parts();
    while let Some(data) = body.data().await {
        data?;
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    let code = head.headers.get("grpc-status").or_else(|| trailers.get("grpc-status"));
    Ok(code.context("no grpc-status")?.to_str()?.to_owned())
}

/// A group whose shape has 2^26 values and whose data has none.
fn absurd_group() -> pb::LatentGroup {
    pb::LatentGroup {
        latents: 1024,
        width: 65_536,
        codec: pb::LatentCodec::F32 as i32,
        tokens: 40,
        ratio: 20,
        checksum: blake3::hash(b"").as_bytes().to_vec().into(),
        compressor_fingerprint: vec![0; 32].into(),
        ..Default::default()
    }
}

/// Latents files with an absurd header or absurd values.
fn tensors() -> Vec<(&'static str, Vec<u8>)> {
    let hash = "0".repeat(64);
    let file = |latents: u64, width: u64, end: u64, data: &[u8]| {
        let record = json!({
            "shard": 0, "start": 0, "end": 100, "latents": latents, "width": width, "tokens": 40, "ratio": 20,
            "codec": "f32", "compressor": hash, "hash": hash,
        });
        let entry = json!({ "windows": [record] }).to_string();
        let tensor = json!({ "dtype": "F32", "shape": [latents, width], "data_offsets": [0, end] });
        let header = json!({ "__metadata__": { "c3.latents.2": entry }, "window.0": tensor }).to_string();
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    };
    let floats = |value: f32| Vec::from_iter([value; 64].iter().flat_map(|value| value.to_le_bytes()));
    vec![
        ("header-length", [&u64::MAX.to_le_bytes()[..], b"{}"].concat()),
        ("huge-tensor", file(1024, 65_536, 4 << 26, &[0; 100])),
        ("overflowing-tensor", file(1 << 32, 1 << 31, 4, &[0; 4])),
        ("nan", file(2, 32, 256, &floats(f32::NAN))),
        ("infinity", file(2, 32, 256, &floats(f32::INFINITY))),
        ("absurd-value", file(2, 32, 256, &floats(1e30))),
    ]
}

/// Sends a head of HTTP/1.1 without an end; returns true if the server closes the connection within `limit`.
pub(super) async fn closes_endless_head(address: &str, limit: Duration) -> Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n").await?;
    let closed = async {
        let mut buffer = [0; 1024];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    };
    Ok(timeout(limit, closed).await.is_ok())
}
