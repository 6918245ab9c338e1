//! `c3 name`: sets, shows, removes and lists names of documents.

use c3_client::{DocumentName, Expected, ListedName, NamedDocument, Namespace};
use c3_types::Invalid;
use clap::Subcommand;
use clap_complete::ArgValueCompleter;
use futures::TryStreamExt;
use serde_json::json;

use crate::args::{PreconditionArgs, RemoteArgs, document_ref};
use crate::complete;
use crate::error::CliError;
use crate::output::format::{short_id, time_since};
use crate::output::{Align, Cell, Column, Format, Table, style, warn_damaged};

const COLUMNS: &[Column] = &[("name", Align::Left), ("id", Align::Left), ("changed", Align::Left)];

#[derive(Debug, Subcommand)]
pub(crate) enum NameCommand {
    /// Point a name at a document
    #[command(after_help = "Examples:\n  c3 name set draft ID\n  c3 name set team/draft ID --if-absent")]
    Set(SetArgs),
    /// Show the document of a name, and the name's version token
    #[command(after_help = "Example:\n  c3 name get draft")]
    Get(GetArgs),
    /// Remove a name; its document stays
    #[command(after_help = "Example:\n  c3 name rm draft")]
    Rm(RmArgs),
    /// List the names of a namespace
    #[command(after_help = "Example:\n  c3 name ls --namespace team")]
    Ls(LsArgs),
}

/// Arguments of `name set`.
#[derive(Debug, clap::Args)]
pub(crate) struct SetArgs {
    /// Name: NAME or NAMESPACE/NAME
    #[arg(value_parser = new_name, add = ArgValueCompleter::new(complete::names))]
    name: DocumentName,
    /// Document: its id, a unique prefix of it, or @NAME
    #[arg(value_parser = document_ref, add = ArgValueCompleter::new(complete::documents))]
    id: String,
    #[command(flatten)]
    precondition: PreconditionArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Arguments of `name get`.
#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    /// Name: NAME or NAMESPACE/NAME
    #[arg(add = ArgValueCompleter::new(complete::names))]
    name: DocumentName,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Arguments of `name rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// Name: NAME or NAMESPACE/NAME
    #[arg(add = ArgValueCompleter::new(complete::names))]
    name: DocumentName,
    /// Remove only if the name's current version token is TOKEN
    #[arg(long, value_name = "TOKEN")]
    if_match: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Arguments of `name ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// Only names that begin with this prefix
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
    /// Namespace to list
    #[arg(long, default_value_t)]
    namespace: Namespace,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(crate) async fn run(command: NameCommand) -> Result<(), CliError> {
    match command {
        NameCommand::Set(args) => {
            let client = args.remote.connect().await?;
            let named = client.set_name(&args.name, &args.id, &args.precondition.expected()).await?;
            print_name(&named, args.remote.format)
        }
        NameCommand::Get(args) => {
            let named = args.remote.connect().await?.get_name(&args.name).await?;
            print_name(&named, args.remote.format)
        }
        NameCommand::Rm(args) => {
            let client = args.remote.connect().await?;
            let expected = args.if_match.map_or(Expected::Any, Expected::Token);
            let id = client.remove_name(&args.name, &expected).await?.to_string();
            let name = args.name.to_string();
            let text = format!("removed {name}, which pointed to {id}");
            args.remote.format.print(text, &json!({ "name": name, "id": id }))
        }
        NameCommand::Ls(args) => ls(args).await,
    }
}

async fn ls(args: LsArgs) -> Result<(), CliError> {
    let client = args.remote.connect().await?;
    let mut names = client.names(&args.namespace, &args.prefix);
    let mut records = Vec::new();
    while let Some(listed) = names.try_next().await? {
        match listed {
            ListedName::Named(named) => records.push(named),
            ListedName::Damaged(damaged) => warn_damaged(damaged.name, &damaged.problem),
        }
    }
    records.sort_by(|a, b| a.name.cmp(&b.name));
    if args.remote.format.json {
        return args.remote.format.print("", &json!({ "names": records }));
    }
    let mut table = Table::new(COLUMNS);
    for named in records {
        let id = named.id.to_string();
        let age = Cell::new(time_since(named.changed_unix_ms)).style(style::DIM);
        table.row([Cell::new(&named.name), Cell::new(short_id(&id)).plain(&id), age])?;
    }
    table.finish()
}

fn new_name(typed: &str) -> Result<DocumentName, Invalid> {
    typed.parse::<DocumentName>()?.checked_as_new()
}

fn print_name(named: &NamedDocument, format: Format) -> Result<(), CliError> {
    let text = format!("{} points to {}, token {}", named.name, named.id, named.token);
    format.print(text, named)
}
