//! `c3 name` and `c3 label`: what documents are called, and what is noted of them.

use c3_client::{
    Client, DocumentName, Expected, Label, Labelled, Labels, ListedName, Named, Namespace, PutName,
};
use c3_proto::Invalid;
use clap::Subcommand;
use futures::TryStreamExt;
use serde_json::{Value, json};

use crate::args::RemoteArgs;
use crate::failure::Failure;
use crate::output::print;
use crate::report::{self, age};

/// What to do with names.
#[derive(Debug, Subcommand)]
pub(crate) enum NameCommand {
    /// Point a name at a document
    Set(SetArgs),
    /// Tell which document a name stands for, and the token of what the name is now
    Get(GetArgs),
    /// Take a name away; its document stays
    Rm(RmArgs),
    /// List the names of a namespace
    Ls(LsArgs),
}

/// Arguments of `name set`.
#[derive(Debug, clap::Args)]
pub(crate) struct SetArgs {
    /// The name: NAME, or NAMESPACE/NAME
    pub(crate) name: DocumentName,
    /// The document: its id, enough first digits of it, or @NAME
    #[arg(value_parser = crate::args::id)]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) expected: ExpectedArgs,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// Arguments of `name get`.
#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    /// The name: NAME, or NAMESPACE/NAME
    pub(crate) name: DocumentName,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// Arguments of `name rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// The name: NAME, or NAMESPACE/NAME
    pub(crate) name: DocumentName,
    /// Only if this is the token of what the name is
    #[arg(long, value_name = "TOKEN")]
    pub(crate) if_token: Option<String>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// Arguments of `name ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// Only names that begin so
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// The namespace
    #[arg(long, default_value_t)]
    pub(crate) namespace: Namespace,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// Arguments of `label`.
#[derive(Debug, clap::Args)]
pub(crate) struct LabelArgs {
    /// The document: its id, enough first digits of it, or @NAME
    #[arg(value_parser = crate::args::id)]
    pub(crate) id: String,
    /// Labels to set, each KEY=VALUE; others stay. Without any, and without --remove, labels are told
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) set: Vec<Label>,
    /// A label to remove; may be given several times
    #[arg(long, value_name = "KEY")]
    pub(crate) remove: Vec<String>,
    #[command(flatten)]
    pub(crate) expected: ExpectedArgs,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// What a change expects to find.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ExpectedArgs {
    /// Only if this is the token of what is there
    #[arg(long, value_name = "TOKEN", conflicts_with = "if_absent")]
    pub(crate) if_token: Option<String>,
    /// Only if there is nothing
    #[arg(long)]
    pub(crate) if_absent: bool,
}

/// How `put` calls what it stored.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct NamingArgs {
    /// Name of the document once it is stored: NAME, or NAMESPACE/NAME; it then is wherever an id is taken: @NAME
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Namespace of the name [default: default]
    #[arg(long, requires = "name")]
    pub(crate) namespace: Option<Namespace>,
    /// A label that the document gets; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<Label>,
    /// Of the name.
    #[command(flatten)]
    pub(crate) expected: ExpectedArgs,
}

impl ExpectedArgs {
    fn expected(self) -> Expected {
        match self.if_token {
            Some(token) => Expected::Token(token),
            None if self.if_absent => Expected::Absent,
            None => Expected::Whatever,
        }
    }
}

impl NamingArgs {
    /// The name that is asked for.
    pub(crate) fn name(&self) -> Result<Option<PutName>, Invalid> {
        let expected = self.expected.clone().expected();
        let Some(name) = &self.name else {
            let problem = "goes with --if-token and --if-absent: they are of a name";
            let none = expected == Expected::Whatever;
            return if none { Ok(None) } else { Err(Invalid::new("--name", problem)) };
        };
        let name = match &self.namespace {
            Some(namespace) => DocumentName::new(namespace.clone(), name.clone())?,
            None => name.parse()?,
        };
        Ok(Some(PutName { name, expected }))
    }

    /// The labels that are asked for.
    pub(crate) fn labels(&self) -> Result<Labels, Invalid> {
        Labels::new(self.labels.iter().cloned().map(Into::into))
    }
}

/// Does what is asked with names.
pub(crate) async fn name(command: NameCommand) -> Result<(), Failure> {
    match command {
        NameCommand::Set(args) => {
            let client = Client::connect(&args.remote.gateway).await?;
            let named = client.set_name(&args.name, &args.id, &args.expected.expected()).await?;
            tell(&named, &args.remote)
        }
        NameCommand::Get(args) => {
            let named = Client::connect(&args.remote.gateway).await?.name(&args.name).await?;
            tell(&named, &args.remote)
        }
        NameCommand::Rm(args) => {
            let client = Client::connect(&args.remote.gateway).await?;
            let expected = args.if_token.map_or(Expected::Whatever, Expected::Token);
            let id = client.remove_name(&args.name, &expected).await?;
            match args.remote.json {
                true => print(&report::json(&json!({ "name": args.name.to_string(), "id": id.to_string() }))),
                false => print(&format!("removed {}, which was {id}", args.name)),
            }
        }
        NameCommand::Ls(args) => ls(args).await,
    }
}

async fn ls(args: LsArgs) -> Result<(), Failure> {
    let client = Client::connect(&args.remote.gateway).await?;
    let mut names = client.names(&args.namespace, &args.prefix);
    let mut records = Vec::new();
    while let Some(listed) = names.try_next().await? {
        match listed {
            ListedName::Named(named) if args.remote.json => records.push(record(&named)),
            ListedName::Named(named) => {
                print(&format!("{}  {}  {}", named.id, named.name, age(named.changed_unix_ms)))?;
            }
            ListedName::Damaged { name, problem } => eprintln!("warning: {name}: {problem}; see `c3 fsck`"),
        }
    }
    match args.remote.json {
        true => print(&report::json(&json!({ "names": records }))),
        false => Ok(()),
    }
}

fn tell(named: &Named, remote: &RemoteArgs) -> Result<(), Failure> {
    match remote.json {
        true => print(&report::json(&record(named))),
        false => print(&format!("{} is {}, token {}", named.name, named.id, named.token)),
    }
}

fn record(named: &Named) -> Value {
    let Named { name, id, token, changed_unix_ms } = named;
    json!({
        "name": name.to_string(),
        "id": id.to_string(),
        "token": token,
        "changed_unix_ms": changed_unix_ms,
    })
}

/// Changes a document's labels, or tells them.
pub(crate) async fn label(args: LabelArgs) -> Result<(), Failure> {
    let client = Client::connect(&args.remote.gateway).await?;
    let Labelled { labels, token } = match args.set.is_empty() && args.remove.is_empty() {
        true => client.labels(&args.id).await?,
        false => {
            let set = Labels::new(args.set.into_iter().map(Into::into))?;
            client.set_labels(&args.id, &set, &args.remove, &args.expected.expected()).await?
        }
    };
    if args.remote.json {
        return print(&report::json(&json!({ "labels": labels, "token": token })));
    }
    for (key, value) in &labels {
        print(&format!("{key}={value}"))?;
    }
    match token.is_empty() {
        true => print("no labels"),
        false => print(&format!("token {token}")),
    }
}
