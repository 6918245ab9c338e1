//! OTLP receiver. Keeps the spans that the programs under test export.

use std::fs;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::harness::certificates::Certificates;

/// A received span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// `service.name` of the program that exported the span; empty if missing.
    pub service: String,
    /// `service.instance.id` of the process that exported the span; empty if missing.
    pub instance: String,
    /// Trace id.
    pub trace: Vec<u8>,
    /// Span id.
    pub id: Vec<u8>,
    /// Parent span id; empty for a root span.
    pub parent: Vec<u8>,
    /// Span name.
    pub name: String,
}

/// OTLP receiver that listens until it is dropped.
#[derive(Debug)]
pub struct Receiver {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
    server: JoinHandle<()>,
}

impl Receiver {
    /// Starts a receiver on a free loopback port.
    pub async fn start() -> Result<Self> {
        Self::start_with("http", Server::builder()).await
    }

    /// Starts a receiver on a free loopback port that speaks only TLS, with the certificate of nodes.
    pub async fn start_over_tls(certificates: &Certificates) -> Result<Self> {
        let [cert, key] = ["node.pem", "node.key"].map(|file| fs::read(certificates.path(file)));
        let config = ServerTlsConfig::new().identity(Identity::from_pem(cert?, key?));
        Self::start_with("https", Server::builder().tls_config(config)?).await
    }

    async fn start_with(scheme: &str, mut server: Server) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("{scheme}://{}", listener.local_addr()?);
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let service = TraceServiceServer::new(Collector(spans.clone()));
        let serving = server.add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move {
            if let Err(error) = serving.await {
                eprintln!("the OTLP receiver ended: {error}");
            }
        });
        Ok(Self { url, spans, server })
    }

    /// Returns the URL of the receiver, for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the spans received so far.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().expect("no holder of the lock panics").clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.0.lock().expect("no holder of the lock panics");
        for of_resource in request.into_inner().resource_spans {
            let [service, instance] =
                ["service.name", "service.instance.id"].map(|key| attribute(of_resource.resource.as_ref(), key));
            for span in of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans) {
                spans.push(Span {
                    service: service.clone(),
                    instance: instance.clone(),
                    trace: span.trace_id,
                    id: span.span_id,
                    parent: span.parent_span_id,
                    name: span.name,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn attribute(resource: Option<&Resource>, key: &str) -> String {
    let attributes = resource.map(|resource| resource.attributes.as_slice()).unwrap_or_default();
    let named = attributes.iter().find(|attribute| attribute.key == key);
    match named.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(name)) => name.clone(),
        _ => String::new(),
    }
}
