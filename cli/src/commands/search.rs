//! `c3 search`: finds windows by their words. A window is a part of a document of about two kilobytes.

use c3_client::{SearchHit, SearchMode, SearchQuery};
use c3_server::units::Size;
use clap_complete::ArgValueCompleter;

use crate::args::{FilterArgs, RemoteArgs, document_ref};
use crate::complete;
use crate::error::CliError;
use crate::output::format::short_id;
use crate::output::{Align, Cell, Column, Table, print, style, warn};

const COLUMNS: &[Column] =
    &[("document", Align::Left), ("bytes", Align::Left), ("score", Align::Right), ("text", Align::Left)];

/// Arguments of `search`.
#[derive(Debug, clap::Args)]
pub(crate) struct SearchArgs {
    /// Words to search for, and "quoted phrases" that must occur
    #[arg(required = true, value_name = "WORD")]
    query: Vec<String>,
    /// Search for exactly this text, which may begin and end within words
    #[arg(short, long)]
    exact: bool,
    /// Only this document; may be repeated
    #[arg(long = "in", value_name = "ID", value_parser = document_ref,
        add = ArgValueCompleter::new(complete::documents))]
    documents: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Maximum number of hits
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
    /// Continue a search behind its last hit: `next_cursor` of its JSON output
    #[arg(long)]
    cursor: Option<String>,
    /// Maximum size of the text that is shown of each hit; 0 shows none, so nothing is decoded
    #[arg(long, value_name = "SIZE", default_value = "160")]
    snippet: Size,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Prints the hits, the best first.
pub(crate) async fn run(args: SearchArgs) -> Result<(), CliError> {
    let client = args.remote.connect().await?;
    let snippet_bytes = u32::try_from(args.snippet.0);
    let snippet_bytes = snippet_bytes.map_err(|_| CliError::Usage("--snippet must be at most 16KiB".to_owned()))?;
    let query = SearchQuery {
        text: args.query.join(" "),
        mode: if args.exact { SearchMode::Exact } else { SearchMode::Words },
        documents: args.documents,
        filter: args.filter.query()?,
        limit: args.limit,
        cursor: args.cursor,
        snippet_bytes,
    };
    let page = client.search(&query).await?;
    if page.partial {
        warn("the gateway has not read all documents yet, so some may be missing: repeat the command in a moment");
    }
    if args.remote.format.json {
        return args.remote.format.print("", &page);
    }
    if page.hits.is_empty() {
        return print("nothing found");
    }
    let mut table = Table::new(COLUMNS);
    for hit in &page.hits {
        table.row(row(hit))?;
    }
    table.finish()
}

fn row(hit: &SearchHit) -> Vec<Cell> {
    let id = hit.document.to_string();
    let text = match &hit.snippet {
        Some(snippet) => snippet.text.split_whitespace().collect::<Vec<_>>().join(" "),
        None => hit.terms.join(" "),
    };
    vec![
        Cell::new(short_id(&id)).plain(&id),
        Cell::new(format!("{}-{}", hit.bytes.start, hit.bytes.end)).style(style::DIM),
        Cell::new(format!("{:.1}", hit.score)),
        text.into(),
    ]
}
