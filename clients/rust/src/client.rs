//! The client handle and its calls. The calls for names, labels, lists and totals are in `names.rs`.

use std::future::ready;
use std::io::Cursor;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use c3_proto::pb::{self, compress_text_request, decompress_request, put_document_request, put_latents_request};
use c3_proto::{FromWire, ToWire};
use c3_types::{
    ByteRange, DecompressOptions, Document, DocumentId, Expected, FsckEvent, FsckMode, LineRange, Progress, ReindexJob,
    SearchPage, SearchQuery, Stage, Stored, SweepSummary, Upload, Window, WriteOptions,
};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use tokio::io::AsyncRead;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::error::Error;
#[cfg(doc)]
use crate::retry::Timeouts;
use crate::retry::{ClientOptions, Gateway, Gateways};
use crate::streams::{DocumentLatents, Put, ResponseStream, Text};
use crate::upload::{self, ReadFailure};

/// Client of one gateway, or of several over one store. Clones share connections, and broken connections reconnect.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) gateways: Arc<Gateways>,
}

/// Stages of a gateway that have no ready node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadyStages {
    /// The stages; empty if the gateway can serve every call.
    pub stages: Vec<Stage>,
    /// Maximum time for which the gateway lets a call wait for a node.
    pub node_wait: Duration,
}

impl Client {
    /// Connects to the gateway at `url`, for example `http://127.0.0.1:7300` or `https://gateway.example`. `url` may
    /// list several gateways over one store, separated by commas: calls go to the first that answers, and a retry may
    /// switch to the next. An `https://` gateway is verified with the system's CAs.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::connect_with(url, &ClientOptions::default()).await
    }

    /// Connects like [`Client::connect`], but with the given time limits, API key, CAs and client certificate.
    pub async fn connect_with(url: &str, options: &ClientOptions) -> Result<Self, Error> {
        Ok(Self { gateways: Arc::new(Gateways::connect(url, options).await?) })
    }

    /// Connects like [`Client::connect_with`], but only when the first call is made, and again for each later call
    /// while no gateway answers.
    pub fn connect_lazy(url: &str, options: &ClientOptions) -> Result<Self, Error> {
        Ok(Self { gateways: Arc::new(Gateways::connect_lazy(url, options)?) })
    }

    /// Returns a client that makes its calls over `channel`, such as a connection within the process of a gateway.
    /// [`ClientOptions::credentials`] are ignored.
    pub fn over(channel: Channel, options: &ClientOptions) -> Self {
        Self { gateways: Arc::new(Gateways::over(channel, options)) }
    }

    /// Returns the gateway that calls currently go to.
    pub(crate) fn gateway(&self) -> Gateway {
        self.gateways.current()
    }

    /// Stores a text that is in memory, with the retries of [`Client::put_with_retries`].
    pub async fn put_text(&self, text: impl Into<Bytes>, options: &WriteOptions) -> Result<Stored, Error> {
        let text = text.into();
        self.put_with_retries(|| ready(Ok(Cursor::new(text.clone()))), options, |_| ()).await
    }

    /// Stores a text, with retries if a gateway is unreachable or overloaded. A retry reuses the shards (parts of the
    /// text) that are stored already. Storing the same text twice creates one document.
    ///
    /// Before each attempt, calls `open`, which must return a reader at the start of the text. Calls `on_progress` for
    /// each progress report. If the options set a name with a precondition, makes only one attempt: a retry could not
    /// distinguish the name that the first attempt set from one that another writer set.
    pub async fn put_with_retries<T, O>(
        &self,
        open: impl Fn() -> O,
        options: &WriteOptions,
        mut on_progress: impl FnMut(Progress),
    ) -> Result<Stored, Error>
    where
        T: AsyncRead + Send + 'static,
        O: Future<Output = std::io::Result<T>>,
    {
        let (mut options, mut retries, mut furthest) = (options.clone(), self.gateways.retries(), 0);
        let is_conditional = options.name.as_ref().is_some_and(|name| name.expected != Expected::Any);
        loop {
            let (mut has_advanced, attempt_options) = (false, options.clone());
            let note = |progress: Progress| {
                // Later attempts resume this upload.
                options.upload = options.upload.take().or_else(|| progress.upload.clone());
                has_advanced |= progress.bytes_done > furthest;
                furthest = furthest.max(progress.bytes_done);
                on_progress(progress);
            };
            let text = open().await.map_err(Error::Read)?;
            let put = async { self.put(text, &attempt_options).await?.finish_with(note).await };
            let error = match put.await {
                Ok(stored) => return Ok(stored),
                Err(error) if is_conditional => return Err(error),
                Err(error) => error,
            };
            if has_advanced {
                retries = self.gateways.retries();
            }
            retries.wait(error, &self.gateways).await?;
        }
    }

    /// Stores a text, without retries. Reads the text only as fast as the gateway accepts it.
    /// `tokio_util::io::StreamReader` turns a stream of bytes into a reader.
    ///
    /// Fails if the gateway is unreachable or refuses the options. [`Put`] returns later errors, such as invalid UTF-8.
    pub async fn put(&self, text: impl AsyncRead + Send + 'static, options: &WriteOptions) -> Result<Put, Error> {
        use put_document_request::Part;
        let (pieces, mut read_failure) = upload::pieces(text);
        let first = stream::iter([Part::Options(options.to_wire())]);
        let parts = first.chain(pieces.map(Part::Text));
        let request = parts.map(|part| pb::PutDocumentRequest { part: Some(part) });
        let responses = read_failure.or(self.gateway().put_document(request)).await?.into_inner();
        Ok(Put(ResponseStream::new(responses, read_failure)))
    }

    /// Streams a document's text, or a range of its bytes. `id` may be a unique prefix or a name. An interrupted
    /// stream resumes at the byte at which it stopped.
    pub async fn get(&self, id: &str, range: ByteRange) -> Result<Text, Error> {
        let request = pb::GetTextRequest { id: id.to_owned(), start: Some(range.start()), end: range.end() };
        Text::open(Arc::clone(&self.gateways), request).await
    }

    /// Returns bytes of a document that contain some of its lines, and the number of line feeds before them. The bytes
    /// are those of whole windows (parts of the text), so that nothing is decoded. `id` may be a unique prefix or a
    /// name.
    pub async fn locate_lines(&self, id: &str, lines: LineRange) -> Result<(Range<u64>, u64), Error> {
        let request = pb::LocateLinesRequest { id: id.to_owned(), first: lines.first(), last: lines.last() };
        let locate = |mut gateway: Gateway, request| async move { gateway.locate_lines(request).await };
        let pb::LocateLinesResponse { start, end, lines_before } = self.read(request, locate).await?;
        Ok((start..end, lines_before))
    }

    /// Streams a document's windows (parts of its text), each with its latents. `id` may be a unique prefix or a name.
    /// An interrupted stream does not resume.
    pub async fn latents(&self, id: &str) -> Result<DocumentLatents, Error> {
        let request = pb::GetLatentsRequest { id: id.to_owned() };
        let open = |mut gateway: Gateway| {
            let request = request.clone();
            async move { Ok(gateway.get_latents(request).await?.into_inner()) }
        };
        let responses = self.gateways.retrying(open).await?;
        DocumentLatents::open(ResponseStream::new(responses, ReadFailure::none())).await
    }

    /// Stores latents that were made elsewhere, as `document`. The gateway first decodes them, and stores them only if
    /// every hash matches.
    pub async fn put_latents(
        &self,
        document: &Document,
        windows: impl Stream<Item = Window> + Send + 'static,
    ) -> Result<Document, Error> {
        use put_latents_request::Part;
        let first = stream::iter([Part::Document(document.to_wire())]);
        let parts = first.chain(windows.map(|window| Part::Window(window.to_wire())));
        let request = parts.map(|part| pb::PutLatentsRequest { part: Some(part) });
        let response = self.gateway().put_latents(request).await?.into_inner();
        Ok(Document::from_wire(response.document.ok_or_else(|| Error::missing("document"))?)?)
    }

    /// Describes a document. `id` may be a unique prefix or a name.
    pub async fn stat(&self, id: &str) -> Result<Document, Error> {
        let response = self.stat_response(id).await?;
        Ok(Document::from_wire(response.document.ok_or_else(|| Error::missing("document"))?)?)
    }

    pub(crate) async fn stat_response(&self, id: &str) -> Result<pb::StatResponse, Error> {
        let request = pb::StatRequest { id: id.to_owned() };
        self.read(request, |mut gateway, request| async move { gateway.stat(request).await }).await
    }

    /// Returns a page of the windows that match a query, the best first.
    pub async fn search(&self, query: &SearchQuery) -> Result<SearchPage, Error> {
        let search = |mut gateway: Gateway, request| async move { gateway.search(request).await };
        Ok(SearchPage::from_wire(self.read(query.to_wire(), search).await?)?)
    }

    /// Lets search find a document that was stored without search: decodes it, and adds sketches of its words. `id` may
    /// be a unique prefix or a name. Returns the number of windows that search did not find before.
    pub async fn reindex(&self, id: &str) -> Result<u64, Error> {
        let request = pb::ReindexRequest { id: id.to_owned() };
        Ok(self.gateway().reindex(request).await?.into_inner().windows)
    }

    /// Starts to reindex all documents in the background, when the decoders have nothing else to do, or joins the job
    /// that runs. Returns its state at once. The job belongs to the gateway that answers.
    pub async fn start_reindex(&self) -> Result<ReindexJob, Error> {
        let request = self.unary(pb::StartReindexRequest {});
        let response = self.gateway().start_reindex(request).await?.into_inner();
        Ok(ReindexJob::from_wire(response.job.ok_or_else(|| Error::missing("job"))?)?)
    }

    /// Returns the state of the gateway's running or last reindex job.
    pub async fn reindex_job(&self) -> Result<ReindexJob, Error> {
        let job = |mut gateway: Gateway, request| async move { gateway.get_reindex(request).await };
        let response = self.read(pb::GetReindexRequest {}, job).await?;
        Ok(ReindexJob::from_wire(response.job.ok_or_else(|| Error::missing("job"))?)?)
    }

    /// Returns the interrupted uploads, sorted by name. A put of the same text with
    /// [`WriteOptions::upload`] set to the upload's name resumes it.
    pub async fn uploads(&self) -> Result<Vec<Upload>, Error> {
        let uploads = |mut gateway: Gateway, request| async move { gateway.uploads(request).await };
        let uploads = self.read(pb::UploadsRequest {}, uploads).await?.uploads;
        Ok(uploads.into_iter().map(Upload::from_wire).collect::<Result<_, _>>()?)
    }

    /// Collects garbage in two steps. Marks unreferenced objects that are older than the grace period; a later call
    /// removes the marked objects. If `grace_seconds` is 0, the same call also removes them. If it is `None`, the grace
    /// period is the gateway's setting. Writes may fail if they take longer than the grace period.
    pub async fn sweep(&self, grace_seconds: Option<u64>) -> Result<SweepSummary, Error> {
        let request = pb::SweepRequest { grace_seconds };
        Ok(SweepSummary::from_wire(self.gateway().sweep(request).await?.into_inner())?)
    }

    /// Reads every object of the store. Streams the faults that it finds and its progress, then a summary.
    pub async fn fsck(&self, mode: FsckMode) -> Result<BoxStream<'static, Result<FsckEvent, Error>>, Error> {
        let request = pb::CheckRequest { with_progress: true, ..mode.to_wire() };
        let responses = self.gateway().check(request).await?.into_inner();
        Ok(responses.map(|response| Ok(FsckEvent::from_wire(response?)?)).boxed())
    }

    /// Deletes a document and returns its id. `id` may be a unique prefix or a name.
    pub async fn delete(&self, id: &str) -> Result<DocumentId, Error> {
        let request = self.unary(pb::DeleteRequest { id: id.to_owned() });
        let response = self.gateway().delete(request).await?.into_inner();
        Ok(DocumentId::try_from(response.id.as_ref())?)
    }

    /// Writes a stored document again with other options. Unset options keep the document's values. The document does
    /// not change until its replacement is durable. `id` may be a unique prefix or a name.
    pub async fn recode(&self, id: &str, options: &WriteOptions) -> Result<Put, Error> {
        let request = pb::RecodeRequest { id: id.to_owned(), options: Some(options.to_wire()) };
        let responses = self.gateway().recode(request).await?.into_inner();
        Ok(Put(ResponseStream::new(responses, ReadFailure::none())))
    }

    /// Streams the windows (parts) of a text, each with its latents. Stores nothing.
    pub async fn compress(
        &self,
        text: impl AsyncRead + Send + 'static,
        options: &WriteOptions,
    ) -> Result<BoxStream<'static, Result<Window, Error>>, Error> {
        use compress_text_request::Part;
        let (pieces, mut read_failure) = upload::pieces(text);
        let first = stream::iter([Part::Options(options.to_wire())]);
        let parts = first.chain(pieces.map(Part::Text));
        let request = parts.map(|part| pb::CompressTextRequest { part: Some(part) });
        let responses = read_failure.or(self.gateway().compress(request)).await?.into_inner();
        let windows = ResponseStream::new(responses, read_failure).map(|response| {
            let window = response?.window.ok_or_else(|| Error::missing("window"))?;
            Ok(Window::from_wire(window)?)
        });
        Ok(windows.boxed())
    }

    /// Streams the text of each window. With a prompt in `options`, streams the decoder's answer to it instead. Stores
    /// nothing.
    pub async fn decompress(
        &self,
        windows: impl Stream<Item = Window> + Send + 'static,
        options: &DecompressOptions,
    ) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        use decompress_request::Part;
        let first = stream::iter([Part::Options(options.to_wire())]);
        let parts = first.chain(windows.map(|window| Part::Window(window.to_wire())));
        let request = parts.map(|part| pb::DecompressRequest { part: Some(part) });
        let responses = self.gateway().decompress(request).await?.into_inner();
        Ok(responses.map(|response| Ok(response?.text)).boxed())
    }

    /// Returns the nodes that the gateway knows, with their state and their last description.
    pub async fn nodes(&self) -> Result<Vec<pb::Node>, Error> {
        Ok(self.nodes_response().await?.nodes)
    }

    /// Returns the stages of the gateway that have no ready node.
    pub async fn unready_stages(&self) -> Result<UnreadyStages, Error> {
        let pb::NodesResponse { nodes, node_wait_ms } = self.nodes_response().await?;
        let ready = |stage: Stage| {
            let is_ready = |node: &pb::Node| node.stage == stage.to_wire() && node.state() == pb::NodeState::Ready;
            nodes.iter().any(is_ready)
        };
        let stages = Stage::ALL.into_iter().filter(|&stage| !ready(stage)).collect();
        Ok(UnreadyStages { stages, node_wait: Duration::from_millis(node_wait_ms) })
    }

    async fn nodes_response(&self) -> Result<pb::NodesResponse, Error> {
        let nodes = |mut gateway: Gateway, request| async move { gateway.nodes(request).await };
        self.read(pb::NodesRequest {}, nodes).await
    }

    /// Makes a call that changes nothing, with retries. Each attempt has the deadline [`Timeouts::response`].
    pub(crate) async fn read<M, T, F>(&self, message: M, call: impl Fn(Gateway, Request<M>) -> F) -> Result<T, Error>
    where
        M: Clone,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let attempt = |gateway| {
            let response = call(gateway, self.unary(message.clone()));
            async move { Ok(response.await?.into_inner()) }
        };
        self.gateways.retrying(attempt).await
    }

    /// Returns a request with [`Timeouts::response`] as its deadline.
    pub(crate) fn unary<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(self.gateways.timeouts.response);
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn invalid_urls_are_refused_before_any_connection_attempt() {
        for wrong in ["", "127.0.0.1:7300", "ftp://127.0.0.1", "http://", "not a url"] {
            let error = Client::connect(wrong).await.unwrap_err();
            assert!(matches!(error, Error::Url { .. }), "{wrong}: {error}");
        }
    }

    #[tokio::test]
    async fn a_refused_connection_names_the_address() {
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = Client::connect(&format!("http://{free}")).await.unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error}");
        assert!(error.to_string().contains(&free.to_string()), "{error}");
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
