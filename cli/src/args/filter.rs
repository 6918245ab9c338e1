//! Filters of documents: arguments of `ls` and `search`.

use c3_client::{Label, Labels, ListQuery, NameFilter, Namespace};

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
            ..ListQuery::default()
        })
    }
}
