//! The handle: one function a call.

use std::time::Duration;

use bytes::Bytes;
use c3_proto::pb::gateway_client::GatewayClient;
use c3_proto::pb::{
    self, compress_text_request, decompress_request, put_document_request, put_latents_request,
};
use c3_proto::{ByteRange, DocumentId, Window, WriteOptions, limits};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use tokio::io::AsyncRead;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::download::Answers;
use crate::upload::{self, Reading};
use crate::{Check, Document, DocumentLatents, Error, ListQuery, Listed, Put, Text, Windows, trace};

type Injector = fn(Request<()>) -> Result<Request<()>, Status>;

/// How long the client waits.
#[derive(Clone, Copy, Debug)]
pub struct TimeOuts {
    /// For a connection.
    pub connect: Duration,
    /// For the answer to a call that is one message each way.
    pub answer: Duration,
    /// For a sign of life from the gateway during any call, after as long without one.
    pub alive: Duration,
}

impl Default for TimeOuts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(30),
            alive: Duration::from_secs(20),
        }
    }
}

/// A gateway. Clones share the connection, which is made anew where it breaks.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) gateway: GatewayClient<InterceptedService<Channel, Injector>>,
    answer: Duration,
}

impl Client {
    /// Connects to the gateway at `url`, as in `http://127.0.0.1:7300`.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::connect_within(url, TimeOuts::default()).await
    }

    /// Connects to the gateway at `url` and waits no longer than `time_outs` say, now and in every call.
    pub async fn connect_within(url: &str, time_outs: TimeOuts) -> Result<Self, Error> {
        let wrong = || Error::Url { url: url.to_owned() };
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| wrong())?;
        if endpoint.uri().scheme_str() != Some("http") || endpoint.uri().host().is_none() {
            return Err(wrong());
        }
        let endpoint = endpoint
            .connect_timeout(time_outs.connect)
            .http2_keep_alive_interval(time_outs.alive)
            .keep_alive_timeout(time_outs.alive)
            .tcp_nodelay(true);
        let channel = endpoint.connect().await.map_err(|error| Error::connect(url, &error))?;
        let gateway = GatewayClient::with_interceptor(channel, trace::inject as Injector)
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
        Ok(Self { gateway, answer: time_outs.answer })
    }

    /// Stores a text. It is read as fast as the gateway takes it; a stream of bytes becomes a reader by
    /// `tokio_util::io::StreamReader`. Errors: not UTF-8, too large, a ratio out of range.
    pub async fn put(
        &self,
        text: impl AsyncRead + Send + 'static,
        options: &WriteOptions,
    ) -> Result<Put, Error> {
        use put_document_request::Part;
        let (pieces, mut reading) = upload::pieces(text);
        let first = stream::iter([Part::Options(options.to_wire())]);
        let parts = first.chain(pieces.map(Part::Text));
        let request = parts.map(|part| pb::PutDocumentRequest { part: Some(part) });
        let answers = reading.or(self.gateway.clone().put_document(request)).await?.into_inner();
        Ok(Put(Answers::new(answers, reading)))
    }

    /// A document's text, or a range of its bytes. `id` may be a unique prefix or a name.
    pub async fn get(&self, id: &str, range: ByteRange) -> Result<Text, Error> {
        let (start, end) = range.to_wire();
        let request = pb::GetTextRequest { id: id.to_owned(), start, end };
        let answers = self.gateway.clone().get_text(request).await?.into_inner();
        Text::open(Answers::new(answers, Reading::none())).await
    }

    /// A document's latents. `id` may be a unique prefix or a name.
    pub async fn latents(&self, id: &str) -> Result<DocumentLatents, Error> {
        let request = pb::GetLatentsRequest { id: id.to_owned() };
        let answers = self.gateway.clone().get_latents(request).await?.into_inner();
        DocumentLatents::open(Answers::new(answers, Reading::none())).await
    }

    /// Stores latents from elsewhere. They become a document once the gateway decoded them and every hash held.
    pub async fn put_latents(
        &self,
        document: &Document,
        windows: impl Stream<Item = Window> + Send + 'static,
    ) -> Result<Document, Error> {
        use put_latents_request::Part;
        let first = stream::iter([Part::Document(document.to_wire())]);
        let parts = first.chain(windows.map(|window| Part::Window(window.to_wire())));
        let request = parts.map(|part| pb::PutLatentsRequest { part: Some(part) });
        let answer = self.gateway.clone().put_latents(request).await?.into_inner();
        Ok(Document::from_wire(answer.document.ok_or_else(|| Error::missing("document"))?)?)
    }

    /// What is known of a document. `id` may be a unique prefix or a name.
    pub async fn stat(&self, id: &str) -> Result<Document, Error> {
        let request = self.soon(pb::StatRequest { id: id.to_owned() });
        let answer = self.gateway.clone().stat(request).await?.into_inner();
        Ok(Document::from_wire(answer.document.ok_or_else(|| Error::missing("document"))?)?)
    }

    /// Every document whose id begins with `prefix`, by id, as [`Client::list_where`] has it.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<Listed, Error>> {
        self.list_where(&ListQuery { prefix: prefix.to_owned(), ..ListQuery::default() })
    }

    /// Puts that did not end, and can be taken up by sending their texts again under their names; by name.
    pub async fn uploads(&self) -> Result<Vec<pb::Upload>, Error> {
        let request = self.soon(pb::UploadsRequest {});
        Ok(self.gateway.clone().uploads(request).await?.into_inner().uploads)
    }

    /// Removes what no document refers to any more; `grace_seconds` in place of the gateway's setting. Puts that last
    /// longer than the grace fail.
    pub async fn sweep(&self, grace_seconds: Option<u64>) -> Result<pb::SweepResponse, Error> {
        let request = pb::SweepRequest { grace_seconds };
        Ok(self.gateway.clone().sweep(request).await?.into_inner())
    }

    /// Reads every object of the store; with `repair`, what can be rebuilt without a text is.
    pub async fn check(&self, repair: bool) -> Result<Check, Error> {
        let answers = self.gateway.clone().check(pb::CheckRequest { repair }).await?.into_inner();
        Ok(Check(Answers::new(answers, Reading::none())))
    }

    /// Forgets a document. `id` may be a unique prefix or a name; the whole id comes back.
    pub async fn delete(&self, id: &str) -> Result<DocumentId, Error> {
        let request = self.soon(pb::DeleteRequest { id: id.to_owned() });
        let answer = self.gateway.clone().delete(request).await?.into_inner();
        Ok(DocumentId::try_from(answer.id.as_ref())?)
    }

    /// Writes a stored document anew with other options; what they leave open stays as it is. Until the new one is
    /// verified and durable the document is as it was. `id` may be a unique prefix or a name.
    pub async fn recode(&self, id: &str, options: &WriteOptions) -> Result<Put, Error> {
        let request = pb::RecodeRequest { id: id.to_owned(), options: Some(options.to_wire()) };
        let answers = self.gateway.clone().recode(request).await?.into_inner();
        Ok(Put(Answers::new(answers, Reading::none())))
    }

    /// Compresses a text and stores nothing.
    pub async fn compress(
        &self,
        text: impl AsyncRead + Send + 'static,
        options: &WriteOptions,
    ) -> Result<Windows, Error> {
        use compress_text_request::Part;
        let (pieces, mut reading) = upload::pieces(text);
        let first = stream::iter([Part::Options(options.to_wire())]);
        let parts = first.chain(pieces.map(Part::Text));
        let request = parts.map(|part| pb::CompressTextRequest { part: Some(part) });
        let answers = reading.or(self.gateway.clone().compress(request)).await?.into_inner();
        Ok(Windows(Answers::new(answers, reading)))
    }

    /// The text of latents that are not stored, or the answer to the prompt in `options`.
    pub async fn decompress(
        &self,
        windows: impl Stream<Item = Window> + Send + 'static,
        options: pb::DecompressOptions,
    ) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        use decompress_request::Part;
        let first = stream::iter([Part::Options(options)]);
        let parts = first.chain(windows.map(|window| Part::Window(window.to_wire())));
        let request = parts.map(|part| pb::DecompressRequest { part: Some(part) });
        let answers = self.gateway.clone().decompress(request).await?.into_inner();
        Ok(answers.map(|answer| Ok(answer?.text)).boxed())
    }

    /// The nodes that the gateway knows, in its own words.
    pub async fn nodes(&self) -> Result<Vec<pb::Node>, Error> {
        let request = self.soon(pb::NodesRequest {});
        Ok(self.gateway.clone().nodes(request).await?.into_inner().nodes)
    }

    /// A call whose answer is due soon.
    pub(crate) fn soon<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(self.answer);
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_url_is_refused_before_anything_is_tried() {
        for wrong in ["", "127.0.0.1:7300", "ftp://127.0.0.1", "http://", "not a url"] {
            let error = Client::connect(wrong).await.unwrap_err();
            assert!(matches!(error, Error::Url { .. }), "{wrong}: {error}");
        }
    }

    #[tokio::test]
    async fn where_nobody_listens_the_error_names_the_address() {
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = Client::connect(&format!("http://{free}")).await.unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error}");
        assert!(error.to_string().contains(&free.to_string()), "{error}");
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
