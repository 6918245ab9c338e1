//! Behaviour of servers: limits of connections, descriptors and stalled responses, stopping, and reflection.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use c3_proto::pb;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
use tonic_reflection::pb::v1::{server_reflection_request, server_reflection_response};

use crate::harness::cluster::ClusterSpec;
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::process::{Launch, Program, free_address};
use crate::harness::quantity::Quantity;
use crate::harness::raw_http2::RawHttp2;
use crate::harness::wait::until;

/// Names of the measurements in this module.
pub const ROWS: &[&str] = &[
    "cancelled-at-once",
    "unread-responses",
    "few-descriptors",
    "stop-without-calls",
    "long-messages",
    "grpc-surface",
];

const GET_TEXT: &str = "/c3.v1.Gateway/GetText";
const STAT: &str = "/c3.v1.Gateway/Stat";
/// Maximum time to wait for something that should take seconds.
const LIMIT: Duration = Duration::from_secs(30);
/// Length of the documents that are read.
const DOCUMENT_BYTES: usize = 4_000;

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str) -> Result<Vec<Quantity>> {
    match row {
        "cancelled-at-once" => cancelled_at_once().await,
        "unread-responses" => unread_responses().await,
        "few-descriptors" => few_descriptors().await,
        "stop-without-calls" => stop_without_calls().await,
        "long-messages" => long_messages().await,
        "grpc-surface" => grpc_surface().await,
        row => bail!("no measurement is named `{row}`"),
    }
}

/// Stores a document and returns its id and text.
async fn stored(api: &GatewayApi) -> Result<(String, String)> {
    let text = "Nothing in the world is as soft as water. ".repeat(DOCUMENT_BYTES / 42);
    let put = api.put_at(text.as_bytes(), 20).await?;
    Ok((id_of(&put.document.context("no document")?), text))
}

fn get_text(id: &str) -> pb::GetTextRequest {
    pb::GetTextRequest { id: id.to_owned(), start: None, end: None }
}

/// Returns the text of a response to `GetText`.
fn text_of(responses: Vec<pb::GetTextResponse>) -> String {
    let texts = responses.into_iter().filter_map(|response| match response.part {
        Some(pb::get_text_response::Part::Text(text)) => Some(text.to_vec()),
        _ => None,
    });
    String::from_utf8_lossy(&texts.flatten().collect::<Vec<_>>()).into_owned()
}

/// Cancels 200 calls at the moment they begin, on the connection of a read; the connection must stay open, and the read
/// must get its text.
async fn cancelled_at_once() -> Result<Vec<Quantity>> {
    const CALLS: usize = 200;
    let cluster = ClusterSpec::default().start().await?;
    let (id, text) = stored(&cluster.api()?).await?;
    let mut connection = RawHttp2::connect(cluster.gateway.address()).await?;
    let read = connection.begin(GET_TEXT, &get_text(&id));
    for _ in 0..CALLS {
        let call = connection.begin(STAT, &pb::StatRequest { id: id.clone() });
        connection.cancel(call);
    }
    connection.send().await?;
    let received = connection.receive(|responses| responses.get(&read).is_some_and(|response| response.ended)).await;
    let error = received.err().map(|error| error.to_string());
    let got = connection.responses.get(&read).map(|response| response.messages()).transpose()?.map(text_of);
    Ok(vec![
        Quantity::equal("cancelled-at-once-connection-lost", error, None),
        Quantity::holds("cancelled-at-once-other-read", got == Some(text), "gets its text"),
    ])
}

/// Begins more reads than the gateway admits, on a connection that never makes room for the responses; other
/// connections must be served, and the stalled responses must lose their permits and be ended. A call holds a permit
/// while it counts towards the maximum number of concurrent calls.
async fn unread_responses() -> Result<Vec<Quantity>> {
    const CALLS: usize = 1024;
    const STALL_MS: u64 = 2_000;
    /// Number of calls that a second connection can make only once stalled responses have lost their permits. Until
    /// then, the first connection holds at least three quarters of the 1,024 permits, and a connection may hold at most
    /// three times as many permits as are free.
    const MORE_CALLS: usize = 400;
    let env = vec![("C3_RESPONSE_STALL".to_owned(), format!("{STALL_MS}ms"))];
    let cluster = ClusterSpec { env, ..ClusterSpec::default() }.start().await?;
    let api = cluster.api()?;
    let (id, text) = stored(&api).await?;
    let mut unread = RawHttp2::connect(cluster.gateway.address()).await?;
    let admitted = begin_reads(&mut unread, &id, CALLS).await?;
    let began = Instant::now();

    let others = cluster.api()?;
    let mut failures = BTreeSet::new();
    for _ in 0..5 {
        match others.get(&id).await {
            Ok(got) if got.text == text.as_bytes() => {}
            Ok(_) => _ = failures.insert("another text".to_owned()),
            Err(status) => _ = failures.insert(status.to_string()),
        }
    }
    let places_back = until("the places of stalled responses", LIMIT, async || {
        let mut more = RawHttp2::connect(cluster.gateway.address()).await.ok()?;
        (begin_reads(&mut more, &id, MORE_CALLS).await.ok()? == MORE_CALLS).then(|| began.elapsed())
    });
    let places_back = places_back.await?.as_secs_f64();
    let all_ended = unread.receive(|responses| responses.values().all(|one| one.refused || one.ended || one.reset));
    let ended = timeout(LIMIT, all_ended).await.is_ok_and(|received| received.is_ok());
    let still_serves = others.get(&id).await.is_ok_and(|got| got.text == text.as_bytes());
    Ok(vec![
        // Three quarters of the calls, and those whose responses end because they fit into the connection's
        // flow-control window.
        Quantity::at_most("unread-responses-admitted", admitted as f64, CALLS as f64 * 0.8),
        Quantity::equal("unread-responses-failures-of-others", Vec::from_iter(failures), Vec::new()),
        // The gateway ends stalled responses only after ten times the setting. The permits must be free before that.
        Quantity::at_most("unread-responses-places-back-seconds", places_back, STALL_MS as f64 / 1000.0 * 8.0),
        Quantity::holds("unread-responses-ended", ended, "every stalled response is reset"),
        Quantity::holds("unread-responses-afterwards", still_serves, "a read succeeds"),
    ])
}

/// Begins `calls` reads and waits until each is admitted or refused. Returns the number of admitted reads.
async fn begin_reads(connection: &mut RawHttp2, id: &str, calls: usize) -> Result<usize> {
    for _ in 0..calls {
        // Sends only a prefix of the id, because all requests together must fit into the server's flow-control window.
        connection.begin(GET_TEXT, &get_text(&id[..16]));
    }
    connection.send().await?;
    connection.receive(|responses| responses.len() == calls).await?;
    Ok(connection.responses.values().filter(|response| !response.refused).count())
}

/// Opens more idle connections than the gateway may have descriptors; calls may only succeed or fail with
/// RESOURCE_EXHAUSTED, and a new client must be served within 20 seconds. A gateway must also raise its soft limit of
/// descriptors to the hard limit.
async fn few_descriptors() -> Result<Vec<Quantity>> {
    const IDLE: usize = 100;
    const WATCHED: Duration = Duration::from_secs(1);
    let limited = |limit: &str| ClusterSpec {
        gateway_wrapper: ["sh", "-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")].map(str::to_owned).to_vec(),
        ..ClusterSpec::default()
    };
    let cluster = limited("-n 64").start().await?;
    let open = cluster.api()?;
    let (id, text) = stored(&open).await?;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(TcpStream::connect(cluster.gateway.address()).await?);
    }
    let begun = Instant::now();
    let mut wrong_codes = Vec::new();
    let mut call = |result: Result<(), Status>| match result.map_err(|status| status.code()) {
        Ok(()) | Err(Code::ResourceExhausted) => {}
        Err(code) => wrong_codes.push(format!("{code:?}")),
    };
    let before = cluster.gateway.cpu_seconds()?;
    while begun.elapsed() < WATCHED {
        let text = format!("{:?}: {text}", begun.elapsed());
        call(open.put_at(text.as_bytes(), 20).await.map(drop));
        call(open.get(&id).await.map(drop));
        sleep(WATCHED / 10).await;
    }
    let new_client = until("a new client", LIMIT, async || {
        let api = cluster.api().ok()?;
        let got = timeout(LIMIT, api.get(&id)).await.ok()?.ok()?;
        (got.text == text.as_bytes()).then(|| begun.elapsed())
    });
    let served = new_client.await?.as_secs_f64();
    let cpu = (cluster.gateway.cpu_seconds()? - before) / begun.elapsed().as_secs_f64();
    let warnings = cluster.gateway.log().matches("cannot accept connections").count();
    drop(idle);

    let soft = limited("-S -n 64").start().await?;
    let limits = fs::read_to_string(format!("/proc/{}/limits", soft.gateway.id()))?;
    let files = limits.lines().find(|line| line.starts_with("Max open files")).context("no limit")?;
    let [soft_limit, hard_limit] = [3, 4].map(|column| files.split_whitespace().nth(column).unwrap_or_default());
    Ok(vec![
        Quantity::equal("few-descriptors-codes", wrong_codes, Vec::new()),
        Quantity::at_most("few-descriptors-new-client-seconds", served, 20.0),
        Quantity::at_most("few-descriptors-cpu-share", cpu, 0.5),
        Quantity::equal("few-descriptors-warnings", warnings, 1),
        Quantity::equal("few-descriptors-soft-limit", soft_limit.to_owned(), hard_limit.to_owned()),
    ])
}

/// Stops a gateway while one peer acknowledges nothing and another has sent half a request; it must end within 5
/// seconds.
async fn stop_without_calls() -> Result<Vec<Quantity>> {
    let mut cluster = ClusterSpec::default().start().await?;
    let (id, _) = stored(&cluster.api()?).await?;
    let mut silent = RawHttp2::connect(cluster.gateway.address()).await?;
    silent.call::<pb::StatResponse>(STAT, &pb::StatRequest { id }).await?;
    let mut half = TcpStream::connect(cluster.gateway.address()).await?;
    half.write_all(b"GET /metrics HTT").await?;
    let began = Instant::now();
    cluster.gateway.terminate().await?;
    let seconds = began.elapsed().as_secs_f64();
    let claims = cluster.gateway.log().contains("cutting off");
    Ok(vec![
        Quantity::at_most("stop-without-calls-seconds", seconds, 5.0),
        Quantity::holds("stop-without-calls-log", !claims, "does not claim that calls were cut off"),
    ])
}

/// Provokes errors about a very long name and about very many nodes; the messages must have at most 2,048 bytes and
/// still say what is wrong.
async fn long_messages() -> Result<Vec<Quantity>> {
    const DEAD: u16 = 300;
    const FIRST_PORT: u16 = 20_001;
    let cluster = ClusterSpec::default().start().await?;
    let options = pb::WriteOptions { cascade: "x".repeat(20_000), ..Default::default() };
    let unknown = cluster.api()?.put(b"text", options).await.err().context("an unknown cascade is accepted")?;

    let folder = TempDir::with_prefix("c3-dead-")?;
    let compressor = cluster.compressors.first().context("no compressor")?;
    let mut gateway = Launch::new(Program::Gateway).env("C3_NODE_WAIT_MS", "200");
    gateway = gateway.arg("--data").arg(folder.path().join("data")).arg("--compressor").arg(compressor.url());
    for port in FIRST_PORT..FIRST_PORT + DEAD {
        gateway = gateway.arg("--decoder").arg(format!("http://127.0.0.1:{port}"));
    }
    let gateway = gateway.serve(folder.path()).await?;
    let dead = GatewayApi::to(&gateway)?.put_at(b"text", 20).await.err().context("a put without a decoder succeeds")?;
    let told = |status: &Status| format!("{:?}, {} bytes", status.code(), status.message().len());
    let is = |status: &Status, code: Code, end: &str| {
        status.code() == code && status.message().contains(end) && status.message().len() <= 2048
    };
    Ok(vec![
        Quantity::observed(
            "long-messages-unknown-cascade",
            told(&unknown),
            is(&unknown, Code::InvalidArgument, "choose one of"),
            "INVALID_ARGUMENT that lists the cascades",
        ),
        Quantity::observed(
            "long-messages-dead-decoders",
            told(&dead),
            is(&dead, Code::Unavailable, "295 more"),
            "UNAVAILABLE that counts the decoders",
        ),
    ])
}

/// Uses a gateway like a gRPC tool; reflection must list the services, ids must be readable in JSON, and the gateway
/// must listen on an address with a host name.
async fn grpc_surface() -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let (id, _) = stored(&api).await?;
    let mut quantities = Vec::new();
    let expected = [
        "c3.v1.Gateway",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ];
    for version in ["v1", "v1alpha"] {
        let listed = services(cluster.gateway.address(), version).await.unwrap_or_else(|error| vec![error.to_string()]);
        quantities.push(Quantity::equal(
            format!("grpc-surface-{version}"),
            listed,
            expected.map(str::to_owned).to_vec(),
        ));
    }
    quantities.push(Quantity::equal("grpc-surface-hex-id", api.stat(&id).await?.hex_id, id));

    let folder = TempDir::with_prefix("c3-localhost-")?;
    let address = free_address()?;
    let listen = address.replace("127.0.0.1", "localhost");
    let gateway = Launch::new(Program::Gateway).arg("--data").arg(folder.path().join("data"));
    let mut gateway = gateway.arg("--listen").arg(listen).spawn(folder.path(), address).await?;
    let error = gateway.ready().await.err().map(|error| format!("{error:#}"));
    quantities.push(Quantity::equal("grpc-surface-listen-on-a-name", error, None));
    Ok(quantities)
}

/// Lists the services of a server with the reflection protocol of this version, `v1` or `v1alpha`. The messages of both
/// versions are the same.
async fn services(address: &str, version: &str) -> Result<Vec<String>> {
    use server_reflection_request::MessageRequest;
    use server_reflection_response::MessageResponse;
    let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request };
    let responses = RawHttp2::connect(address).await?.call::<ServerReflectionResponse>(&path, &request).await?;
    let services = responses.into_iter().filter_map(|response| match response.message_response {
        Some(MessageResponse::ListServicesResponse(listed)) => Some(listed.service),
        _ => None,
    });
    let mut names = Vec::from_iter(services.flatten().map(|service| service.name));
    names.sort_unstable();
    Ok(names)
}
