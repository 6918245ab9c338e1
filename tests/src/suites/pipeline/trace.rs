//! Tracing: the spans that a put and a get cause in all four programs form one trace.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::harness::cluster::ClusterSpec;
use crate::harness::otlp::{Receiver, Span};
use crate::harness::process::{Launch, Program};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;

/// Maximum time until the programs have exported their spans.
const EXPORT_LIMIT: Duration = Duration::from_secs(60);
/// Pairs of a server and its caller. A span of the caller is the parent of the server's outermost span.
const CALLERS: [(&str, &str); 3] = [("c3-gateway", CLI), ("c3-compressor", "c3-gateway"), ("c3-decoder", "c3-gateway")];
/// `service.name` of the program that starts the trace.
const CLI: &str = "c3-cli";

/// Puts and gets a file with one `c3` process while all programs export their spans to a receiver; the spans must form
/// one trace, in which each server's spans descend from those of its caller.
pub async fn trace(file: &Path) -> Result<Vec<Quantity>> {
    let receiver = Receiver::start().await?;
    let env = vec![("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), receiver.url().to_owned())];
    let cluster = ClusterSpec { env: env.clone(), ..ClusterSpec::default() }.start().await?;
    let c3 = Launch::new(Program::C3).args(["roundtrip", "--gateway", &cluster.gateway.url()]).arg(file);
    let c3 = env.into_iter().fold(c3, |c3, (name, value)| c3.env(name, value));
    let output = c3.output().await?;
    ensure!(output.status.success(), "c3 failed: {}", String::from_utf8_lossy(&output.stderr));

    let all: BTreeSet<_> = CALLERS.iter().flat_map(|&(called, by)| [called, by]).collect();
    let whole = until("spans of all programs and their parents", EXPORT_LIMIT, async || {
        let spans = receiver.spans();
        let trace = Trace::of(&spans);
        (trace.programs() == all && trace.orphans().is_empty()).then_some(())
    });
    // If spans are missing, the quantities below show it.
    let _ = whole.await;
    let spans = receiver.spans();
    let trace = Trace::of(&spans);
    let traces = spans.iter().filter(|span| span.service == CLI).map(|span| &span.trace).collect::<BTreeSet<_>>();
    let mut quantities = vec![
        Quantity::equal("trace-count", traces.len(), 1),
        Quantity::equal("trace-programs", trace.programs(), all),
        Quantity::equal("trace-roots", trace.roots(), vec![CLI]),
        Quantity::equal("trace-spans-without-their-parent", trace.orphans(), Vec::new()),
    ];
    quantities.extend(CALLERS.map(|(called, by)| {
        Quantity::equal(format!("trace-clients-of-{called}"), trace.clients(called), BTreeSet::from([by]))
    }));
    Ok(quantities)
}

/// Spans of the trace that `c3` started, by span id.
struct Trace<'a>(HashMap<&'a [u8], &'a Span>);

impl<'a> Trace<'a> {
    fn of(spans: &'a [Span]) -> Self {
        let trace = spans.iter().find(|span| span.service == CLI).map(|span| &span.trace);
        let of_trace = spans.iter().filter(|span| Some(&span.trace) == trace);
        Self(of_trace.map(|span| (span.id.as_slice(), span)).collect())
    }

    fn programs(&self) -> BTreeSet<&'a str> {
        self.0.values().map(|span| span.service.as_str()).collect()
    }

    /// Returns the programs of the root spans.
    fn roots(&self) -> Vec<&'a str> {
        self.0.values().filter(|span| span.parent.is_empty()).map(|span| span.service.as_str()).collect()
    }

    /// Returns the names and programs of the spans whose parent span has not arrived.
    fn orphans(&self) -> Vec<String> {
        let lost = |span: &&&Span| !span.parent.is_empty() && !self.0.contains_key(span.parent.as_slice());
        self.0.values().filter(lost).map(|span| format!("{} of {}", span.name, span.service)).collect()
    }

    /// Returns the other programs whose spans are parents of this program's spans.
    fn clients(&self, program: &str) -> BTreeSet<&'a str> {
        let spans = self.0.values().filter(|span| span.service == program);
        let parents = spans.filter_map(|span| self.0.get(span.parent.as_slice()));
        parents.map(|parent| parent.service.as_str()).filter(|&caller| caller != program).collect()
    }
}
