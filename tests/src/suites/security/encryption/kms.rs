//! A master key in AWS KMS, as `moto` simulates it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::content::Content;
use super::refusals::refusal;
use crate::harness::cluster::ClusterSpec;
use crate::harness::external::{self, ExternalServer};
use crate::harness::process::free_address;
use crate::harness::quantity::Quantity;

/// Uses a store whose keys KMS wraps, also after a restart and while KMS is down.
pub(super) async fn kms() -> Result<Vec<Quantity>> {
    let program = external::path_of("moto_server", "pip install 'moto[server]'")?;
    let address = free_address()?;
    let port = address.rsplit(':').next().context("no port")?.to_owned();
    let mut server = ExternalServer::start(&program, ["-H", "127.0.0.1", "-p", &port], address.clone()).await?;
    let key = create_key(&address).await?;
    let folder = TempDir::with_prefix("c3-kms-")?;
    let data = folder.path().join("data");
    let gateway_args = ["--master-key".to_owned(), format!("aws-kms:{key}")].to_vec();
    let env = [
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT_URL_KMS", format!("http://{address}")),
        ("AWS_ACCESS_KEY_ID", "key".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let data_url = Some(data.display().to_string());
    let cluster = ClusterSpec { gateway_args, env, data: data_url, ..ClusterSpec::default() }.start().await?;
    let content = Content::put(&cluster.api()?, 6000).await?;
    let cluster = cluster.restart().await?;
    let lost = content.lost(&cluster.api()?).await;
    let (traces, _) = content.traces_under(&[], &data)?;
    server.kill()?;
    let lost_without = content.lost(&cluster.api()?).await;
    let refused = refused_without_kms(&data, &key, &address).await?;
    Ok(vec![
        Quantity::equal("kms-lost", lost, 0),
        Quantity::equal("kms-traces", traces, Vec::new()),
        Quantity::equal("kms-down-lost", lost_without, 0),
        Quantity::observed(
            "kms-down-refusal",
            refused.clone(),
            refused.contains("key management service failed") && !refused.contains("secret"),
            "names the service",
        ),
    ])
}

async fn refused_without_kms(data: &Path, key: &str, address: &str) -> Result<String> {
    // `env` sets the variables, since `refusal` starts the gateway without any.
    let launch = crate::harness::process::Launch::new(crate::harness::process::Program::Gateway);
    let launch = launch.arg("--listen").arg("127.0.0.1:0").arg("--data").arg(data);
    let launch = launch.arg("--master-key").arg(format!("aws-kms:{key}")).arg("--log").arg("error");
    let launch = launch.env("AWS_REGION", "us-east-1").env("AWS_ENDPOINT_URL_KMS", format!("http://{address}"));
    let launch = launch.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
    let output = launch.output().await?;
    ensure!(!output.status.success(), "the gateway started");
    ensure!(refusal(data, &[]).await?.contains("--master-key"), "no refusal without a key");
    Ok(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// Creates a key and returns its id.
async fn create_key(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let scope = "Credential=key/20260101/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=0";
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: 2\r\n\
         X-Amz-Target: TrentService.CreateKey\r\nAuthorization: AWS4-HMAC-SHA256 {scope}\r\n\
         Connection: close\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    let body: Value = serde_json::from_str(body).with_context(|| answer.clone())?;
    body["KeyMetadata"]["KeyId"].as_str().map(str::to_owned).context("no key id")
}
