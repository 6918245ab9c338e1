//! The gRPC surface: messages to domain calls and back. Decides nothing.

use std::time::Duration;

use bytes::Bytes;
use c3_proto::pb::{
    self, check_response, compress_text_request, decompress_request, get_latents_response, get_text_response,
    put_document_request, put_document_response, put_latents_request,
};
use c3_proto::{ByteRange, DocumentName, Expected, Invalid, Labels, Namespace, Window, WriteOptions};
use c3_server::Fault;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::error::Failure;
use crate::gateway::{SharedGateway, check_store};
use crate::list::ListQuery;
use crate::names::LabelsChange;
use crate::nodes::waiting::Work;
use crate::read::document::{GetEvent, get_text};
use crate::read::latents::{LatentsEvent, get_latents};
use crate::read::oneshot::{DecompressOptions, Prompt, decompress};
use crate::store::check::{CheckEvent, Counts, Faults, Finding};
use crate::store::sweep::Swept;
use crate::store::uploads::UploadRecord;
use crate::write::document::{Put, PutEvent, put_document};
use crate::write::latents::{Claim, put_latents};
use crate::write::oneshot::compress;
use crate::write::recode::recode;

/// The `c3.v1.Gateway` service.
pub(crate) struct Grpc {
    gateway: SharedGateway,
}

impl Grpc {
    /// The service over a gateway.
    pub(crate) fn new(gateway: SharedGateway) -> Self {
        Self { gateway }
    }

    fn gateway(&self) -> SharedGateway {
        SharedGateway::clone(&self.gateway)
    }

    /// Refuses a call for which the nodes have too much to do.
    fn check_room(&self, work: Work) -> Result<(), Status> {
        self.gateway.nodes.waiting.check(work).map_err(status)
    }
}

#[tonic::async_trait]
impl pb::gateway_server::Gateway for Grpc {
    type PutDocumentStream = Answers<pb::PutDocumentResponse>;
    type GetTextStream = Answers<pb::GetTextResponse>;
    type GetLatentsStream = Answers<pb::GetLatentsResponse>;
    type RecodeStream = Answers<pb::PutDocumentResponse>;
    type CompressStream = Answers<pb::CompressTextResponse>;
    type DecompressStream = Answers<pb::DecompressResponse>;
    type CheckStream = Answers<pb::CheckResponse>;

    async fn put_document(
        &self,
        request: Request<Streaming<pb::PutDocumentRequest>>,
    ) -> Result<Response<Self::PutDocumentStream>, Status> {
        use put_document_request::Part as Wire;
        self.check_room(Work::Write)?;
        let (options, text) = open(request.into_inner(), |message| match message.part {
            Some(Wire::Options(options)) => Ok(Part::Head(WriteOptions::from_wire(options)?)),
            Some(Wire::Text(text)) => Ok(Part::Body(text)),
            None => Ok(Part::Body(Bytes::new())),
        })
        .await?;
        let events = put_document(self.gateway(), options.unwrap_or_default(), text);
        answers(events, put_event)
    }

    async fn get_text(
        &self,
        request: Request<pb::GetTextRequest>,
    ) -> Result<Response<Self::GetTextStream>, Status> {
        let pb::GetTextRequest { id, start, end } = request.into_inner();
        self.check_room(Work::Read)?;
        let range = ByteRange::new(start, end)?;
        answers(get_text(self.gateway(), id, range), get_event)
    }

    async fn get_latents(
        &self,
        request: Request<pb::GetLatentsRequest>,
    ) -> Result<Response<Self::GetLatentsStream>, Status> {
        answers(get_latents(self.gateway(), request.into_inner().id), latents_event)
    }

    async fn put_latents(
        &self,
        request: Request<Streaming<pb::PutLatentsRequest>>,
    ) -> Result<Response<pb::PutLatentsResponse>, Status> {
        use put_latents_request::Part as Wire;
        self.check_room(Work::Write)?;
        let (claim, windows) = open(request.into_inner(), |message| match message.part {
            Some(Wire::Document(document)) => Ok(Part::Head(Claim::from_wire(document)?)),
            Some(Wire::Window(window)) => Ok(Part::Body(Window::from_wire(window)?)),
            None => Err(Invalid::new("part", "must be a document or a window")),
        })
        .await?;
        let claim = claim.ok_or_else(|| Invalid::new("document", "must be given first"))?;
        let document = put_latents(self.gateway(), claim, windows).await.map_err(status)?;
        Ok(Response::new(pb::PutLatentsResponse { document: Some(document) }))
    }

    async fn stat(&self, request: Request<pb::StatRequest>) -> Result<Response<pb::StatResponse>, Status> {
        self.gateway.stat(&request.into_inner().id).await.map(Response::new).map_err(status)
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<pb::ListResponse>, Status> {
        let query = ListQuery::from_wire(request.into_inner())?;
        let page = self.gateway.list(query).await.map_err(status)?;
        let next_page_token = page.next.map_or_else(String::new, |id| id.to_string());
        let damaged = page.damaged.into_iter();
        let damaged = damaged.map(|(id, problem)| pb::DamagedDocument { id: id.to_wire(), problem });
        let (documents, damaged) = (page.documents, damaged.collect());
        Ok(Response::new(pb::ListResponse { documents, next_page_token, damaged }))
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::DeleteResponse>, Status> {
        let id = self.gateway.delete(&request.into_inner().id).await.map_err(status)?;
        Ok(Response::new(pb::DeleteResponse { id: id.to_wire() }))
    }

    async fn set_name(
        &self,
        request: Request<pb::SetNameRequest>,
    ) -> Result<Response<pb::SetNameResponse>, Status> {
        let pb::SetNameRequest { namespace, name, id, expected } = request.into_inner();
        let name = DocumentName::from_wire(namespace, name)?;
        let named = self.gateway.set_name(&name, &id, &Expected::from_wire(expected)).await;
        Ok(Response::new(pb::SetNameResponse { named: Some(named.map_err(status)?) }))
    }

    async fn get_name(
        &self,
        request: Request<pb::GetNameRequest>,
    ) -> Result<Response<pb::GetNameResponse>, Status> {
        let pb::GetNameRequest { namespace, name } = request.into_inner();
        let named = self.gateway.get_name(&DocumentName::from_wire(namespace, name)?).await;
        Ok(Response::new(pb::GetNameResponse { named: Some(named.map_err(status)?) }))
    }

    async fn remove_name(
        &self,
        request: Request<pb::RemoveNameRequest>,
    ) -> Result<Response<pb::RemoveNameResponse>, Status> {
        let pb::RemoveNameRequest { namespace, name, expected } = request.into_inner();
        let name = DocumentName::from_wire(namespace, name)?;
        let id = self.gateway.remove_name(&name, &Expected::from_wire(expected)).await.map_err(status)?;
        Ok(Response::new(pb::RemoveNameResponse { id: id.to_wire() }))
    }

    async fn list_names(
        &self,
        request: Request<pb::ListNamesRequest>,
    ) -> Result<Response<pb::ListNamesResponse>, Status> {
        let pb::ListNamesRequest { namespace, prefix, page_size, page_token } = request.into_inner();
        let namespace = Namespace::from_wire(namespace)?;
        let after = Some(page_token.as_str()).filter(|token| !token.is_empty());
        let page = self.gateway.list_names(&namespace, &prefix, after, page_size).await.map_err(status)?;
        let (names, damaged) = (page.names, page.damaged);
        let next_page_token = page.next.unwrap_or_default();
        Ok(Response::new(pb::ListNamesResponse { names, next_page_token, damaged }))
    }

    async fn set_labels(
        &self,
        request: Request<pb::SetLabelsRequest>,
    ) -> Result<Response<pb::SetLabelsResponse>, Status> {
        let pb::SetLabelsRequest { id, set, remove, expected } = request.into_inner();
        let expected = Expected::from_wire(expected);
        let change = LabelsChange { set: Labels::new(set)?, remove, expected };
        self.gateway.set_labels(&id, &change).await.map(Response::new).map_err(status)
    }

    async fn totals(&self, _: Request<pb::TotalsRequest>) -> Result<Response<pb::TotalsResponse>, Status> {
        self.gateway.totals().await.map(Response::new).map_err(status)
    }

    async fn recode(
        &self,
        request: Request<pb::RecodeRequest>,
    ) -> Result<Response<Self::RecodeStream>, Status> {
        let pb::RecodeRequest { id, options } = request.into_inner();
        self.check_room(Work::Write)?;
        let mut options = options.unwrap_or_default();
        // A bound on stored bytes needs the text's size, which the document has.
        options.bytes = Some(0);
        if options.name.is_some() || !options.labels.is_empty() {
            let problem = "a recode changes no names and no labels";
            return Err(Invalid::new("options.name", problem).into());
        }
        answers(recode(self.gateway(), id, WriteOptions::from_wire(options)?), put_event)
    }

    async fn uploads(&self, _: Request<pb::UploadsRequest>) -> Result<Response<pb::UploadsResponse>, Status> {
        let uploads = self.gateway.uploads().await.map_err(status)?;
        let uploads = uploads.into_iter().map(upload).collect();
        Ok(Response::new(pb::UploadsResponse { uploads }))
    }

    async fn sweep(&self, request: Request<pb::SweepRequest>) -> Result<Response<pb::SweepResponse>, Status> {
        let grace = request.into_inner().grace_seconds.map(Duration::from_secs);
        let swept = self.gateway.sweep(grace).await.map_err(status)?;
        let Swept { condemned, removed, removed_bytes, expired, packed, unreadable } = swept;
        Ok(Response::new(pb::SweepResponse {
            condemned,
            removed,
            removed_bytes,
            expired,
            packed,
            unreadable,
        }))
    }

    async fn check(&self, request: Request<pb::CheckRequest>) -> Result<Response<Self::CheckStream>, Status> {
        let faults = if request.into_inner().repair { Faults::Repair } else { Faults::Tell };
        answers(check_store(self.gateway(), faults), check_event)
    }

    async fn compress(
        &self,
        request: Request<Streaming<pb::CompressTextRequest>>,
    ) -> Result<Response<Self::CompressStream>, Status> {
        use compress_text_request::Part as Wire;
        self.check_room(Work::Write)?;
        let (options, text) = open(request.into_inner(), |message| match message.part {
            Some(Wire::Options(options)) => Ok(Part::Head(WriteOptions::from_wire(options)?)),
            Some(Wire::Text(text)) => Ok(Part::Body(text)),
            None => Ok(Part::Body(Bytes::new())),
        })
        .await?;
        let windows = compress(self.gateway(), options.unwrap_or_default(), text);
        answers(windows, |window| pb::CompressTextResponse { window: Some(window.to_wire()) })
    }

    async fn decompress(
        &self,
        request: Request<Streaming<pb::DecompressRequest>>,
    ) -> Result<Response<Self::DecompressStream>, Status> {
        use decompress_request::Part as Wire;
        self.check_room(Work::Read)?;
        let (options, windows) = open(request.into_inner(), |message| match message.part {
            Some(Wire::Options(options)) => Ok(Part::Head(decompress_options(options))),
            Some(Wire::Window(window)) => Ok(Part::Body(Window::from_wire(window)?)),
            None => Err(Invalid::new("part", "must be options or a window")),
        })
        .await?;
        let texts = decompress(self.gateway(), options.unwrap_or_default(), windows);
        answers(texts, |text| pb::DecompressResponse { text })
    }

    async fn nodes(&self, _: Request<pb::NodesRequest>) -> Result<Response<pb::NodesResponse>, Status> {
        Ok(Response::new(pb::NodesResponse { nodes: self.gateway.nodes() }))
    }
}

/// A stream of answers.
type Answers<T> = BoxStream<'static, Result<T, Status>>;

fn answers<E: 'static, T: 'static>(
    events: impl Stream<Item = Result<E, Failure>> + Send + 'static,
    to_wire: fn(E) -> T,
) -> Result<Response<Answers<T>>, Status> {
    Ok(Response::new(events.map_ok(to_wire).map_err(status).boxed()))
}

fn status(failure: Failure) -> Status {
    failure.status()
}

/// A message of a caller's stream: what comes at most once and first, or what follows.
enum Part<H, B> {
    Head(H),
    Body(B),
}

/// Parts what comes first from what follows.
async fn open<M, H, B>(
    mut inbound: Streaming<M>,
    read: impl Fn(M) -> Result<Part<H, B>, Invalid> + Send + 'static,
) -> Result<(Option<H>, impl Stream<Item = Result<B, Failure>> + Send + 'static), Status>
where
    M: Send + 'static,
    H: Send + 'static,
    B: Send + 'static,
{
    let first = inbound.message().await?.map(&read).transpose()?;
    let (head, body) = match first {
        Some(Part::Head(head)) => (Some(head), None),
        Some(Part::Body(body)) => (None, Some(Ok(body))),
        None => (None, None),
    };
    let rest = inbound.map(move |message| match read(message.map_err(Failure::Inbound)?)? {
        Part::Body(body) => Ok(body),
        Part::Head(_) => Err(Invalid::new("part", "options or a document come first, and once").into()),
    });
    Ok((head, stream::iter(body).chain(rest)))
}

fn decompress_options(wire: pb::DecompressOptions) -> DecompressOptions {
    let tokens_max = wire.tokens_max;
    DecompressOptions {
        cascade: Some(wire.cascade).filter(|name| !name.is_empty()),
        prompt: wire.prompt.map(|text| Prompt { text, tokens_max }),
    }
}

fn put_event(event: PutEvent) -> pb::PutDocumentResponse {
    use put_document_response::Event;
    let event = match event {
        PutEvent::Progress { progress, upload } => Event::Progress(pb::PutProgress {
            bytes_done: progress.bytes,
            tokens_done: progress.tokens,
            bytes_reused: progress.bytes_reused,
            seconds_left: progress.left.map(|left| left.as_secs_f64()),
            upload: upload.map_or_else(String::new, |name| name.to_string()),
        }),
        PutEvent::Done(put) => Event::Result(put_result(*put)),
    };
    pb::PutDocumentResponse { event: Some(event) }
}

fn put_result(put: Put) -> pb::PutResult {
    let seconds = |duration: Duration| duration.as_secs_f64();
    pb::PutResult {
        document: Some(put.document),
        shards_reused: put.shards_reused,
        seconds: Some(pb::StageSeconds {
            compress: seconds(put.times.compress),
            verify: seconds(put.times.verify),
            store: seconds(put.times.store),
        }),
        bound_met: put.bound_met,
    }
}

fn upload(record: UploadRecord) -> pb::Upload {
    let UploadRecord { name, options, so_far } = record;
    pb::Upload {
        name: name.to_string(),
        bytes_done: so_far.bytes(),
        tokens_done: so_far.shards.iter().map(|shard| shard.tokens).sum(),
        options: Some(options.to_wire()),
        expires_unix_ms: so_far.expires_unix_ms.unwrap_or_default(),
    }
}

fn get_event(event: GetEvent) -> pb::GetTextResponse {
    use get_text_response::Part;
    let part = match event {
        GetEvent::Header { document, range } => {
            Part::Header(pb::TextHeader { document: Some(*document), start: range.start, end: range.end })
        }
        GetEvent::Text(text) => Part::Text(text),
    };
    pb::GetTextResponse { part: Some(part) }
}

fn check_event(event: CheckEvent) -> pb::CheckResponse {
    use check_response::Part;
    let part = match event {
        CheckEvent::Finding(Finding { object, problem, touches, repaired }) => Part::Finding(pb::Finding {
            object,
            problem,
            document: touches.map_or_else(Bytes::new, |touched| touched.document.to_wire()),
            first_window: touches.map_or(0, |touched| touched.first_window),
            windows: touches.map_or(0, |touched| touched.windows),
            repaired,
        }),
        CheckEvent::Done(Counts { objects, documents }) => {
            Part::Summary(pb::CheckSummary { objects, documents })
        }
    };
    pb::CheckResponse { part: Some(part) }
}

fn latents_event(event: LatentsEvent) -> pb::GetLatentsResponse {
    use get_latents_response::Part;
    let part = match event {
        LatentsEvent::Document(document) => Part::Document(document),
        LatentsEvent::Window(window) => Part::Window(window.to_wire()),
    };
    pb::GetLatentsResponse { part: Some(part) }
}
