//! The handle: one function a call.

use std::future::ready;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use c3_proto::{ToWire, pb::{
    self, compress_text_request, decompress_request, put_document_request, put_latents_request,
}};
use c3_types::{ByteRange, DocumentId, Expected, Window, WriteOptions};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use tokio::io::AsyncRead;
use tonic::Request;

use crate::download::Answers;
use crate::retry::{Gateway, Gateways, Patience};
use crate::upload::{self, Reading};
use crate::{
    Check, Document, DocumentLatents, Error, ListQuery, Listed, Progress, Put, Stored, Text, Windows,
};

/// How long the client waits.
#[derive(Clone, Copy, Debug)]
pub struct TimeOuts {
    /// For a connection.
    pub connect: Duration,
    /// For the answer to a call that is one message each way.
    pub answer: Duration,
    /// For a sign of life from the gateway during any call, after as long without one.
    pub alive: Duration,
    /// As long as this without a gateway that takes them, calls that are safe to make twice are tried again where a
    /// gateway is gone or full.
    pub patience: Duration,
}

impl Default for TimeOuts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(30),
            alive: Duration::from_secs(20),
            patience: Duration::from_secs(10),
        }
    }
}

/// A gateway, or several over one store. Clones share the connections, which are made anew where they break.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) gateways: Arc<Gateways>,
    time_outs: TimeOuts,
}

impl Client {
    /// Connects to the gateway at `url`, as in `http://127.0.0.1:7300`, or to several over one store, separated by commas:
    /// where one is gone, the next is asked.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::connect_within(url, TimeOuts::default()).await
    }

    /// Connects to the gateways at `url` and waits no longer than `time_outs` say, now and in every call.
    pub async fn connect_within(url: &str, time_outs: TimeOuts) -> Result<Self, Error> {
        Ok(Self { gateways: Arc::new(Gateways::connect(url, time_outs).await?), time_outs })
    }

    /// The gateway that is asked now.
    pub(crate) fn gateway(&self) -> Gateway {
        self.gateways.current()
    }

    /// For how long a call that begins now is tried again.
    pub(crate) fn patience(&self) -> Patience {
        Patience::of(self.time_outs)
    }

    /// Stores a text that is in memory, as [`Client::put_repeatable`] does.
    pub async fn put_text(&self, text: impl Into<Bytes>, options: &WriteOptions) -> Result<Stored, Error> {
        let text = text.into();
        self.put_repeatable(|| ready(Ok(Cursor::new(text.clone()))), options, |_| ()).await
    }

    /// Stores a text that can be read again from its beginning, and tries again where a gateway is gone or full: what was
    /// done is found again, and a document stored twice is one. Not where a name is given that must be what it was: by a
    /// second try it may be what the first made of it. `open` is called before each try, `told` hears how far it is.
    pub async fn put_repeatable<T, O>(
        &self,
        open: impl Fn() -> O,
        options: &WriteOptions,
        mut told: impl FnMut(Progress),
    ) -> Result<Stored, Error>
    where
        T: AsyncRead + Send + 'static,
        O: Future<Output = std::io::Result<T>>,
    {
        let (mut options, mut patience, mut furthest) = (options.clone(), self.patience(), 0);
        let once = options.name.as_ref().is_some_and(|name| name.expected != Expected::Whatever);
        loop {
            let (mut went_on, so_far) = (false, options.clone());
            let note = |done: Progress| {
                // Later tries are the same put.
                options.upload = options.upload.take().or_else(|| done.upload.clone());
                went_on |= done.bytes_done > furthest;
                furthest = furthest.max(done.bytes_done);
                told(done);
            };
            let text = open().await.map_err(Error::Read)?;
            let put = async { self.put(text, &so_far).await?.finish_with(note).await };
            let error = match put.await {
                Ok(stored) => return Ok(stored),
                Err(error) if once => return Err(error),
                Err(error) => error,
            };
            if went_on {
                patience = self.patience();
            }
            patience.after(error, &self.gateways).await?;
        }
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
        let answers = reading.or(self.gateway().put_document(request)).await?.into_inner();
        Ok(Put(Answers::new(answers, reading)))
    }

    /// A document's text, or a range of its bytes. `id` may be a unique prefix or a name. A text that breaks off goes on
    /// where it broke.
    pub async fn get(&self, id: &str, range: ByteRange) -> Result<Text, Error> {
        let (start, end) = (Some(range.start()), range.end());
        Text::open(self.clone(), pb::GetTextRequest { id: id.to_owned(), start, end }).await
    }

    /// A document's latents. `id` may be a unique prefix or a name.
    pub async fn latents(&self, id: &str) -> Result<DocumentLatents, Error> {
        let request = pb::GetLatentsRequest { id: id.to_owned() };
        let open = |mut gateway: Gateway| {
            let request = request.clone();
            async move { Ok(gateway.get_latents(request).await?.into_inner()) }
        };
        let answers = self.retrying(open).await?;
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
        let answer = self.gateway().put_latents(request).await?.into_inner();
        Ok(Document::from_wire(answer.document.ok_or_else(|| Error::missing("document"))?)?)
    }

    /// What is known of a document. `id` may be a unique prefix or a name.
    pub async fn stat(&self, id: &str) -> Result<Document, Error> {
        let stat = |mut gateway: Gateway| async move {
            Ok(gateway.stat(self.soon(pb::StatRequest { id: id.to_owned() })).await?.into_inner())
        };
        let answer = self.retrying(stat).await?;
        Ok(Document::from_wire(answer.document.ok_or_else(|| Error::missing("document"))?)?)
    }

    /// Every document whose id begins with `prefix`, by id, as [`Client::list_where`] has it.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<Listed, Error>> {
        self.list_where(&ListQuery { prefix: prefix.to_owned(), ..ListQuery::default() })
    }

    /// Puts that did not end, and can be taken up by sending their texts again under their names; by name.
    pub async fn uploads(&self) -> Result<Vec<pb::Upload>, Error> {
        let uploads = |mut gateway: Gateway| async move {
            Ok(gateway.uploads(self.soon(pb::UploadsRequest {})).await?.into_inner().uploads)
        };
        self.retrying(uploads).await
    }

    /// Removes what no document refers to any more; `grace_seconds` in place of the gateway's setting. Puts that last
    /// longer than the grace fail.
    pub async fn sweep(&self, grace_seconds: Option<u64>) -> Result<pb::SweepResponse, Error> {
        let request = pb::SweepRequest { grace_seconds };
        Ok(self.gateway().sweep(request).await?.into_inner())
    }

    /// Reads every object of the store; with `repair`, what can be rebuilt without a text is.
    pub async fn check(&self, repair: bool) -> Result<Check, Error> {
        let answers = self.gateway().check(pb::CheckRequest { repair }).await?.into_inner();
        Ok(Check(Answers::new(answers, Reading::none())))
    }

    /// Forgets a document. `id` may be a unique prefix or a name; the whole id comes back.
    pub async fn delete(&self, id: &str) -> Result<DocumentId, Error> {
        let request = self.soon(pb::DeleteRequest { id: id.to_owned() });
        let answer = self.gateway().delete(request).await?.into_inner();
        Ok(DocumentId::try_from(answer.id.as_ref())?)
    }

    /// Writes a stored document anew with other options; what they leave open stays as it is. Until the new one is
    /// verified and durable the document is as it was. `id` may be a unique prefix or a name.
    pub async fn recode(&self, id: &str, options: &WriteOptions) -> Result<Put, Error> {
        let request = pb::RecodeRequest { id: id.to_owned(), options: Some(options.to_wire()) };
        let answers = self.gateway().recode(request).await?.into_inner();
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
        let answers = reading.or(self.gateway().compress(request)).await?.into_inner();
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
        let answers = self.gateway().decompress(request).await?.into_inner();
        Ok(answers.map(|answer| Ok(answer?.text)).boxed())
    }

    /// The nodes that the gateway knows, in its own words.
    pub async fn nodes(&self) -> Result<Vec<pb::Node>, Error> {
        let nodes = |mut gateway: Gateway| async move {
            Ok(gateway.nodes(self.soon(pb::NodesRequest {})).await?.into_inner().nodes)
        };
        self.retrying(nodes).await
    }

    /// A call whose answer is due soon.
    pub(crate) fn soon<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(self.time_outs.answer);
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
