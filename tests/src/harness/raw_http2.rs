//! An HTTP/2 client that sends only the frames that a test asks for: no window updates and no acknowledgements.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const CONTINUATION: u8 = 9;
/// Length of a frame's head.
const HEAD_BYTES: usize = 9;
/// Length of the head of a gRPC message. The head is a compression flag and the length of the message.
const MESSAGE_HEAD_BYTES: usize = 5;
const CANCEL: u32 = 8;

/// A connection on which gRPC calls can be begun, cancelled and left unread.
#[derive(Debug)]
pub struct RawHttp2 {
    stream: TcpStream,
    next_id: u32,
    /// Frames that [`RawHttp2::send`] will send.
    out: Vec<u8>,
    /// Responses of the server, by the stream id of the call.
    pub responses: BTreeMap<u32, RawResponse>,
}

/// Response of a server to a call, as far as it has arrived.
#[derive(Clone, Debug, Default)]
pub struct RawResponse {
    /// True if the server refused the call: the head of the response was also its end.
    pub refused: bool,
    /// True if the response has ended as gRPC demands, with trailers.
    pub ended: bool,
    /// True if the server has reset the stream.
    pub reset: bool,
    data: Vec<u8>,
}

impl RawResponse {
    /// Returns the messages that have arrived.
    pub fn messages<M: Message + Default>(&self) -> Result<Vec<M>> {
        let (mut messages, mut rest) = (Vec::new(), self.data.as_slice());
        while let Some((&[_, a, b, c, d], after)) = rest.split_first_chunk::<MESSAGE_HEAD_BYTES>() {
            let (message, after) = after.split_at_checked(u32::from_be_bytes([a, b, c, d]) as usize).context("cut")?;
            messages.push(M::decode(message)?);
            rest = after;
        }
        Ok(messages)
    }
}

impl RawHttp2 {
    /// Connects to a server.
    pub async fn connect(address: &str) -> Result<Self> {
        let mut out = PREFACE.to_vec();
        out.extend(frame(SETTINGS, 0, 0, &[]));
        let stream = TcpStream::connect(address).await?;
        Ok(Self { stream, next_id: 1, out, responses: BTreeMap::new() })
    }

    /// Adds a call with one message to the frames to send. Returns the id of its stream.
    pub fn begin(&mut self, path: &str, message: &impl Message) -> u32 {
        let id = self.begin_headers(END_HEADERS, path);
        self.out.extend(frame(DATA, END_STREAM, id, &grpc_frame(&message.encode_to_vec())));
        id
    }

    /// Adds a call without an end, whose body is never sent, to the frames to send.
    pub fn begin_open(&mut self, path: &str) {
        self.begin_headers(END_HEADERS, path);
    }

    /// Adds the beginning of headers that do not end to the frames to send. [`Self::continue_headers`] continues them.
    pub fn begin_endless_headers(&mut self, path: &str) {
        self.begin_headers(0, path);
    }

    /// Adds a part of endless headers to the frames to send.
    pub fn continue_headers(&mut self) {
        let block: Vec<u8> = (0..50).flat_map(|_| literal("x-endless", &"x".repeat(100))).collect();
        self.out.extend(frame(CONTINUATION, 0, self.next_id - 2, &block));
    }

    fn begin_headers(&mut self, flags: u8, path: &str) -> u32 {
        let id = self.next_id;
        self.next_id += 2;
        let headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "test"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let block = headers.into_iter().flat_map(|(name, value)| literal(name, value)).collect::<Vec<_>>();
        self.out.extend(frame(HEADERS, flags, id, &block));
        id
    }

    /// Adds the cancellation of a call to the frames to send.
    pub fn cancel(&mut self, id: u32) {
        self.out.extend(frame(RST_STREAM, 0, id, &CANCEL.to_be_bytes()));
    }

    /// Sends the added frames with one write.
    pub async fn send(&mut self) -> Result<()> {
        self.stream.write_all(&std::mem::take(&mut self.out)).await?;
        Ok(())
    }

    /// Receives frames until `done` returns true for the responses. Fails if the server closes the connection.
    pub async fn receive(&mut self, done: impl Fn(&BTreeMap<u32, RawResponse>) -> bool) -> Result<()> {
        while !done(&self.responses) {
            let mut head = [0; HEAD_BYTES];
            self.stream.read_exact(&mut head).await?;
            let [a, b, c, kind, flags, id @ ..] = head;
            let id = u32::from_be_bytes(id);
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.stream.read_exact(&mut payload).await?;
            ensure!(kind != GOAWAY, "the server closes the connection: {:?}", payload.escape_ascii().to_string());
            let ends = flags & END_STREAM != 0;
            match kind {
                HEADERS => {
                    let is_head = !self.responses.contains_key(&id);
                    let response = self.responses.entry(id).or_default();
                    (response.refused, response.ended) = (is_head && ends, ends);
                }
                DATA => self.responses.entry(id).or_default().data.extend(payload),
                RST_STREAM => self.responses.entry(id).or_default().reset = true,
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes one call with one message. Returns the messages of the response.
    pub async fn call<M: Message + Default>(&mut self, path: &str, message: &impl Message) -> Result<Vec<M>> {
        let id = self.begin(path, message);
        self.send().await?;
        self.receive(|responses| responses.get(&id).is_some_and(|response| response.ended || response.reset)).await?;
        let response = &self.responses[&id];
        ensure!(response.ended && !response.refused, "{path} fails");
        response.messages()
    }
}

/// Frames a gRPC message: no compression, its length, the message.
pub fn grpc_frame(message: &[u8]) -> Vec<u8> {
    [&[0], (message.len() as u32).to_be_bytes().as_slice(), message].concat()
}

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    [&[a, b, c, kind, flags], id.to_be_bytes().as_slice(), payload].concat()
}

/// Encodes a header as HPACK's literal without indexing. Both parts must be shorter than 127 bytes.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let [name_len, value_len] = [name, value].map(|part| part.len() as u8);
    [&[0, name_len], name.as_bytes(), &[value_len], value.as_bytes()].concat()
}
