//! Filters of documents: arguments of `ls` and `search`.

use std::time::UNIX_EPOCH;

use c3_client::{CreatedRange, Label, Labels, ListQuery, NameFilter, Namespace};

use crate::error::CliError;

/// Filters of documents.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct FilterArgs {
    /// Only documents with this label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
    /// Only documents with a name that begins with this prefix, in --namespace
    #[arg(long, value_name = "PREFIX")]
    name_prefix: Option<String>,
    /// Only documents with a name in this namespace [default: any document; with --name-prefix: namespace `default`]
    #[arg(long)]
    namespace: Option<Namespace>,
    /// Only documents created at this time or later: for example 2026-03-01T12:00:00Z, or 2026-03-01 for the start of
    /// that day in UTC
    #[arg(long, value_name = "TIME", value_parser = unix_ms)]
    created_from: Option<u64>,
    /// Only documents created before this time
    #[arg(long, value_name = "TIME", value_parser = unix_ms)]
    created_before: Option<u64>,
}

impl FilterArgs {
    /// Returns the query that lists the documents.
    pub(crate) fn query(&self) -> Result<ListQuery, CliError> {
        let by_name = self.name_prefix.is_some() || self.namespace.is_some();
        let name_filter = || NameFilter {
            namespace: self.namespace.clone().unwrap_or_default(),
            prefix: self.name_prefix.clone().unwrap_or_default(),
        };
        Ok(ListQuery {
            labels: Labels::new(self.labels.iter().cloned().map(Into::into))?,
            names: by_name.then(name_filter),
            created: CreatedRange { from_unix_ms: self.created_from, before_unix_ms: self.created_before },
            ..ListQuery::default()
        })
    }
}

/// Parses a time in RFC 3339, or a day, which stands for its start in UTC. Returns Unix time in milliseconds. Refuses
/// times before 1970.
fn unix_ms(typed: &str) -> Result<u64, String> {
    let typed = typed.to_ascii_uppercase();
    let parsed = humantime::parse_rfc3339(&typed).or_else(|_| humantime::parse_rfc3339(&format!("{typed}T00:00:00Z")));
    let time =
        parsed.map_err(|_| "give a time such as 2026-03-01T12:00:00Z, or a day such as 2026-03-01".to_owned())?;
    Ok(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_days_are_parsed() {
        assert_eq!(unix_ms("2026-03-01T12:00:00.250Z"), Ok(1_772_366_400_250));
        assert_eq!(unix_ms("2026-03-01t12:00:00z"), Ok(1_772_366_400_000));
        assert_eq!(unix_ms("2026-03-01"), Ok(1_772_323_200_000));
        assert_eq!(unix_ms("1970-01-01"), Ok(0));
        for wrong in ["", "yesterday", "1969-12-31", "2026-03", "2026-13-01", "1772323200"] {
            assert!(unix_ms(wrong).is_err_and(|problem| problem.contains("2026-03-01T12:00:00Z")), "{wrong}");
        }
    }
}
