//! Encoder of the [OpenMetrics](https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md) text
//! format 1.0, which can carry exemplars. The `prometheus` crate writes only Prometheus' own text format.

use std::fmt::{self, Write};

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use super::exemplars::{self, Exemplar};

/// Media type of the format.
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text";
/// Content type of a page in the format.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Encodes the families. Histograms of [`super::Durations`] carry exemplars. Leaves out summaries, which no instrument
/// of this project makes.
pub(super) fn encode(families: &[MetricFamily]) -> Result<String, fmt::Error> {
    let mut page = String::new();
    for family in families {
        // The name of a counter is the name of its samples without this ending.
        let (kind, name) = match family.get_field_type() {
            MetricType::COUNTER => ("counter", family.name().strip_suffix("_total").unwrap_or(family.name())),
            MetricType::GAUGE => ("gauge", family.name()),
            MetricType::HISTOGRAM => ("histogram", family.name()),
            MetricType::UNTYPED => ("unknown", family.name()),
            MetricType::SUMMARY => continue,
        };
        writeln!(page, "# TYPE {name} {kind}")?;
        writeln!(page, "# HELP {name} {}", escaped(family.help()))?;
        for metric in family.get_metric() {
            match family.get_field_type() {
                MetricType::COUNTER => {
                    sample(&mut page, name, "_total", metric, None, metric.get_counter().get_value())?
                }
                MetricType::HISTOGRAM => histogram(&mut page, name, metric)?,
                _ => sample(&mut page, name, "", metric, None, metric.get_gauge().get_value())?,
            }
        }
    }
    page.push_str("# EOF\n");
    Ok(page)
}

fn histogram(page: &mut String, name: &str, metric: &Metric) -> fmt::Result {
    let histogram = metric.get_histogram();
    let exemplars = exemplars::of_series(name, metric.get_label().iter().map(|label| (label.name(), label.value())));
    let count = histogram.get_sample_count();
    let bounded = histogram.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
    let bounded = bounded.filter(|(bound, _)| bound.is_finite());
    for (number, (bound, count)) in bounded.chain([(f64::INFINITY, count)]).enumerate() {
        let exemplar = exemplars.and_then(|exemplars| exemplars.get(number).copied().flatten());
        sample(page, name, "_bucket", metric, Some((bound, exemplar)), count as f64)?;
    }
    sample(page, name, "_sum", metric, None, histogram.get_sample_sum())?;
    sample(page, name, "_count", metric, None, count as f64)
}

/// Writes a sample. `bucket` is the upper bound of a histogram's bucket, and its exemplar.
fn sample(
    page: &mut String,
    name: &str,
    ending: &str,
    metric: &Metric,
    bucket: Option<(f64, Option<Exemplar>)>,
    value: f64,
) -> fmt::Result {
    let label = |label: &LabelPair| format!("{}=\"{}\"", label.name(), escaped(label.value()));
    let mut labels = Vec::from_iter(metric.get_label().iter().map(label));
    labels.extend(bucket.map(|(bound, _)| format!("le=\"{}\"", number(bound, true))));
    write!(page, "{name}{ending}")?;
    if !labels.is_empty() {
        write!(page, "{{{}}}", labels.join(","))?;
    }
    write!(page, " {}", number(value, false))?;
    if let Some((_, Some(Exemplar { trace, seconds, time }))) = bucket {
        write!(page, " # {{trace_id=\"{trace}\"}} {seconds} {time:.3}")?;
    }
    page.push('\n');
    Ok(())
}

/// Formats a number. Bounds of buckets always have a decimal point.
fn number(value: f64, is_bound: bool) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        _ if is_bound => format!("{value:?}"),
        _ => value.to_string(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use prometheus::{Gauge, Histogram, HistogramOpts, IntCounterVec, Opts, Registry};

    use super::*;

    #[test]
    fn counters_gauges_and_histograms_are_encoded() {
        let registry = Registry::new();
        let calls = IntCounterVec::new(Opts::new("calls_total", "Calls \"ended\"\nso far"), &["code"]).unwrap();
        let ready = Gauge::new("ready", "Ready nodes").unwrap();
        let opts = HistogramOpts::new("wait_seconds", "Wait").buckets(vec![0.5, 10.0]);
        let wait = Histogram::with_opts(opts).unwrap();
        registry.register(Box::new(calls.clone())).unwrap();
        registry.register(Box::new(ready.clone())).unwrap();
        registry.register(Box::new(wait.clone())).unwrap();
        calls.with_label_values(&["a\\b\"c\"\n"]).inc_by(3);
        ready.set(f64::INFINITY);
        wait.observe(2.0);
        wait.observe(20.0);
        let expected = "\
            # TYPE calls counter\n\
            # HELP calls Calls \\\"ended\\\"\\nso far\n\
            calls_total{code=\"a\\\\b\\\"c\\\"\\n\"} 3\n\
            # TYPE ready gauge\n\
            # HELP ready Ready nodes\n\
            ready +Inf\n\
            # TYPE wait_seconds histogram\n\
            # HELP wait_seconds Wait\n\
            wait_seconds_bucket{le=\"0.5\"} 0\n\
            wait_seconds_bucket{le=\"10.0\"} 1\n\
            wait_seconds_bucket{le=\"+Inf\"} 2\n\
            wait_seconds_sum 22\n\
            wait_seconds_count 2\n\
            # EOF\n";
        assert_eq!(encode(&registry.gather()).unwrap(), expected);
    }
}
