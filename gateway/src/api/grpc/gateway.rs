//! The `c3.v1.Gateway` service.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use c3_proto::pb::{
    self, compress_text_request, decompress_request, get_latents_response, get_text_response, put_document_request,
    put_latents_request,
};
use c3_proto::{FromWire, ToWire};
use c3_routing::RequestClass;
use c3_server::ServiceError;
use c3_server::access::Caller;
use c3_types::{
    ByteRange, DecompressOptions, Document, DocumentName, Expected, FsckEvent, FsckMode, Invalid, Labels, ListQuery,
    Namespace, SearchQuery, Window, WriteOptions,
};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, future};
use tonic::{Request, Response, Status, Streaming};

use super::inbound::{Part, split};
use crate::documents::maintenance::fsck;
use crate::documents::names::{LabelsChange, Removal};
use crate::error::Error;
use crate::ingest::compress::compress;
use crate::ingest::document::put_document;
use crate::ingest::latents::put_latents;
use crate::ingest::recode::recode;
use crate::read::decompress::decompress;
use crate::read::document::{GetEvent, get_text};
use crate::read::latents::{LatentsEvent, get_latents};
use crate::search::find::find;
use crate::search::reindex::{Reindexed, reindex};
use crate::search::reindex_job;
use crate::state::SharedGateway;
use crate::tenants::SharedTenants;

/// Implements the service with calls of the domain functions.
pub(super) struct GatewayService {
    tenants: SharedTenants,
}

impl GatewayService {
    pub(super) fn new(tenants: SharedTenants) -> Self {
        Self { tenants }
    }

    /// Returns the state of the tenant that makes the call.
    fn gateway<T>(&self, request: &Request<T>) -> Result<SharedGateway, Status> {
        self.tenants.of_caller(request.extensions()).map_err(status)
    }
}

/// Names the object of a call for the audit log.
fn about<T>(request: &Request<T>, subject: impl Into<String>) {
    if let Some(caller) = request.extensions().get::<Arc<Caller>>() {
        caller.about(subject);
    }
}

/// Stream of response messages.
type Responses<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl pb::gateway_server::Gateway for GatewayService {
    type PutDocumentStream = Responses<pb::PutDocumentResponse>;
    type GetTextStream = Responses<pb::GetTextResponse>;
    type GetLatentsStream = Responses<pb::GetLatentsResponse>;
    type RecodeStream = Responses<pb::PutDocumentResponse>;
    type CompressStream = Responses<pb::CompressTextResponse>;
    type DecompressStream = Responses<pb::DecompressResponse>;
    type CheckStream = Responses<pb::CheckResponse>;

    async fn put_document(
        &self,
        request: Request<Streaming<pb::PutDocumentRequest>>,
    ) -> Result<Response<Self::PutDocumentStream>, Status> {
        let gateway = self.gateway(&request)?;
        use put_document_request::Part as Wire;
        gateway.admit(RequestClass::Write).map_err(status)?;
        let (options, text) = split(request.into_inner(), |message| match message.part {
            Some(Wire::Options(options)) => Ok(Part::Head(WriteOptions::from_wire(options)?)),
            Some(Wire::Text(text)) => Ok(Part::Body(text)),
            None => Ok(Part::Body(Bytes::new())),
        })
        .await?;
        let events = put_document(gateway, options.unwrap_or_default(), text);
        respond(events, |event| event.to_wire())
    }

    async fn get_text(&self, request: Request<pb::GetTextRequest>) -> Result<Response<Self::GetTextStream>, Status> {
        let gateway = self.gateway(&request)?;
        let pb::GetTextRequest { id, start, end } = request.into_inner();
        gateway.admit(RequestClass::Read).map_err(status)?;
        let range = ByteRange::new(start, end).map_err(invalid)?;
        respond(get_text(gateway, id, range), get_event)
    }

    async fn get_latents(
        &self,
        request: Request<pb::GetLatentsRequest>,
    ) -> Result<Response<Self::GetLatentsStream>, Status> {
        let gateway = self.gateway(&request)?;
        respond(get_latents(gateway, request.into_inner().id), latents_event)
    }

    async fn put_latents(
        &self,
        request: Request<Streaming<pb::PutLatentsRequest>>,
    ) -> Result<Response<pb::PutLatentsResponse>, Status> {
        let gateway = self.gateway(&request)?;
        use put_latents_request::Part as Wire;
        gateway.admit(RequestClass::Write).map_err(status)?;
        let (document, windows) = split(request.into_inner(), |message| match message.part {
            Some(Wire::Document(document)) => Ok(Part::Head(Document::from_wire(document)?)),
            Some(Wire::Window(window)) => Ok(Part::Body(Window::from_wire(window)?)),
            None => Err(Invalid::new("part", "must be a document or a window")),
        })
        .await?;
        let document = document.ok_or_else(|| invalid(Invalid::new("document", "must be the first message")))?;
        let document = put_latents(gateway, document, windows).await.map_err(status)?;
        Ok(Response::new(pb::PutLatentsResponse { document: Some(document.to_wire()) }))
    }

    async fn stat(&self, request: Request<pb::StatRequest>) -> Result<Response<pb::StatResponse>, Status> {
        let gateway = self.gateway(&request)?;
        let (document, labels_token) = gateway.stat(&request.into_inner().id).await.map_err(status)?;
        let labels_token = labels_token.unwrap_or_default();
        Ok(Response::new(pb::StatResponse { document: Some(document.to_wire()), labels_token }))
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<pb::ListResponse>, Status> {
        let gateway = self.gateway(&request)?;
        let query = ListQuery::from_wire(request.into_inner()).map_err(invalid)?;
        let page = gateway.list(query).await.map_err(status)?;
        Ok(Response::new(page.to_wire()))
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> Result<Response<pb::DeleteResponse>, Status> {
        let gateway = self.gateway(&request)?;
        about(&request, &request.get_ref().id);
        let id = gateway.delete(&request.into_inner().id).await.map_err(status)?;
        Ok(Response::new(pb::DeleteResponse { id: id.to_wire(), hex_id: id.to_string() }))
    }

    async fn search(&self, request: Request<pb::SearchRequest>) -> Result<Response<pb::SearchResponse>, Status> {
        let gateway = self.gateway(&request)?;
        gateway.admit(RequestClass::Read).map_err(status)?;
        let query = SearchQuery::from_wire(request.into_inner()).map_err(invalid)?;
        Ok(Response::new(find(gateway, query).await.map_err(status)?.to_wire()))
    }

    async fn reindex(&self, request: Request<pb::ReindexRequest>) -> Result<Response<pb::ReindexResponse>, Status> {
        let gateway = self.gateway(&request)?;
        about(&request, &request.get_ref().id);
        let Reindexed { id, windows } = reindex(gateway, request.into_inner().id).await.map_err(status)?;
        Ok(Response::new(pb::ReindexResponse { id: id.to_wire(), hex_id: id.to_string(), windows }))
    }

    async fn start_reindex(
        &self,
        request: Request<pb::StartReindexRequest>,
    ) -> Result<Response<pb::StartReindexResponse>, Status> {
        let gateway = self.gateway(&request)?;
        let job = reindex_job::start(&gateway).map_err(status)?;
        Ok(Response::new(pb::StartReindexResponse { job: Some(job.to_wire()) }))
    }

    async fn get_reindex(
        &self,
        request: Request<pb::GetReindexRequest>,
    ) -> Result<Response<pb::GetReindexResponse>, Status> {
        let gateway = self.gateway(&request)?;
        Ok(Response::new(pb::GetReindexResponse { job: Some(gateway.reindex.job().to_wire()) }))
    }

    async fn set_name(&self, request: Request<pb::SetNameRequest>) -> Result<Response<pb::SetNameResponse>, Status> {
        let gateway = self.gateway(&request)?;
        let pb::SetNameRequest { namespace, name, id, expected } = request.into_inner();
        let name = DocumentName::from_wire((namespace, name)).and_then(DocumentName::checked_as_new);
        let name = name.map_err(invalid)?;
        let named = gateway.set_name(&name, &id, &Expected::from_token(expected)).await;
        Ok(Response::new(pb::SetNameResponse { named: Some(named.map_err(status)?.to_wire()) }))
    }

    async fn get_name(&self, request: Request<pb::GetNameRequest>) -> Result<Response<pb::GetNameResponse>, Status> {
        let gateway = self.gateway(&request)?;
        let pb::GetNameRequest { namespace, name } = request.into_inner();
        let name = DocumentName::from_wire((namespace, name)).map_err(invalid)?;
        let named = gateway.get_name(&name).await.map_err(status)?;
        Ok(Response::new(pb::GetNameResponse { named: Some(named.to_wire()) }))
    }

    async fn remove_name(
        &self,
        request: Request<pb::RemoveNameRequest>,
    ) -> Result<Response<pb::RemoveNameResponse>, Status> {
        let gateway = self.gateway(&request)?;
        let caller = request.extensions().get::<Arc<Caller>>().cloned();
        let pb::RemoveNameRequest { namespace, name, expected } = request.into_inner();
        let name = DocumentName::from_wire((namespace, name)).map_err(invalid)?;
        if let Some(caller) = caller {
            caller.about(name.to_string());
        }
        let id = gateway.remove_name(&name, &Expected::from_token(expected)).await.map_err(status)?;
        Ok(Response::new(pb::RemoveNameResponse { id: id.to_wire(), hex_id: id.to_string() }))
    }

    async fn list_names(
        &self,
        request: Request<pb::ListNamesRequest>,
    ) -> Result<Response<pb::ListNamesResponse>, Status> {
        let gateway = self.gateway(&request)?;
        let pb::ListNamesRequest { namespace, prefix, page_size, page_token } = request.into_inner();
        let namespace = Namespace::from_wire(namespace).map_err(invalid)?;
        let after = Some(page_token.as_str()).filter(|token| !token.is_empty());
        let page = gateway.list_names(&namespace, &prefix, after, page_size).await.map_err(status)?;
        Ok(Response::new(page.to_wire()))
    }

    async fn set_labels(
        &self,
        request: Request<pb::SetLabelsRequest>,
    ) -> Result<Response<pb::SetLabelsResponse>, Status> {
        let gateway = self.gateway(&request)?;
        let pb::SetLabelsRequest { id, set, remove, expected } = request.into_inner();
        let set = Labels::new(set).map_err(invalid)?;
        let change = LabelsChange { set, remove: Removal::Keys(remove), expected: Expected::from_token(expected) };
        let labels = gateway.set_labels(&id, &change).await.map_err(status)?;
        Ok(Response::new(labels.to_wire()))
    }

    async fn totals(&self, request: Request<pb::TotalsRequest>) -> Result<Response<pb::TotalsResponse>, Status> {
        let gateway = self.gateway(&request)?;
        gateway.totals().await.map(|totals| Response::new(totals.to_wire())).map_err(status)
    }

    async fn recode(&self, request: Request<pb::RecodeRequest>) -> Result<Response<Self::RecodeStream>, Status> {
        let gateway = self.gateway(&request)?;
        let pb::RecodeRequest { id, options } = request.into_inner();
        gateway.admit(RequestClass::Write).map_err(status)?;
        let mut options = options.unwrap_or_default();
        // Placeholder: options with a bound on stored bytes must have a text size. `recode` later sets the real size.
        options.bytes = Some(0);
        let options = WriteOptions::from_wire(options).map_err(invalid)?;
        respond(recode(gateway, id, options), |event| event.to_wire())
    }

    async fn uploads(&self, request: Request<pb::UploadsRequest>) -> Result<Response<pb::UploadsResponse>, Status> {
        let gateway = self.gateway(&request)?;
        let uploads = gateway.uploads().await.map_err(status)?;
        let uploads = uploads.iter().map(ToWire::to_wire).collect();
        Ok(Response::new(pb::UploadsResponse { uploads }))
    }

    async fn sweep(&self, request: Request<pb::SweepRequest>) -> Result<Response<pb::SweepResponse>, Status> {
        let gateway = self.gateway(&request)?;
        let grace = request.into_inner().grace_seconds.map(Duration::from_secs);
        let summary = gateway.collect_garbage(grace).await.map_err(status)?;
        Ok(Response::new(summary.to_wire()))
    }

    async fn check(&self, request: Request<pb::CheckRequest>) -> Result<Response<Self::CheckStream>, Status> {
        let gateway = self.gateway(&request)?;
        let request = request.into_inner();
        let with_progress = request.with_progress;
        let mode = FsckMode::from_wire(request).map_err(invalid)?;
        let is_wanted = move |event: &FsckEvent| with_progress || !matches!(event, FsckEvent::Progress { .. });
        let events = fsck(gateway, mode).try_filter(move |event| future::ready(is_wanted(event)));
        respond(events, |event| event.to_wire())
    }

    async fn compress(
        &self,
        request: Request<Streaming<pb::CompressTextRequest>>,
    ) -> Result<Response<Self::CompressStream>, Status> {
        let gateway = self.gateway(&request)?;
        use compress_text_request::Part as Wire;
        gateway.admit(RequestClass::Write).map_err(status)?;
        let (options, text) = split(request.into_inner(), |message| match message.part {
            Some(Wire::Options(options)) => Ok(Part::Head(WriteOptions::from_wire(options)?)),
            Some(Wire::Text(text)) => Ok(Part::Body(text)),
            None => Ok(Part::Body(Bytes::new())),
        })
        .await?;
        let windows = compress(gateway, options.unwrap_or_default(), text);
        respond(windows, |window| pb::CompressTextResponse { window: Some(window.to_wire()) })
    }

    async fn decompress(
        &self,
        request: Request<Streaming<pb::DecompressRequest>>,
    ) -> Result<Response<Self::DecompressStream>, Status> {
        let gateway = self.gateway(&request)?;
        use decompress_request::Part as Wire;
        gateway.admit(RequestClass::Read).map_err(status)?;
        let (options, windows) = split(request.into_inner(), |message| match message.part {
            Some(Wire::Options(options)) => Ok(Part::Head(DecompressOptions::from_wire(options)?)),
            Some(Wire::Window(window)) => Ok(Part::Body(Window::from_wire(window)?)),
            None => Err(Invalid::new("part", "must be options or a window")),
        })
        .await?;
        let texts = decompress(gateway, options.unwrap_or_default(), windows);
        respond(texts, |text| pb::DecompressResponse { text })
    }

    async fn nodes(&self, request: Request<pb::NodesRequest>) -> Result<Response<pb::NodesResponse>, Status> {
        let gateway = self.gateway(&request)?;
        let nodes = gateway.router.nodes().iter().map(|node| node.to_wire()).collect();
        let node_wait_ms = gateway.router.node_wait().as_millis() as u64;
        Ok(Response::new(pb::NodesResponse { nodes, node_wait_ms }))
    }
}

fn respond<E: 'static, T: 'static>(
    events: impl Stream<Item = Result<E, Error>> + Send + 'static,
    to_wire: fn(E) -> T,
) -> Result<Response<Responses<T>>, Status> {
    Ok(Response::new(events.map_ok(to_wire).map_err(status).boxed()))
}

fn status(error: Error) -> Status {
    error.status()
}

fn invalid(invalid: Invalid) -> Status {
    invalid.status()
}

fn get_event(event: GetEvent) -> pb::GetTextResponse {
    use get_text_response::Part;
    let part = match event {
        GetEvent::Header { document, range } => {
            Part::Header(pb::TextHeader { document: Some(document.to_wire()), start: range.start, end: range.end })
        }
        GetEvent::Text(piece) => Part::Text(piece.text),
    };
    pb::GetTextResponse { part: Some(part) }
}

fn latents_event(event: LatentsEvent) -> pb::GetLatentsResponse {
    use get_latents_response::Part;
    let part = match event {
        LatentsEvent::Document(document) => Part::Document(document.to_wire()),
        LatentsEvent::Window(window) => Part::Window(window.to_wire()),
    };
    pb::GetLatentsResponse { part: Some(part) }
}
