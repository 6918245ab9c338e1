//! Samples of a metrics page in Prometheus' text format.

use std::collections::BTreeMap;

/// Samples of one page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<Sample>);

#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Samples {
    /// Parses a page. Skips comments and lines that are no samples.
    pub(crate) fn parse(page: &str) -> Self {
        Self(page.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// Adds up the samples of a metric that have all of these labels. Returns `None` if there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &Sample, (key, value): &(&str, &str)| sample.labels.get(*key).is_some_and(|is| is == value);
        let matching = self.0.iter().filter(|sample| sample.name == name);
        let mut values =
            matching.filter(|sample| labels.iter().all(|label| has(sample, label))).map(|sample| sample.value);
        let first = values.next()?;
        Some(values.fold(first, |sum, value| sum + value))
    }

    /// Returns the sum of a metric by the value of a label.
    pub(crate) fn by_label(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.0.iter().filter(|sample| sample.name == name) {
            if let Some(value) = sample.labels.get(label) {
                *sums.entry(value.clone()).or_default() += sample.value;
            }
        }
        sums
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (name, rest, value) = match line.split_once('{') {
        Some((name, rest)) => {
            let (labels, value) = rest.rsplit_once('}')?;
            (name, labels, value)
        }
        None => {
            let (name, value) = line.split_once(' ')?;
            (name, "", value)
        }
    };
    let value = value.split_whitespace().next()?.parse().ok()?;
    // Values in quotes contain no `",` unless a quote in them is escaped, which no label of our servers has.
    let pairs = rest.split("\",").filter_map(|pair| pair.split_once("=\""));
    let labels = pairs.map(|(key, value)| (key.to_owned(), value.trim_end_matches('"').to_owned())).collect();
    Some(Sample { name: name.to_owned(), labels, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_selected_by_their_labels() {
        let page = "# HELP a text\na{x=\"1\",y=\"http://h:1, z\"} 2\na{x=\"2\",y=\"b\"} 3.5 1700\nb 1e3\nnoise\n";
        let samples = Samples::parse(page);
        assert_eq!(samples.sum("a", &[]), Some(5.5));
        assert_eq!(samples.sum("a", &[("x", "2")]), Some(3.5));
        assert_eq!(samples.sum("a", &[("y", "http://h:1, z")]), Some(2.0));
        assert_eq!(samples.sum("b", &[]), Some(1000.0));
        assert_eq!((samples.sum("c", &[]), samples.sum("a", &[("x", "3")])), (None, None));
        assert_eq!(samples.by_label("a", "x"), [("1".to_owned(), 2.0), ("2".to_owned(), 3.5)].into());
    }
}
