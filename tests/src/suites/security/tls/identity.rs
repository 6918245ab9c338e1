//! Identities between the roles: who may call a node, and who may announce one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use c3_proto::pb::decoder_client::DecoderClient;
use c3_proto::pb::{DescribeRequest, NodeState};
use tempfile::TempDir;
use tonic::Code;

use crate::harness::certificates::Certificates;
use crate::harness::cluster::ClusterSpec;
use crate::harness::fixtures;
use crate::harness::gateway_api::GatewayApi;
use crate::harness::process::{Launch, Process, Program, free_address};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;

/// Maximum time until a node is ready or its refusal is visible.
const LIMIT: Duration = Duration::from_secs(40);

/// Calls a node with the certificates of all roles; only gateways may. A gateway without certificate must say why its
/// node is unreachable, and a node without mTLS must not listen beyond this machine.
pub(super) async fn identity() -> Result<Vec<Quantity>> {
    let certificates = Certificates::init().await?;
    let folder = TempDir::with_prefix("c3-identity-")?;
    let node = node(Program::DecoderNode).args(certificates.flags("node"));
    let node = node.over_tls(certificates.credentials("gateway")?).serve(folder.path()).await?;
    let mut quantities = Vec::new();
    for (role, expected) in [("gateway", None), ("client", Some("c3-client")), ("node", Some("c3-node"))] {
        let channel = node.channel_as(&certificates.credentials(role)?)?;
        let called = DecoderClient::new(channel).describe(DescribeRequest {}).await;
        let name = format!("tls-node-called-by-{role}");
        quantities.push(match (called, expected) {
            (Ok(_), None) => Quantity::equal(name, "accepted", "accepted"),
            (Ok(_), Some(_)) => Quantity::equal(name, "accepted", "refused"),
            (Err(status), expected) => {
                let names_san = expected.is_some_and(|san| status.message().contains(san));
                let ok = names_san && status.code() == Code::PermissionDenied;
                Quantity::observed(name, status.message(), ok, "PERMISSION_DENIED that names the SAN")
            }
        });
    }
    let logged = until("the refusal to be logged", LIMIT, async || node.log().contains("c3-client").then_some(()));
    quantities.push(Quantity::holds("tls-node-logs-foreign-caller", logged.await.is_ok(), "logged, with the SAN"));

    // A gateway that verifies its node, but has no certificate itself.
    let gateway = Launch::new(Program::Gateway).args(["--tls-ca", &certificates.ca(), "--decoder", &node.url()]);
    let gateway = gateway.arg("--data").arg(folder.path().join("data")).serve(folder.path()).await?;
    let api = GatewayApi::to(&gateway)?;
    let problem = until("the gateway to see the problem", LIMIT, async || {
        let nodes = api.nodes().await.ok()?;
        let decoder = nodes.into_iter().find(|seen| seen.address == node.url())?;
        decoder.problem.contains("requires a certificate").then_some(decoder.problem)
    });
    let problem = problem.await.unwrap_or_else(|error| error.to_string());
    let ok = problem.contains("--tls-cert");
    quantities.push(Quantity::observed("tls-gateway-without-certificate", problem, ok, "the node's problem says so"));

    let exposed = self::node(Program::DecoderNode).args(["--listen", "0.0.0.0:0"]).output().await?;
    let error = String::from_utf8_lossy(&exposed.stderr).into_owned();
    let ok = !exposed.status.success() && error.contains("--insecure") && error.contains("--tls-cert");
    quantities.push(Quantity::observed("tls-exposed-node", error, ok, "refused, with the remedies"));
    Ok(quantities)
}

/// Lets nodes announce themselves with their own certificate, with a certificate for another address, with none, and
/// for a plain-text address.
pub(super) async fn announcement() -> Result<Vec<Quantity>> {
    let certificates = Certificates::init().await?;
    let folder = TempDir::with_prefix("c3-announced-")?;
    let gateway = Launch::new(Program::Gateway).args(certificates.flags("gateway")).arg("--accept-nodes");
    let gateway = gateway.arg("--data").arg(folder.path().join("data"));
    let gateway = gateway.over_tls(certificates.credentials("client")?).serve(folder.path()).await?;
    let api = GatewayApi::to(&gateway)?;
    let start = async |flags: Vec<String>, as_address: String| -> Result<Process> {
        let announces = ["--announce-to".to_owned(), gateway.url(), "--advertise-as".to_owned(), as_address];
        let address = free_address()?;
        let launch = node(Program::DecoderNode).args(flags).args(announces).arg("--listen").arg(&address);
        launch.spawn(folder.path(), address).await
    };
    let (own, foreign, none, plain) = (free_address()?, "127.0.0.2:7302", free_address()?, free_address()?);
    let mut quantities = Vec::new();
    let ca_alone = vec!["--tls-ca".to_owned(), certificates.ca()];
    let cases = [
        ("foreign-address", certificates.flags("node"), format!("https://{foreign}"), "not for `127.0.0.2`"),
        ("no-certificate", ca_alone, format!("https://{none}"), "it presented no certificate"),
        ("plain-text-address", certificates.flags("node"), format!("http://{plain}"), "announce an https:// address"),
    ];
    for (name, flags, address, reason) in cases {
        let node = start(flags, address.clone()).await?;
        // The gateway logs one refusal in ten seconds; the node logs its own.
        let logged = until("the refusal to be logged", LIMIT, async || {
            let node_log = node.log();
            (node_log.contains("cannot announce") && node_log.contains(reason) && gateway.log().contains(reason))
                .then_some(())
        });
        let ok = logged.await.is_ok() && api.nodes().await?.is_empty();
        quantities.push(Quantity::holds(format!("tls-announced-{name}"), ok, "refused, with the reason in both logs"));
    }
    let node = node(Program::DecoderNode).args(certificates.flags("node")).args(["--listen", &own]);
    let announces = ["--announce-to".to_owned(), gateway.url(), "--advertise-as".to_owned(), format!("https://{own}")];
    let _node = node.args(announces).spawn(folder.path(), own.clone()).await?;
    let ready = until("the node to be ready", LIMIT, async || {
        let nodes = api.nodes().await.ok()?;
        nodes.iter().any(|node| node.address.contains(&own) && node.state() == NodeState::Ready).then_some(())
    });
    quantities.push(Quantity::holds("tls-announced-own-address", ready.await.is_ok(), "accepted"));
    Ok(quantities)
}

/// Stores and reads a text through gateways and nodes that all authenticate each other.
pub(super) async fn roundtrip(text: &str) -> Result<Vec<Quantity>> {
    let certificates = Arc::new(Certificates::init().await?);
    let spec = ClusterSpec {
        certificates: Some(Arc::clone(&certificates)),
        gateway_args: vec!["--tls-client".to_owned(), "required".to_owned()],
        ..ClusterSpec::default()
    };
    let cluster = spec.start().await?;
    let folder = TempDir::with_prefix("c3-roundtrip-")?;
    let file = folder.path().join("book.txt");
    std::fs::write(&file, text)?;
    let c3 = |args: &[&str]| {
        let launch = Launch::new(Program::C3).args(["--gateway", &cluster.gateway.url()]);
        launch.args(certificates.flags("client")).args(args.iter().copied())
    };
    let put = c3(&["put", &file.display().to_string(), "--name", "book"]).output().await?;
    ensure!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    let got = c3(&["get", "@book"]).output().await?;
    let over_http = cluster.gateway.http_get("/v1/documents/@book/text").await?;
    let body = over_http.split_once("\r\n\r\n").context("no body")?.1;
    let urls = [0, 1].map(|number| cluster.address(number).to_owned());
    Ok(vec![
        Quantity::holds("tls-roundtrip-grpc", got.stdout == text.as_bytes(), "identical"),
        Quantity::holds("tls-roundtrip-http", body.contains(&text[..text.floor_char_boundary(100)]), "the same text"),
        Quantity::holds("tls-roundtrip-nodes", urls.iter().all(|url| url.starts_with("https://")), "over TLS"),
    ])
}

fn node(program: Program) -> Launch {
    Launch::new(program).arg("--model").arg(fixtures::default_model())
}
