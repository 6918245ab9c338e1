//! Connections that TLS refuses. Each refusal must be explained to the client and in the log of the server.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::version::TLS12;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::harness::certificates::Certificates;
use crate::harness::process::{Launch, Process, Program, free_address};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;

/// Maximum time until a refusal is logged or answered.
const LIMIT: Duration = Duration::from_secs(10);
/// Begin and end of a ClientHello of TLS 1.1. 32 random bytes are between them. It has no session, two cipher suites
/// and no compression.
const HELLO_1_1: [&[u8]; 2] = [&[0x16, 3, 1, 0, 47, 1, 0, 0, 43, 3, 2], &[0, 0, 4, 0xc0, 0x13, 0xc0, 0x14, 1, 0]];
/// Alert descriptions `handshake_failure` and `protocol_version`.
const REFUSALS: [u8; 2] = [40, 70];

/// Flags of a call of `c3`, and the explanations of its failure.
struct Case<'a> {
    name: &'a str,
    url: String,
    flags: Vec<String>,
    client: &'a str,
    /// `None` if the server cannot tell the reason.
    server: Option<&'a str>,
}

/// Connects to gateways with wrong certificates, names, versions and protocols.
pub(super) async fn refusals() -> Result<Vec<Quantity>> {
    let (certificates, foreign) = (Certificates::init().await?, Certificates::init().await?);
    certificates.issue("client", "late-client", "1s").await?;
    certificates.issue("gateway", "late-gateway", "1s").await?;
    let folder = TempDir::with_prefix("c3-tls-")?;
    let launch = |certificate: &str| {
        let data = folder.path().join("data");
        let launch = Launch::new(Program::Gateway).args(certificates.flags(certificate)).arg("--data").arg(data);
        launch.args(["--tls-client", "required"])
    };
    let client = certificates.credentials("client")?;
    let gateway = launch("gateway").over_tls(client.clone()).serve(folder.path()).await?;
    // Listens on all addresses, for which the certificate is not valid. With mTLS, that needs no --insecure.
    let address = free_address()?;
    let everywhere = format!("0.0.0.0:{}", port(&address));
    let open = launch("gateway").over_tls(client).arg("--listen").arg(everywhere);
    let mut open = open.spawn(folder.path(), address).await?;
    open.ready().await?;
    let address = free_address()?;
    let late = launch("late-gateway").arg("--listen").arg(&address).spawn(folder.path(), address.clone()).await?;
    wait_for_line(&late, "the certificate has expired").await?;
    // Verifiers compare whole seconds, so the certificates are accepted for up to a second longer.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let plain = Launch::new(Program::Gateway).arg("--data").arg(folder.path().join("data"));
    let plain = plain.serve(folder.path()).await?;

    let ca = |certificates: &Certificates| vec!["--tls-ca".to_owned(), certificates.ca()];
    let ours = certificates.flags("client");
    let cases = [
        (
            &gateway,
            Case {
                name: "wrong-ca-of-server",
                url: gateway.url(),
                flags: [certificates.flags_without_ca("client"), ca(&foreign)].concat(),
                client: "no trusted CA signed the certificate",
                server: Some("the client refused this server's certificate (UnknownCA)"),
            },
        ),
        (
            &gateway,
            Case {
                name: "wrong-ca-of-client",
                url: gateway.url(),
                flags: [foreign.flags_without_ca("client"), ca(&certificates)].concat(),
                client: "is not one of its CAs",
                server: Some("no CA of --tls-ca signed the client's certificate"),
            },
        ),
        (
            &gateway,
            Case {
                name: "expired-client",
                url: gateway.url(),
                flags: certificates.flags("late-client"),
                client: "the certificate in --tls-cert has expired",
                server: Some("the client's certificate has expired"),
            },
        ),
        (
            &gateway,
            Case {
                name: "no-client-certificate",
                url: gateway.url(),
                flags: ca(&certificates),
                client: "it requires a certificate: give --tls-cert and --tls-key",
                server: Some("the client has no certificate"),
            },
        ),
        (
            &gateway,
            Case {
                name: "plain-text-grpc",
                url: format!("http://{}", gateway.address()),
                flags: Vec::new(),
                client: "this port speaks TLS: use https://",
                server: Some("it speaks plain text, but this port speaks TLS"),
            },
        ),
        (
            &open,
            Case {
                name: "wrong-name",
                url: format!("https://127.0.0.2:{}", port(open.address())),
                flags: ours.clone(),
                client: "not for `127.0.0.2`",
                server: Some("the client refused this server's certificate"),
            },
        ),
        (
            &late,
            Case {
                name: "expired-server",
                url: format!("https://{}", late.address()),
                flags: ours.clone(),
                client: "has expired: issue a new one",
                server: Some("the client refused this server's certificate (CertificateExpired)"),
            },
        ),
        (
            &plain,
            Case {
                name: "tls-to-plain-text",
                url: format!("https://{}", plain.address()),
                flags: ours.clone(),
                client: "the server speaks plain text on this port: use http://",
                // The server sees a malformed HTTP request.
                server: None,
            },
        ),
    ];
    let mut quantities = Vec::new();
    for (server, case) in &cases {
        quantities.extend(refused(server, case).await?);
    }
    // The right certificates are accepted after all that.
    let accepted = c3(&gateway.url(), &ours).await?;
    quantities.push(Quantity::equal("tls-accepted-client", accepted, String::new()));

    let answer = plain_http(&gateway).await?;
    let is_told = answer.starts_with("HTTP/1.1 400") && answer.contains("this port speaks TLS: use https://");
    quantities.push(Quantity::observed("tls-plain-text-http", answer, is_told, "400, names https://"));

    let alert = old_hello(&gateway).await?;
    let is_refused = alert.first() == Some(&0x15) && alert.last().is_some_and(|alert| REFUSALS.contains(alert));
    quantities.push(Quantity::observed("tls-1.1-alert", alert, is_refused, "alert 40 or 70"));
    let logged = wait_for_line(&gateway, "the client supports no version or cipher of TLS").await.is_ok();
    quantities.push(Quantity::holds("tls-1.1-logged", logged, "logged"));
    quantities.push(version_1_2(&certificates, &gateway, false).await?);
    let lenient = Launch::new(Program::Gateway).args(certificates.flags("gateway")).args(["--tls-min", "1.2"]);
    let lenient = lenient.arg("--data").arg(folder.path().join("data"));
    let lenient = lenient.over_tls(certificates.credentials("client")?);
    let lenient = lenient.serve(folder.path()).await?;
    quantities.push(version_1_2(&certificates, &lenient, true).await?);
    Ok(quantities)
}

async fn refused(server: &Process, case: &Case<'_>) -> Result<Vec<Quantity>> {
    let before = server.log().len();
    let error = c3(&case.url, &case.flags).await?;
    let is_one_line = error.trim().lines().count() == 1;
    let explained = error.contains(case.client) && is_one_line;
    let client = Quantity::observed(format!("tls-{}-client", case.name), error, explained, "refused, with the reason");
    let Some(line) = case.server else { return Ok(vec![client]) };
    let logged = until("the refusal to be logged", LIMIT, async || {
        let log = server.log();
        log[before.min(log.len())..].contains(line).then_some(())
    });
    let server = Quantity::holds(format!("tls-{}-server", case.name), logged.await.is_ok(), "logged, with the reason");
    Ok(vec![client, server])
}

/// Lists the nodes of a gateway with `c3`. Returns the printed error, or nothing if there was none.
async fn c3(url: &str, flags: &[String]) -> Result<String> {
    let output = Launch::new(Program::C3).args(["--gateway", url]).args(flags).arg("nodes").output().await?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(if output.status.success() { String::new() } else { error })
}

async fn wait_for_line(server: &Process, line: &str) -> Result<()> {
    until(line, LIMIT, async || server.log().contains(line).then_some(())).await
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap_or_default()
}

/// Sends an HTTP request in plain text and returns the answer.
async fn plain_http(server: &Process) -> Result<String> {
    let mut connection = TcpStream::connect(server.address()).await?;
    connection.write_all(b"GET /v1/documents HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
    let mut answer = String::new();
    timeout(LIMIT, connection.read_to_string(&mut answer)).await??;
    Ok(answer)
}

/// Sends the ClientHello of TLS 1.1 and returns the answer.
async fn old_hello(server: &Process) -> Result<Vec<u8>> {
    let mut connection = TcpStream::connect(server.address()).await?;
    connection.write_all(&[HELLO_1_1[0], &[7; 32], HELLO_1_1[1]].concat()).await?;
    let mut answer = Vec::new();
    timeout(LIMIT, connection.read_to_end(&mut answer)).await??;
    Ok(answer)
}

/// Connects with TLS 1.2 alone.
async fn version_1_2(certificates: &Certificates, server: &Process, accepted: bool) -> Result<Quantity> {
    let mut roots = RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(certificates.path("ca.pem"))?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_protocol_versions(&[&TLS12])?.with_root_certificates(roots).with_no_client_auth();
    let connection = TcpStream::connect(server.address()).await?;
    let connected = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost")?, connection).await;
    let name = if accepted { "tls-1.2-if-allowed" } else { "tls-1.2-by-default" };
    let seen = connected.map_or_else(|error| error.to_string(), |_| "connected".to_owned());
    let (expected, bound) = if accepted { ("connected", "connected") } else { ("ProtocolVersion", "ProtocolVersion") };
    let ok = seen.contains(expected);
    Ok(Quantity::observed(name, seen, ok, bound))
}
