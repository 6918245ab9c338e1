//! Requests of web pages: what a page of another origin may do, and ranges and conditions through a browser's fetch.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::conformance::{CASES, put};
use crate::harness::browser::browser;
use crate::harness::cluster::ClusterSpec;
use crate::harness::quantity::Quantity;
use crate::harness::raw_http1::{RawHttp1, Response};

/// Maximum time of the browser.
const BROWSER_LIMIT: Duration = Duration::from_secs(60);
const EVIL: &str = "https://evil.example";

/// Sends requests as a browser does for a page of another origin, and for one after DNS rebinding; they must be
/// refused, unless the gateway is configured for the page.
pub async fn pages(text: &str) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let id = put(&cluster, text).await?;
    let path = format!("/v1/documents/{id}/text");
    let port = cluster.gateway.address().rsplit(':').next().context("no port")?;
    let mut quantities = Vec::new();
    let mut refused = |name: &str, response: &Response| {
        let is_open = response.headers.keys().any(|name| name.starts_with("access-control"));
        let seen = format!("{} {}", response.status, response.problem());
        let ok = response.status == 403 && response.problem() == "permission_denied" && !is_open;
        quantities.push(Quantity::observed(format!("web-pages-{name}"), seen, ok, "403, no CORS headers"));
    };
    let send = async |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        RawHttp1::connect(cluster.gateway.address()).await?.send(method, path, headers, body).await
    };
    let rebound = format!("evil.example:{port}");
    let rebound_origin = format!("http://{rebound}");
    refused("origin-get", &send("GET", &path, &[("origin", EVIL)], b"").await?);
    let simple = [("origin", EVIL), ("content-type", "text/plain")];
    refused("origin-simple-post", &send("POST", "/v1/documents", &simple, b"text").await?);
    let preflight = [("origin", EVIL), ("access-control-request-method", "DELETE")];
    refused("origin-preflight", &send("OPTIONS", &path, &preflight, b"").await?);
    refused("origin-null", &send("GET", &path, &[("origin", "null")], b"").await?);
    refused("rebound-get", &send("GET", &path, &[("host", &rebound)], b"").await?);
    let both = [("host", rebound.as_str()), ("origin", rebound_origin.as_str())];
    refused("rebound-post", &send("POST", "/v1/documents", &both, b"text").await?);
    for path in ["/metrics", "/readyz", "/openapi.json", "/docs"] {
        refused(&format!("rebound{path}"), &send("GET", path, &[("host", &rebound)], b"").await?);
    }
    let own = send("GET", &path, &[("host", &format!("localhost:{port}"))], b"").await?;
    quantities.push(Quantity::equal("web-pages-localhost", own.status, 200));

    let args = ["--allowed-hosts", "evil.example", "--cors-origins", EVIL];
    let open = ClusterSpec::with_gateway_args(&args).start().await?;
    let mut connection = RawHttp1::connect(open.gateway.address()).await?;
    let headers = [("host", "evil.example"), ("origin", EVIL), ("access-control-request-method", "PUT")];
    let preflight = connection.send("OPTIONS", "/v1/documents", &headers, b"").await?;
    let allowed = preflight.header("access-control-allow-origin") == EVIL
        && preflight.header("access-control-allow-methods").contains("PUT");
    quantities.push(Quantity::holds("web-pages-configured", preflight.status == 200 && allowed, "allows the origin"));
    Ok(quantities)
}

/// Runs the cases of the measurement `conformance` with `fetch` in a browser, on a page of an allowed origin.
pub async fn fetch(text: &str) -> Result<Vec<Quantity>> {
    let bound = "all cases as RFC 9110 says";
    let Some(browser) = browser() else {
        return Ok(vec![Quantity::skipped("fetch-faults", "browser (apt-get install chromium)", bound)]);
    };
    let page = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", page.local_addr()?);
    let cluster = ClusterSpec::with_gateway_args(&["--cors-origins", &origin]).start().await?;
    let id = put(&cluster, text).await?;
    let url = format!("{}/v1/documents/{id}/text", cluster.gateway.url());
    let cases: Vec<Value> = CASES
        .iter()
        .map(|case| {
            let fill = |value: &str| value.replace("ID", &id).replace("SIZE", &text.len().to_string());
            let headers = Vec::from_iter(case.headers.iter().map(|(name, value)| (*name, fill(value))));
            json!({ "method": case.method, "headers": headers, "status": case.status, "body": case.body })
        })
        .collect();
    let script = PAGE.replace("URL", &json!(url).to_string()).replace("CASES", &json!(cases).to_string());
    let script = script.replace("TEXT", &json!(text).to_string().replace("</", "<\\/"));
    let (results, mut received) = mpsc::channel(1);
    let server = tokio::spawn(serve_page(page, script, results));
    let profile = TempDir::with_prefix("c3-browser-")?;
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
    command.arg(format!("--user-data-dir={}", profile.path().display())).arg(&origin);
    let _browser = Browser(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let result = timeout(BROWSER_LIMIT, received.recv()).await.context("the browser reports nothing")?;
    server.abort();
    let result: Value = serde_json::from_str(&result.context("no result")?)?;
    Ok(vec![
        Quantity::at_least("fetch-cases", result["cases"].as_f64().unwrap_or(0.0), 40.0),
        Quantity::equal("fetch-faults", result["faults"].clone(), json!([])),
    ])
}

/// A browser that is killed on drop.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Page that fetches every case, and sends the faults to the server of the page. A browser handles 304 itself if it has
/// the text in its cache, so the cache is not used.
const PAGE: &str = r"<!doctype html><script>
const [url, cases, text] = [URL, CASES, new TextEncoder().encode(TEXT)];
const run = async () => {
  const faults = [];
  for (const one of cases) {
    const seen = JSON.stringify([one.method, one.headers]);
    try {
      const response = await fetch(url, { method: one.method, headers: one.headers, cache: 'no-store' });
      const body = new Uint8Array(await response.arrayBuffer());
      if (response.status !== one.status) faults.push(`${seen}: status ${response.status}`);
      if (response.status < 300 && one.status < 300) {
        let [start, end] = one.body ?? [0, text.length];
        if (start < 0) start += text.length;
        const wanted = text.slice(start, Math.min(end, text.length));
        if (body.length !== wanted.length || body.some((byte, at) => byte !== wanted[at])) faults.push(`${seen}: body`);
        if (!response.headers.get('etag')) faults.push(`${seen}: no etag`);
      }
    } catch (error) { faults.push(`${seen}: ${error}`); }
  }
  await fetch('/result', { method: 'POST', body: JSON.stringify({ cases: cases.length, faults }) });
};
run();
</script>";

/// Serves the page, and passes on the result that it posts.
async fn serve_page(listener: TcpListener, page: String, results: mpsc::Sender<String>) -> Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let (page, results) = (page.clone(), results.clone());
        tokio::spawn(async move {
            let mut request = Vec::new();
            loop {
                let mut buffer = [0; 65536];
                let count = stream.read(&mut buffer).await?;
                request.extend_from_slice(&buffer[..count]);
                let text = String::from_utf8_lossy(&request).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else {
                    if count == 0 {
                        return Ok(());
                    }
                    continue;
                };
                let lengths = head.lines().filter_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
                });
                let length: usize = lengths.sum();
                if head.starts_with("POST") && body.len() < length && count > 0 {
                    continue;
                }
                if head.starts_with("POST") {
                    let _ = results.send(body.to_owned()).await;
                }
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: {}\r\n\r\n\
                     {page}",
                    page.len()
                );
                stream.write_all(answer.as_bytes()).await?;
                return Ok::<_, anyhow::Error>(());
            }
        });
    }
}
