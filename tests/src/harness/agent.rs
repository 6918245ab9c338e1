//! An agent that speaks MCP in raw JSON messages, so that tests may also send wrong ones.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::harness::process::{Launch, Program};
use crate::harness::raw_http1::{RawHttp1, Response};

/// Version of MCP without sessions.
pub const STATELESS: &str = "2026-07-28";
/// Newest version of MCP with a handshake.
pub const WITH_SESSIONS: &str = "2025-11-25";
/// Lines of the program that wait to be read.
const LINES_MAX: usize = 1024;
/// Maximum time of an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A connection to `c3 mcp` over its standard input and output.
#[derive(Debug)]
pub struct StdioAgent {
    process: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
    last_id: u64,
}

impl StdioAgent {
    /// Starts `c3 mcp` with these arguments, and does not wait.
    pub fn start(args: &[&str]) -> Result<Self> {
        let launch = Launch::new(Program::C3).arg("mcp").args(args);
        let mut process = launch.command()?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (process.stdin.take(), process.stdout.take().context("no standard output")?);
        let (lines, received) = mpsc::channel(LINES_MAX);
        thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| lines.blocking_send(line))
        });
        Ok(Self { process, input, output: received, last_id: 0 })
    }

    /// Starts `c3 mcp` and makes the handshake of [`WITH_SESSIONS`].
    pub async fn initialized(args: &[&str]) -> Result<Self> {
        let mut agent = Self::start(args)?;
        let client = json!({ "name": "tests", "version": "1" });
        let hello = json!({ "protocolVersion": WITH_SESSIONS, "capabilities": {}, "clientInfo": client });
        let answer = agent.request("initialize", hello).await?;
        anyhow::ensure!(answer["result"]["protocolVersion"] == WITH_SESSIONS, "{answer}");
        agent.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await?;
        Ok(agent)
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &Value) -> Result<()> {
        self.write(format!("{message}\n").into_bytes()).await
    }

    /// Sends bytes as they are.
    pub async fn write(&mut self, bytes: Vec<u8>) -> Result<()> {
        let mut input = self.input.take().context("the input was closed")?;
        let written = spawn_blocking(move || input.write_all(&bytes).and_then(|()| input.flush()).map(|()| input));
        self.input = Some(written.await??);
        Ok(())
    }

    /// Sends a request and returns its id.
    pub async fn begin(&mut self, method: &str, params: Value) -> Result<u64> {
        self.last_id += 1;
        let id = self.last_id;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await?;
        Ok(id)
    }

    /// Waits for the answer to a request. Skips all other messages.
    pub async fn answer(&mut self, id: u64) -> Result<Value> {
        self.message(|message| message["id"] == id).await
    }

    /// Waits for a notification of this kind. Skips all other messages.
    pub async fn notification(&mut self, method: &str) -> Result<Value> {
        self.message(|message| message["method"] == method).await
    }

    async fn message(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        loop {
            let line = timeout(ANSWER_LIMIT, self.output.recv()).await.context("no answer in time")?;
            let message: Value = serde_json::from_str(&line.context("c3 mcp ended")?)?;
            if is_wanted(&message) {
                return Ok(message);
            }
        }
    }

    /// Sends a request and returns its answer, with `result` or `error`.
    pub async fn request(&mut self, method: &str, params: Value) -> Result<Value> {
        let id = self.begin(method, params).await?;
        self.answer(id).await
    }

    /// Calls a tool and returns its result.
    pub async fn call(&mut self, tool: &str, arguments: Value) -> Result<Value> {
        let answer = self.request("tools/call", json!({ "name": tool, "arguments": arguments })).await?;
        answer.get("result").cloned().with_context(|| answer.to_string())
    }

    /// Closes standard input and waits until the program ends.
    pub async fn end(mut self) -> Result<ExitStatus> {
        self.input = None;
        // The channel closes when the program closes its output.
        let ended = async { while self.output.recv().await.is_some() {} };
        timeout(ANSWER_LIMIT, ended).await.context("c3 mcp does not end")?;
        Ok(self.process.wait()?)
    }
}

impl Drop for StdioAgent {
    fn drop(&mut self) {
        // Fails if the process has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends a request without a session to `/mcp` of the gateway at `address`, with an API key if there is one. Returns
/// the status, and the answer with `result` or `error`.
pub async fn http_request(address: &str, key: Option<&str>, method: &str, params: Value) -> Result<(u16, Value)> {
    let (mut params, name) = (params.clone(), params["name"].as_str().or(params["uri"].as_str()).map(str::to_owned));
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": STATELESS,
        "io.modelcontextprotocol/clientInfo": { "name": "tests", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let authorization = key.map(|key| format!("Bearer {key}"));
    let mut headers = vec![
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", STATELESS),
        ("mcp-method", method),
    ];
    headers.extend(name.as_deref().map(|name| ("mcp-name", name)));
    headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
    let mut connection = RawHttp1::connect(address).await?;
    let response = connection.send("POST", "/mcp", &headers, body.as_bytes()).await?;
    Ok((response.status, last_message(&response)?))
}

/// Returns the last JSON message of a response: its body, or its last event.
fn last_message(response: &Response) -> Result<Value> {
    if !response.header("content-type").starts_with("text/event-stream") {
        return Ok(response.json());
    }
    let events = String::from_utf8(response.body.clone())?;
    let mut data = events.lines().filter_map(|line| line.strip_prefix("data:").map(str::trim));
    match data.rfind(|data| !data.is_empty()) {
        Some(last) => Ok(serde_json::from_str(last)?),
        None => bail!("the response has no event: {events}"),
    }
}

/// Returns the text of a tool's result, or of its error.
pub fn text_of(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_default()
}
