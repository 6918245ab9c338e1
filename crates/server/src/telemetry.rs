//! Logs on stderr, as text or JSON, and traces over OTLP if an endpoint is set.

use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Level;
use tracing_subscriber::filter::{FilterFn, ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer};
use uuid::Uuid;

/// Maximum wait at shutdown for the exporter to send the last spans.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings of logs and traces.
#[derive(clap::Args, Clone, Debug)]
pub struct TelemetryConfig {
    /// Format of log lines
    #[arg(long, env = "C3_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// Filter for log lines, for example `info` or `warn,c3_gateway=debug`
    #[arg(long, env = "C3_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// URL of an OTLP gRPC receiver to send traces to, for example http://localhost:4317
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Name of this program in traces [default: c3- and its role, for example c3-gateway]
    #[arg(long, env = "OTEL_SERVICE_NAME", value_name = "NAME")]
    pub service_name: Option<String>,
}

/// Format of log lines. Text has colours on a terminal, unless NO_COLOR is set or TERM is `dumb`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Human-readable text
    #[default]
    Human,
    /// One JSON object per line
    Json,
}

/// Reason why telemetry did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log filter does not parse.
    #[error("invalid log filter `{filter}` ({source}): give one like `info` or `warn,c3_gateway=debug`")]
    Filter {
        /// The filter as given.
        filter: String,
        /// The parser's error.
        source: ParseError,
    },
    /// The OTLP exporter could not be built.
    #[error("cannot send traces to `{endpoint}` ({source}): give a URL like http://localhost:4317")]
    Otlp {
        /// The endpoint as given.
        endpoint: String,
        /// The exporter's error.
        source: ExporterBuildError,
    },
    /// Telemetry can start only once per process.
    #[error("telemetry already started in this process: {0}")]
    Started(#[from] TryInitError),
}

/// Guard of a program's telemetry. Dropping it flushes spans and may block the thread for up to 5 seconds; async code
/// must call [`Telemetry::shutdown`] instead.
#[derive(Debug)]
#[must_use = "traces end when this is dropped"]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts logs, and traces if an endpoint is set. Must be called inside a tokio runtime, once per process.
    pub fn start(role: &'static str, config: &TelemetryConfig) -> Result<Self, Error> {
        let filter = EnvFilter::try_new(filter(&config.log))
            .map_err(|source| Error::Filter { filter: config.log.clone(), source })?;
        let traces = match &config.otlp_endpoint {
            Some(endpoint) => Some(tracer_provider(endpoint, resource(role, config.service_name.as_deref()))?),
            None => None,
        };
        let spans = traces.as_ref().map(|provider| {
            let tracer = provider.tracer("c3");
            tracing_opentelemetry::layer().with_tracer(tracer).with_filter(own_spans())
        });
        tracing_subscriber::registry().with(spans).with(log_layer(config.log_format).with_filter(filter)).try_init()?;
        Ok(Self { traces })
    }

    /// Flushes spans, for at most 5 seconds. Waits on a blocking thread, since the runtime must stay free to send them.
    pub async fn shutdown(mut self) {
        if let Some(traces) = self.traces.take() {
            // The exporter logs its own failures.
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

/// Returns the attributes of this process. `OTEL_RESOURCE_ATTRIBUTES` overrides the defaults, `service_name` overrides
/// both.
fn resource(role: &str, service_name: Option<&str>) -> Resource {
    let defaults = [
        KeyValue::new("service.name", format!("c3-{role}")),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", Uuid::new_v4().to_string()),
    ];
    let given = service_name.filter(|name| !name.is_empty());
    Resource::builder_empty()
        .with_attributes(defaults)
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())])
        .with_attributes(given.map(|name| KeyValue::new("service.name", name.to_owned())))
        .build()
}

/// Libraries of whose events a peer could fill the log, and their default levels. rustls warns of every odd handshake;
/// rmcp reports every session, and warns of odd requests.
const NOISY: [(&str, &str); 2] = [("rustls", "off"), ("rmcp", "error")];

/// Adds to a log filter the levels of [`NOISY`] libraries, except those that the filter names.
fn filter(given: &str) -> String {
    let quiet = NOISY.iter().filter(|(library, _)| !given.contains(library));
    quiet.fold(given.to_owned(), |filter, (library, level)| format!("{filter},{library}={level}"))
}

fn tracer_provider(endpoint: &str, resource: Resource) -> Result<SdkTracerProvider, Error> {
    let mut exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint);
    if endpoint.starts_with("https://") {
        exporter = exporter.with_tls_config(ClientTlsConfig::new().with_native_roots());
    }
    let exporter = exporter.build().map_err(|source| Error::Otlp { endpoint: endpoint.to_owned(), source })?;
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// Accepts spans up to debug level and events up to info level, of our own crates only. The gRPC client that exports
/// spans creates spans itself, and exporting these would create further spans without end.
fn own_spans() -> FilterFn {
    filter_fn(|metadata| {
        let level_max = if metadata.is_span() { Level::DEBUG } else { Level::INFO };
        metadata.target().starts_with("c3") && *metadata.level() <= level_max
    })
}

fn log_layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    // To stderr, because stdout is reserved for a command's output.
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Human => lines.with_ansi(AutoStream::choice(&std::io::stderr()) != ColorChoice::Never).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::Key;

    use super::*;

    #[test]
    fn a_given_name_replaces_the_role_and_every_process_has_its_own_instance_id() {
        let of = |key, resource: &Resource| resource.get(&Key::new(key)).unwrap().to_string();
        let [default, empty, given] = [None, Some(""), Some("books")].map(|name| resource("gateway", name));
        let names = [&default, &empty, &given].map(|resource| of("service.name", resource));
        assert_eq!(names, ["c3-gateway", "c3-gateway", "books"]);
        assert_ne!(of("service.instance.id", &default), of("service.instance.id", &given));
    }

    #[test]
    fn noisy_libraries_need_a_filter_that_names_them() {
        assert_eq!(filter("info"), "info,rustls=off,rmcp=error");
        assert_eq!(filter("info,rustls=debug"), "info,rustls=debug,rmcp=error");
    }
}
