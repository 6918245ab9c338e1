//! Logs on stderr, for people or as JSON, and traces over OTLP where an endpoint is set.

use std::{io::IsTerminal, time::Duration};

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::Level;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterFn, ParseError, filter_fn},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::{SubscriberInitExt, TryInitError},
};

/// How long a program that ends waits for its last spans to be taken.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// What a program tells about itself, and how.
#[derive(clap::Args, Clone, Debug)]
pub struct TelemetryConfig {
    /// How log lines are written
    #[arg(long, env = "C3_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// Which log lines are written, for example `info` or `warn,c3_gateway=debug`
    #[arg(long, env = "C3_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// Where traces go: the URL of an OTLP gRPC receiver, for example http://localhost:4317
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// How log lines are written.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people
    #[default]
    Human,
    /// One JSON object a line
    Json,
}

/// Why telemetry did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log filter is not one.
    #[error("log filter `{filter}` is wrong ({source}): give one like `info` or `warn,c3_gateway=debug`")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The OTLP exporter could not be made.
    #[error("cannot send traces to `{endpoint}` ({source}): give a URL like http://localhost:4317")]
    Otlp {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        source: ExporterBuildError,
    },
    /// Telemetry is one a process.
    #[error("telemetry was started before in this process: {0}")]
    Started(#[from] TryInitError),
}

/// The guard of a program's telemetry; spans that are not sent yet are sent when it goes.
#[derive(Debug)]
#[must_use = "traces end when this is dropped"]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts logs, and traces where an endpoint is set. Must run inside a tokio runtime, once a process.
    pub fn start(role: &'static str, config: &TelemetryConfig) -> Result<Self, Error> {
        let filter = EnvFilter::try_new(&config.log)
            .map_err(|source| Error::Filter { filter: config.log.clone(), source })?;
        let traces = match &config.otlp_endpoint {
            Some(endpoint) => Some(tracer_provider(role, endpoint)?),
            None => None,
        };
        let spans = traces.as_ref().map(|provider| {
            let tracer = provider.tracer("c3");
            tracing_opentelemetry::layer().with_tracer(tracer).with_filter(ours())
        });
        tracing_subscriber::registry()
            .with(spans)
            .with(log_layer(config.log_format).with_filter(filter))
            .try_init()?;
        Ok(Self { traces })
    }

    /// Sends what is not sent yet, without holding up the runtime that sends it.
    pub async fn shutdown(mut self) {
        if let Some(traces) = self.traces.take() {
            // A failure is told by the exporter's own log lines; a task that only flushes has nothing to add.
            let _ = tokio::task::spawn_blocking(move || traces.shutdown_with_timeout(FLUSH_TIMEOUT)).await;
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(traces) = self.traces.take() {
            let _ = traces.shutdown_with_timeout(FLUSH_TIMEOUT);
        }
    }
}

fn tracer_provider(role: &'static str, endpoint: &str) -> Result<SdkTracerProvider, Error> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|source| Error::Otlp { endpoint: endpoint.to_owned(), source })?;
    let resource = Resource::builder().with_service_name(format!("c3-{role}")).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// Spans of ours only, whatever the log shows of them: those of the transport would trace the sending of traces.
fn ours() -> FilterFn {
    filter_fn(|metadata| {
        let level_max = if metadata.is_span() { Level::DEBUG } else { Level::INFO };
        metadata.target().starts_with("c3") && *metadata.level() <= level_max
    })
}

fn log_layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    // Stderr: stdout belongs to what a command answers.
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
}
