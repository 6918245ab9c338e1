//! The server over standard input and output, one JSON message a line.

use std::io;

use rmcp::model::{ErrorData, RequestId};
use rmcp::service::{RxJsonRpcMessage, ServerInitializeError, TxJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::{RoleServer, ServiceExt};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::mpsc;

use crate::server::McpServer;

/// Maximum bytes of a message.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Refused messages that wait for their answers.
const REFUSALS_MAX: usize = 16;
/// Bytes of messages between standard input and the protocol.
const BUFFER_BYTES: usize = 64 << 10;

/// Serves one client until it closes standard input.
pub async fn serve_stdio(server: McpServer) -> io::Result<()> {
    serve(server, BufReader::new(tokio::io::stdin()), tokio::io::stdout()).await
}

async fn serve(
    server: McpServer,
    input: impl AsyncBufRead + Send + Unpin + 'static,
    output: impl AsyncWrite + Send + Unpin + 'static,
) -> io::Result<()> {
    let (lines, read) = tokio::io::duplex(BUFFER_BYTES);
    let (refused, refusals) = mpsc::channel(REFUSALS_MAX);
    let transport = Stdio { inner: AsyncRwTransport::new_server(read, output), refusals };
    tokio::spawn(forward(input, lines, refused));
    let running = match server.serve(transport).await {
        Ok(running) => running,
        // The client closed the input before its first message, as some do to probe a command.
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(io::Error::other(error)),
    };
    running.waiting().await.map_err(io::Error::other)?;
    Ok(())
}

/// Passes on lines of at most [`MESSAGE_BYTES_MAX`] bytes. Of longer ones, only the request ids are reported, so that
/// the client gets an error instead of waiting.
async fn forward(
    mut input: impl AsyncBufRead + Unpin,
    mut lines: DuplexStream,
    refused: mpsc::Sender<RequestId>,
) -> io::Result<()> {
    let (mut line, mut id, mut is_long) = (Vec::new(), IdScanner::default(), false);
    loop {
        let available = input.fill_buf().await?;
        if available.is_empty() {
            return Ok(());
        }
        let end = available.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let piece = &available[..end.unwrap_or(available.len())];
        id.scan(piece);
        is_long |= line.len() + piece.len() > MESSAGE_BYTES_MAX;
        match is_long {
            true => line = Vec::new(),
            false => line.extend_from_slice(piece),
        }
        let read = piece.len();
        input.consume(read);
        if end.is_some() {
            match (is_long, std::mem::take(&mut id).id()) {
                (false, _) => lines.write_all(&line).await?,
                // Ends with the transport.
                (true, Some(id)) => drop(refused.send(id).await),
                (true, None) => tracing::warn!("ignored a message of over {MESSAGE_BYTES_MAX} bytes without an id"),
            }
            line.clear();
            is_long = false;
        }
    }
}

/// Transport that also answers requests that are too long.
struct Stdio<W: AsyncWrite> {
    inner: AsyncRwTransport<RoleServer, DuplexStream, W>,
    refusals: mpsc::Receiver<RequestId>,
}

impl<W: AsyncWrite + Send + Unpin + 'static> Transport<RoleServer> for Stdio<W> {
    type Error = io::Error;

    fn send(&mut self, item: TxJsonRpcMessage<RoleServer>) -> impl Future<Output = io::Result<()>> + Send + 'static {
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            let id = tokio::select! {
                message = self.inner.receive() => return message,
                Some(id) = self.refusals.recv() => id,
            };
            let problem = format!(
                "the message has over {} MiB: store a file with `path`, or use `c3 put`",
                MESSAGE_BYTES_MAX >> 20
            );
            let error = TxJsonRpcMessage::<RoleServer>::error(ErrorData::invalid_params(problem, None), Some(id));
            // Detached, since `receive` may be dropped at any point.
            tokio::spawn(self.inner.send(error));
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.inner.close().await
    }
}

/// Finds the value of the key `id` at the top level of a JSON object, piece by piece and without keeping the object.
#[derive(Debug, Default)]
struct IdScanner {
    depth: u32,
    in_string: bool,
    is_escaped: bool,
    /// Bytes of the current token at the top level, up to [`ID_BYTES_MAX`].
    token: Vec<u8>,
    /// Last string at the top level that a colon follows.
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// Maximum bytes of an id. Longer ones are not recognised.
const ID_BYTES_MAX: usize = 256;

impl IdScanner {
    fn scan(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let is_syntax = !self.in_string;
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' | b'[' if is_syntax => self.depth += 1,
                _ => {}
            }
            match byte {
                b':' if is_syntax && self.depth == 1 => self.key = std::mem::take(&mut self.token),
                b',' | b'}' if is_syntax && self.depth == 1 => {
                    let value = std::mem::take(&mut self.token);
                    if std::mem::take(&mut self.key) == b"\"id\"" {
                        self.value = Some(value);
                    }
                }
                b' ' | b'\t' | b'\r' | b'\n' | b'{' if is_syntax => {}
                _ if self.depth == 1 && self.token.len() < ID_BYTES_MAX => self.token.push(byte),
                _ => {}
            }
            if is_syntax && matches!(byte, b'}' | b']') {
                self.depth = self.depth.saturating_sub(1);
            }
        }
    }

    fn id(self) -> Option<RequestId> {
        serde_json::from_slice(&self.value?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_wherever_it_is() {
        let id = |json: &str| {
            let mut scanner = IdScanner::default();
            json.as_bytes().chunks(5).for_each(|piece| scanner.scan(piece));
            scanner.id().map(|id| id.to_string())
        };
        for (json, expected) in [
            (r#"{"jsonrpc":"2.0","id":7,"method":"x","params":{"id":1}}"#, Some("7")),
            (
                r#"{"method":"x","params":{"id":"no","a":["id",{"id":3}],"t":"a\",\"id\":4,{"},"id" : "ab" }"#,
                Some("ab"),
            ),
            (r#"{"params":[1,2],"jsonrpc":"2.0","id":12}"#, Some("12")),
            (r#"{"method":"notifications/x","params":{"id":5}}"#, None),
            (r#"["id",7]"#, None),
        ] {
            assert_eq!(id(json).as_deref(), expected, "{json}");
        }
    }

    #[tokio::test]
    async fn a_long_message_is_refused_and_the_next_one_is_passed_on() {
        let long = format!(r#"{{"id":7,"text":"{}"}}"#, "x".repeat(MESSAGE_BYTES_MAX));
        let input = format!("{{\"id\":1}}\n{long}\n{{\"id\":2}}\n");
        let (lines, mut read) = tokio::io::duplex(BUFFER_BYTES);
        let (refused, mut refusals) = mpsc::channel(REFUSALS_MAX);
        forward(BufReader::new(io::Cursor::new(input)), lines, refused).await.unwrap();
        let mut passed = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut read, &mut passed).await.unwrap();
        assert_eq!(passed, "{\"id\":1}\n{\"id\":2}\n");
        assert_eq!(refusals.recv().await.unwrap().to_string(), "7");
        assert!(refusals.recv().await.is_none());
    }
}
