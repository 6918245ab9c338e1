//! A client of HTTP/1.1 that sends exactly what a test says, also if it is wrong.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A connection, which is kept alive.
#[derive(Debug)]
pub struct RawHttp1 {
    address: String,
    stream: BufReader<TcpStream>,
}

/// A response.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header fields, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: Vec<u8>,
}

impl RawHttp1 {
    /// Connects to `HOST:PORT`.
    pub async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { address: address.to_owned(), stream: BufReader::new(stream) })
    }

    /// Sends a request with these header fields and waits for the response. Adds `host`, and `content-length` if there
    /// is a body, unless the headers have them.
    pub async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response> {
        self.begin(method, path, headers, body).await?;
        self.response(method).await
    }

    /// Sends a GET request without further header fields.
    pub async fn get(&mut self, path: &str) -> Result<Response> {
        self.send("GET", path, &[], b"").await
    }

    /// Sends a request and does not wait for the response.
    pub async fn begin(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<()> {
        let has = |name: &str| headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !has("host") {
            head += &format!("host: {}\r\n", self.address);
        }
        let is_framed = has("content-length") || has("transfer-encoding");
        if !is_framed && (!body.is_empty() || matches!(method, "PUT" | "POST" | "PATCH")) {
            head += &format!("content-length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        self.write(&[head.as_bytes(), b"\r\n", body].concat()).await
    }

    /// Sends bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(bytes).await?)
    }

    /// Sends a chunk of a chunked body; an empty one ends the body.
    pub async fn write_chunk(&mut self, chunk: &[u8]) -> Result<()> {
        let head = format!("{:x}\r\n", chunk.len());
        self.write(&[head.as_bytes(), chunk, b"\r\n"].concat()).await
    }

    /// Reads up to `bytes` bytes of what the server sends.
    pub async fn read_some(&mut self, bytes: usize) -> Result<usize> {
        let mut buffer = vec![0; bytes];
        Ok(self.stream.read(&mut buffer).await?)
    }

    /// Reads the response to a request with this method. Fails if the connection ends within the body.
    pub async fn response(&mut self, method: &str) -> Result<Response> {
        let mut response = self.head().await?;
        let length = response.headers.get("content-length").map(|length| length.parse::<usize>()).transpose()?;
        let has_body = method != "HEAD" && response.status != 304 && response.status != 204;
        if has_body && response.headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            loop {
                let chunk = self.line().await?;
                let size = usize::from_str_radix(chunk.trim(), 16).context("a chunk has no size")?;
                let mut data = vec![0; size + 2];
                self.stream.read_exact(&mut data).await?;
                response.body.extend_from_slice(&data[..size]);
                if size == 0 {
                    return Ok(response);
                }
            }
        } else if has_body && let Some(length) = length {
            response.body = vec![0; length];
            self.stream.read_exact(&mut response.body).await.context("the body ends too early")?;
        } else if has_body {
            self.stream.read_to_end(&mut response.body).await?;
        }
        Ok(response)
    }

    /// Reads the head of a response, after that of an interim response such as 100.
    pub async fn head(&mut self) -> Result<Response> {
        loop {
            let status_line = self.line().await?;
            let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
            let mut response = Response { status: status.context("no status line")?, ..Response::default() };
            loop {
                let line = self.line().await?;
                if line.is_empty() {
                    break;
                }
                let Some((name, value)) = line.split_once(':') else { bail!("malformed header `{line}`") };
                response.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
            if response.status >= 200 {
                return Ok(response);
            }
        }
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line).await? > 0, "the connection was closed");
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

impl Response {
    /// Returns a header field; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Returns the body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the kind of a problem; empty if the body is none.
    pub fn problem(&self) -> String {
        let json = self.json();
        let is_problem = self.header("content-type") == "application/problem+json" && json["status"] == self.status;
        let kind = json["type"].as_str().and_then(|uri| uri.strip_prefix("urn:c3serve:problem:"));
        kind.filter(|_| is_problem && !json["detail"].as_str().unwrap_or_default().is_empty())
            .unwrap_or_default()
            .to_owned()
    }
}
