//! `c3 ls`: lists documents.

use c3_client::{Client, Document, DocumentId, ListQuery, Listed};
use futures::{Stream, StreamExt, TryStreamExt};
use indicatif::HumanCount;
use serde_json::json;

use crate::args::{FilterArgs, RemoteArgs, positive};
use crate::error::CliError;
use crate::output::format::{percent, ratio, short_id, time_since};
use crate::output::{Align, Cell, Column, Table, style, warn_damaged};

const COLUMNS: &[Column] = &[
    ("id", Align::Left),
    ("bytes", Align::Right),
    ("tokens", Align::Right),
    ("ratio", Align::Right),
    ("fidelity", Align::Right),
    ("stored", Align::Left),
    ("names and labels", Align::Left),
];

/// Arguments of `ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// Only documents whose id begins with these digits
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only documents whose id sorts after this full id, to continue a list that --limit ended
    #[arg(long, value_name = "ID")]
    after: Option<DocumentId>,
    /// Maximum number of documents [default: all]
    #[arg(long, value_name = "N", value_parser = positive)]
    limit: Option<usize>,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl LsArgs {
    fn query(&self) -> Result<ListQuery, CliError> {
        Ok(ListQuery { prefix: self.prefix.clone(), after: self.after, ..self.filter.query()? })
    }
}

/// Lists the documents.
pub(crate) async fn run(args: LsArgs) -> Result<(), CliError> {
    let client = args.remote.connect().await?;
    let documents = readable(&client, &args.query()?);
    let mut documents = std::pin::pin!(documents.take(args.limit.unwrap_or(usize::MAX)));
    if args.remote.format.json {
        let documents: Vec<Document> = documents.try_collect().await?;
        return args.remote.format.print("", &json!({ "documents": documents }));
    }
    let mut table = Table::new(COLUMNS);
    while let Some(document) = documents.try_next().await? {
        let [bytes, tokens] = [document.bytes, document.tokens].map(|count| HumanCount(count).to_string());
        let fidelity = document.fidelity().map_or_else(|| "-".to_owned(), percent);
        let labels = document.labels.iter().map(|(key, value)| format!("{key}={value}"));
        let id = document.id.to_string();
        table.row([
            Cell::new(short_id(&id)).plain(&id),
            Cell::new(bytes).plain(document.bytes),
            Cell::new(tokens).plain(document.tokens),
            ratio(document.ratio).into(),
            fidelity.into(),
            Cell::new(time_since(document.created_unix_ms)).style(style::DIM),
            Vec::from_iter(document.names.iter().cloned().chain(labels)).join(" ").into(),
        ])?;
    }
    table.finish()
}

/// Streams the documents that match `query`. Prints a warning for each document that cannot be read, and skips it.
pub(super) fn readable(
    client: &Client,
    query: &ListQuery,
) -> impl Stream<Item = Result<Document, c3_client::Error>> + use<> {
    client.list_where(query).try_filter_map(async |listed| {
        Ok(match listed {
            Listed::Document(document) => Some(*document),
            Listed::Damaged(damaged) => {
                warn_damaged(damaged.id, &damaged.problem);
                None
            }
        })
    })
}
