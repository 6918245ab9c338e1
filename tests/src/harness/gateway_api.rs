//! Client of the gateway's gRPC API. Unlike the public client, it does not retry, and returns errors as gRPC statuses.

use std::ops::Range;

use bytes::Bytes;
use c3_proto::pb::gateway_client::GatewayClient;
use c3_proto::pb::{self, put_document_request, put_document_response};
use c3_types::{DocumentId, limits};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use crate::harness::process::Process;

/// Connection to one gateway. Clones share the connection.
#[derive(Clone, Debug)]
pub struct GatewayApi(GatewayStub);

/// The client that tonic generated. Sends the API key, if any, with each call.
pub type GatewayStub = GatewayClient<InterceptedService<Channel, Bearer>>;

/// Adds an API key or token to each call.
#[derive(Clone, Debug, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// Creates the interceptor of a key; `None` adds nothing.
    pub fn new(key: Option<&str>) -> anyhow::Result<Self> {
        Ok(Self(key.map(|key| format!("Bearer {key}").parse()).transpose()?))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// Response of a read.
#[derive(Clone, Debug)]
pub struct Got {
    /// Description of the document, from the response header.
    pub document: pb::Document,
    /// Bytes of the text, or of the requested range.
    pub text: Vec<u8>,
}

impl GatewayApi {
    /// Creates a client that connects to the gateway on first use.
    pub fn to(gateway: &Process) -> anyhow::Result<Self> {
        Self::with_key(gateway, None)
    }

    /// Creates a client that connects on first use and sends an API key or token, if any, with each call.
    pub fn with_key(gateway: &Process, key: Option<&str>) -> anyhow::Result<Self> {
        Self::over(gateway.channel()?, key)
    }

    /// Creates a client that sends an API key or token, if any, with each call over a connection.
    pub fn over(channel: Channel, key: Option<&str>) -> anyhow::Result<Self> {
        let client = GatewayClient::with_interceptor(channel, Bearer::new(key)?);
        Ok(Self(client.max_decoding_message_size(limits::MESSAGE_BYTES_MAX)))
    }

    /// Returns the client that tonic generated, for calls that have no method here.
    pub fn stub(&self) -> GatewayStub {
        self.0.clone()
    }

    /// Puts a document.
    pub async fn put(&self, text: &[u8], options: pb::WriteOptions) -> Result<pb::PutResult, Status> {
        self.put_stream(stream::iter(put_messages(text, options))).await
    }

    /// Puts a document at a ratio. The other options are the defaults.
    pub async fn put_at(&self, text: &[u8], ratio: u32) -> Result<pb::PutResult, Status> {
        self.put(text, pb::WriteOptions { ratio, ..Default::default() }).await
    }

    /// Puts a document from a stream of messages and waits for the result. Ignores progress events.
    pub async fn put_stream(
        &self,
        messages: impl Stream<Item = pb::PutDocumentRequest> + Send + 'static,
    ) -> Result<pb::PutResult, Status> {
        let mut events = self.stub().put_document(messages).await?.into_inner();
        let mut result = None;
        while let Some(message) = events.message().await? {
            if let Some(put_document_response::Event::Result(done)) = message.event {
                result = Some(done);
            }
        }
        result.ok_or_else(|| Status::new(Code::Internal, "the put ended without a result"))
    }

    /// Gets a whole document.
    pub async fn get(&self, id: &str) -> Result<Got, Status> {
        self.read(pb::GetTextRequest { id: id.into(), start: None, end: None }).await
    }

    /// Gets the bytes of a document from `range.start` to `range.end`, exclusive.
    pub async fn get_range(&self, id: &str, range: Range<u64>) -> Result<Got, Status> {
        self.read(pb::GetTextRequest { id: id.into(), start: Some(range.start), end: Some(range.end) }).await
    }

    /// Starts to get a whole document and returns the stream of responses.
    pub async fn open(&self, id: &str) -> Result<Streaming<pb::GetTextResponse>, Status> {
        let request = pb::GetTextRequest { id: id.into(), start: None, end: None };
        Ok(self.stub().get_text(request).await?.into_inner())
    }

    async fn read(&self, request: pb::GetTextRequest) -> Result<Got, Status> {
        let mut parts = self.stub().get_text(request).await?.into_inner();
        let mut got = Got { document: pb::Document::default(), text: Vec::new() };
        while let Some(message) = parts.message().await? {
            match message.part {
                Some(pb::get_text_response::Part::Header(header)) => {
                    got.document = header.document.unwrap_or_default();
                }
                Some(pb::get_text_response::Part::Text(text)) => got.text.extend(text),
                None => {}
            }
        }
        Ok(got)
    }

    /// Gets the windows of a document, each with its latents.
    pub async fn windows(&self, id: &str) -> Result<Vec<pb::WindowLatents>, Status> {
        let request = pb::GetLatentsRequest { id: id.into() };
        let parts = self.stub().get_latents(request).await?.into_inner();
        let windows = parts.try_filter_map(async |message| match message.part {
            Some(pb::get_latents_response::Part::Window(window)) => Ok(Some(window)),
            _ => Ok(None),
        });
        windows.try_collect().await
    }

    /// Compresses a text without storing it.
    pub async fn compress(&self, text: &[u8], options: pb::WriteOptions) -> Result<Vec<pb::WindowLatents>, Status> {
        let options = pb::CompressTextRequest { part: Some(pb::compress_text_request::Part::Options(options)) };
        let pieces = pieces(text)
            .map(|text| pb::CompressTextRequest { part: Some(pb::compress_text_request::Part::Text(text)) });
        let messages: Vec<_> = std::iter::once(options).chain(pieces).collect();
        let answers = self.stub().compress(stream::iter(messages)).await?.into_inner();
        answers.try_filter_map(async |answer| Ok(answer.window)).try_collect().await
    }

    /// Decompresses windows that the call sends, without storing them. Returns the text.
    pub async fn decompress(
        &self,
        windows: Vec<pb::WindowLatents>,
        options: pb::DecompressOptions,
    ) -> Result<Vec<u8>, Status> {
        let options = pb::DecompressRequest { part: Some(pb::decompress_request::Part::Options(options)) };
        let windows = windows
            .into_iter()
            .map(|window| pb::DecompressRequest { part: Some(pb::decompress_request::Part::Window(window)) });
        let messages: Vec<_> = std::iter::once(options).chain(windows).collect();
        let mut answers = self.stub().decompress(stream::iter(messages)).await?.into_inner();
        let mut text = Vec::new();
        while let Some(answer) = answers.message().await? {
            text.extend(answer.text);
        }
        Ok(text)
    }

    /// Stores a document from a description and the latents of its windows.
    pub async fn put_latents(
        &self,
        document: pb::Document,
        windows: Vec<pb::WindowLatents>,
    ) -> Result<pb::Document, Status> {
        let document = pb::PutLatentsRequest { part: Some(pb::put_latents_request::Part::Document(document)) };
        let windows = windows
            .into_iter()
            .map(|window| pb::PutLatentsRequest { part: Some(pb::put_latents_request::Part::Window(window)) });
        let messages: Vec<_> = std::iter::once(document).chain(windows).collect();
        let answer = self.stub().put_latents(stream::iter(messages)).await?.into_inner();
        answer.document.ok_or_else(|| Status::internal("the answer holds no document"))
    }

    /// Gets the description of a document.
    pub async fn stat(&self, id: &str) -> Result<pb::Document, Status> {
        let answer = self.stub().stat(pb::StatRequest { id: id.into() }).await?.into_inner();
        answer.document.ok_or_else(|| Status::internal("the answer holds no document"))
    }

    /// Lists the ids of all documents.
    pub async fn ids(&self) -> Result<Vec<String>, Status> {
        let mut ids = Vec::new();
        let mut request = pb::ListRequest::default();
        loop {
            let page = self.stub().list(request).await?.into_inner();
            ids.extend(page.documents.iter().map(id_of));
            if page.next_page_token.is_empty() {
                return Ok(ids);
            }
            request = pb::ListRequest { page_token: page.next_page_token, ..Default::default() };
        }
    }

    /// Lists the nodes that the gateway knows.
    pub async fn nodes(&self) -> Result<Vec<pb::Node>, Status> {
        Ok(self.stub().nodes(pb::NodesRequest {}).await?.into_inner().nodes)
    }
}

/// Formats the id of a document in hexadecimal. Returns the error message if the id is malformed.
pub fn id_of(document: &pb::Document) -> String {
    DocumentId::try_from(document.id.as_ref()).map_or_else(|error| error.to_string(), |id| id.to_string())
}

/// Returns the messages of a put: the options, then the text in pieces.
pub fn put_messages(text: &[u8], options: pb::WriteOptions) -> Vec<pb::PutDocumentRequest> {
    let options = put_document_request::Part::Options(options);
    let pieces = pieces(text).map(put_document_request::Part::Text);
    std::iter::once(options).chain(pieces).map(|part| pb::PutDocumentRequest { part: Some(part) }).collect()
}

fn pieces(text: &[u8]) -> impl Iterator<Item = Bytes> {
    text.chunks(limits::TEXT_PIECE_BYTES_MAX).map(Bytes::copy_from_slice)
}

/// Reads a stream up to the first piece of text and returns that piece, or nothing if the stream ends without text.
pub async fn first_text(parts: &mut Streaming<pb::GetTextResponse>) -> Result<Vec<u8>, Status> {
    while let Some(message) = parts.next().await.transpose()? {
        if let Some(pb::get_text_response::Part::Text(text)) = message.part {
            return Ok(text.to_vec());
        }
    }
    Ok(Vec::new())
}
