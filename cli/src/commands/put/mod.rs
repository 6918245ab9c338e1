//! `c3 put`: stores one text or many.

mod many;

use std::path::PathBuf;

use c3_client::{
    Base, Client, DocumentName, Expected, Label, Labels, Namespace, PATH_LABEL, PutName, UploadName, WriteOptions,
};
use clap_complete::{ArgValueCandidates, ArgValueCompleter};

use crate::args::{PreconditionArgs, RemoteArgs, WriteArgs, document_ref, lifetime, positive};
use crate::complete;
use crate::error::CliError;
use crate::input::TextInput;
use crate::input::discover::{is_single_file, kept_path_of};
use crate::output::{Report, StageBars, warn};
use crate::upload;

/// Field that `--jsonl` reads from each line.
const FIELD: &str = "text";
/// Default number of texts stored in parallel: enough for small texts to fill the nodes' batches and the store's packs
/// (objects of many small documents).
const JOBS: usize = 128;

/// Arguments of `put`.
#[derive(Debug, clap::Args)]
pub(crate) struct PutArgs {
    /// UTF-8 texts: files, directories and quoted patterns; `-` is standard input
    ///
    /// A directory is expanded to its files, except hidden files. A pattern such as 'notes/**/*.md' is expanded to the
    /// files that match it.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Time until the document expires [default: never]
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    ttl: Option<u64>,
    /// Name under which the upload can be resumed [default: chosen by the gateway for long texts]
    ///
    /// If the upload is interrupted, repeat the command with the same name, text and options to resume it.
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::uploads))]
    upload: Option<UploadName>,
    /// Stored document (ID or @NAME) that the text is an edited version of
    ///
    /// Only the parts that were edited are compressed. Options that are not given have the values of that document.
    #[arg(long, value_name = "ID", value_parser = document_ref, add = ArgValueCompleter::new(complete::documents))]
    base: Option<String>,
    /// Leave the documents out of search: no sketches of their words are stored
    #[arg(long)]
    no_search: bool,
    #[command(flatten)]
    many: ManyArgs,
    #[command(flatten)]
    naming: NamingArgs,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Arguments for many texts.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Many texts")]
struct ManyArgs {
    /// Include files in subdirectories
    #[arg(short, long)]
    recursive: bool,
    /// Read files as JSON Lines: each line is an object whose field `text` is a text
    #[arg(long)]
    jsonl: bool,
    /// Like --jsonl, but read the text from this field
    #[arg(long, value_name = "FIELD")]
    field: Option<String>,
    /// Texts to store in parallel
    #[arg(long, value_name = "N", default_value_t = JOBS, value_parser = positive)]
    jobs: usize,
}

/// Name and labels of the new document.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Name and labels")]
struct NamingArgs {
    /// Name for the document: NAME or NAMESPACE/NAME. If several files are given, each is named NAME/PATH
    ///
    /// Commands then accept @NAME in place of the id.
    #[arg(long)]
    name: Option<String>,
    /// Namespace of the name [default: default]
    #[arg(long, requires = "name")]
    namespace: Option<Namespace>,
    /// Label for the document; may be repeated. A file also gets the label path=PATH
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
    #[command(flatten)]
    precondition: PreconditionArgs,
}

impl ManyArgs {
    /// Returns the field that contains the text of each line, or `None` if the files are not JSON Lines.
    fn field(&self) -> Option<String> {
        self.field.clone().or_else(|| self.jsonl.then(|| FIELD.to_owned()))
    }
}

impl NamingArgs {
    /// Returns the name of a single document.
    fn name(&self) -> Result<Option<PutName>, CliError> {
        match &self.name {
            Some(name) => self.put_name(name.clone()).map(Some),
            None if self.precondition.expected() == Expected::Any => Ok(None),
            None => Err(CliError::Usage("--if-match and --if-absent need --name".to_owned())),
        }
    }

    /// Refuses wrong names and labels before the first of several texts is put.
    fn check_many(&self, field: Option<&str>) -> Result<(), CliError> {
        self.labels(None)?;
        match (self.name()?, self.precondition.expected()) {
            (Some(_), Expected::Token(_)) => {
                Err(CliError::Usage("--if-match has the token of a single name: give a single text".to_owned()))
            }
            (Some(_), _) if field.is_some() => {
                Err(CliError::Usage("--name needs files, since lines of JSON have no path: omit --name".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Returns the name of one of several files. An error ends only the put of this file, not the batch.
    fn name_of(&self, path: Option<&str>) -> Result<Option<PutName>, CliError> {
        let Some(name) = &self.name else { return Ok(None) };
        let path =
            path.ok_or_else(|| CliError::Failed("cannot be named, since it has no path: omit --name".to_owned()))?;
        let name = self.put_name(format!("{name}/{path}"));
        name.map(Some).map_err(|error| CliError::Failed(format!("{error}, or omit --name")))
    }

    fn put_name(&self, name: String) -> Result<PutName, CliError> {
        let name = match &self.namespace {
            Some(namespace) => DocumentName::new(namespace.clone(), name)?,
            None => name.parse()?,
        };
        Ok(PutName { name: name.checked_as_new()?, expected: self.precondition.expected() })
    }

    /// Returns the labels that the caller gave, and the label `path` with the path of the file. Omits the path if the
    /// caller gave a label `path`, if the path is not a valid label, or if there would be too many labels.
    fn labels(&self, path: Option<&str>) -> Result<Labels, CliError> {
        let labels = Labels::new(self.labels.iter().cloned().map(Into::into))?;
        let with_path = Labels::new(path.map(|path| (PATH_LABEL.to_owned(), path.to_owned())));
        Ok(with_path.and_then(|path| path.with_changes(&labels, &[])).unwrap_or(labels))
    }
}

/// Returns a warning if the path of a file is not in its document's labels. `put` are the labels in the request, and
/// `document` are the labels that the gateway returned.
fn path_warning(file: &str, put: &Labels, document: &Labels) -> Option<String> {
    let is_lost = match put.paths().next() {
        // Gateways of earlier versions return no labels, which does not mean that the path was lost.
        Some(path) => !document.is_empty() && !document.paths().any(|kept| kept == path),
        None => true,
    };
    let limits = "a label may have 256 bytes of UTF-8 without control characters, and a document 32 labels";
    is_lost.then(|| format!("{file}: the path was not stored as a label: {limits}"))
}

impl PutArgs {
    /// Resolves `--base` to an id. This is done once for all texts and retries, since a name can move to another
    /// document.
    async fn resolve_base(&self, client: &Client) -> Result<Option<Base>, CliError> {
        let Some(base) = &self.base else { return Ok(None) };
        Ok(Some(Base::Edited(client.stat(base).await?.id.into())))
    }
}

/// Stores the texts.
pub(crate) async fn run(args: PutArgs) -> Result<(), CliError> {
    let file = match &args.files[..] {
        [file] if args.many.field().is_none() && is_single_file(file) => file,
        _ => return many::run(args).await,
    };
    let name = args.naming.name()?;
    let input = TextInput::open(file).await?;
    let file_name = input.is_file.then(|| input.name.clone());
    let path = if input.is_file { kept_path_of(file) } else { None };
    let labels = args.naming.labels(path.as_deref())?;
    let client = args.remote.connect_to_write(&args.write).await?;
    let base = args.resolve_base(&client).await?;
    let options = args.write.options(input.bytes);
    let upload = args.upload.clone();
    let skip_search = args.no_search;
    let options = WriteOptions { upload, base, ttl_seconds: args.ttl, name, labels, skip_search, ..options };
    let progress = StageBars::start(&options, input.bytes);
    let (stored, elapsed) = upload::store(&client, input, &options, progress).await?;
    let warning = file_name.and_then(|name| path_warning(&name, &options.labels, &stored.document.labels));
    if let Some(warning) = warning {
        warn(warning);
    }
    let name = options.name.map(|put| put.name);
    let report = Report { name, ..Report::of_stored(&stored, elapsed) };
    args.remote.format.print(&report, &report)
}
