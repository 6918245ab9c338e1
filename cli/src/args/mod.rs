//! What people type.

use std::ffi::OsString;

use c3_proto::DocumentRef;
use c3_server::telemetry::TelemetryConfig;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::append::AppendArgs;
use crate::bench::args::BenchArgs;
use crate::failure::Failure;
use crate::get::GetArgs;
use crate::latents::LatentsArgs;
use crate::list::FilterArgs;
use crate::names::{LabelArgs, NameCommand};
use crate::oneshot::{CompressArgs, DecompressArgs};
use crate::put::PutArgs;
use crate::put_latents::PutLatentsArgs;
use crate::recode::RecodeArgs;
use crate::roundtrip::RoundtripArgs;
use crate::serve::{self, ModelArgs, ServeArgs};
use crate::totals::StatArgs;
use crate::upkeep::{FsckArgs, GcArgs};
use crate::write::WriteArgs;

/// Where `c3 serve` listens when not told otherwise.
pub(crate) const DEFAULT_GATEWAY: &str = "http://127.0.0.1:7300";

/// The telemetry flag whose default depends on the command.
const LOG_FLAG: &str = "log";

/// Keeps texts as a few latent tokens and writes them back byte for byte
#[derive(Debug, Parser)]
#[command(name = "c3", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 fine, 1 the work failed, 2 the call was wrong.")]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Logs and traces.
    #[command(flatten)]
    pub(crate) telemetry: TelemetryConfig,
}

impl Args {
    /// How a text is to be compressed, where the command writes one.
    fn write(&self) -> Option<&WriteArgs> {
        let Command::Client(command) = &self.command else { return None };
        match command {
            ClientCommand::Put(args) => Some(&args.write),
            ClientCommand::Append(args) => Some(&args.write),
            ClientCommand::Recode(args) => Some(&args.write),
            ClientCommand::Roundtrip(args) => Some(&args.write),
            ClientCommand::Bench(args) => Some(&args.write),
            ClientCommand::Compress(args) => Some(&args.write),
            _ => None,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a gateway with its nodes
    Serve(Box<ServeArgs>),
    /// Ask a gateway.
    #[command(flatten)]
    Client(ClientCommand),
}

/// What to ask a gateway for.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Store a text, or many
    ///
    /// Many are stored side by side, and one that fails does not stop the others.
    Put(Box<PutArgs>),
    /// Store a document with more text after it, at the cost of what is new
    Append(Box<AppendArgs>),
    /// List puts that broke off and can go on
    Uploads(RemoteArgs),
    /// Write a stored text, or a part of it, to standard output or a file, or many to a folder
    ///
    /// In a folder each document becomes a file named by its id. A file that is there already stays as it is: where it
    /// holds another text, that document fails.
    Get(GetArgs),
    /// Tell what is known of a document, or what all of them come to
    Stat(StatArgs),
    /// List the documents
    Ls(LsArgs),
    /// Forget a document
    Rm(IdArgs),
    /// Set, tell, remove and list names of documents
    #[command(subcommand)]
    Name(NameCommand),
    /// Set, remove and tell labels of a document
    Label(LabelArgs),
    /// Write stored documents anew with another ratio, codec or model
    ///
    /// What is not given stays as the document has it. A document is as it was until the new one is verified.
    Recode(RecodeArgs),
    /// Remove what no document refers to any more from the store
    Gc(GcArgs),
    /// Check every object of the store
    ///
    /// Ends with 0 where nothing is wrong, 1 where all that was wrong is repaired, 2 where faults are left, 3 where it
    /// could not look.
    Fsck(FsckArgs),
    /// List a document's latent groups, or write them to a safetensors file
    Latents(LatentsArgs),
    /// Store a document from the safetensors file that `latents` wrote
    ///
    /// The gateway decodes it, and refuses it unless model, shapes and every hash hold.
    PutLatents(PutLatentsArgs),
    /// List the nodes that the gateway knows
    Nodes(RemoteArgs),
    /// Put files, get them back and compare byte for byte
    ///
    /// Starts all that it needs, and keeps nothing, where no gateway is named. At a gateway that is named the documents
    /// stay stored.
    Roundtrip(Box<RoundtripArgs>),
    /// Measure how fast a gateway takes texts and gives them back
    ///
    /// Starts all that it needs, and keeps nothing, where no gateway is named. At a gateway that is named the documents
    /// stay stored.
    Bench(Box<BenchArgs>),
    /// Compress a text to a safetensors file; nothing is stored
    Compress(CompressArgs),
    /// Write the text of a safetensors file that `compress` or `latents` wrote; nothing is stored
    Decompress(DecompressArgs),
}

impl ClientCommand {
    /// The name of its span.
    pub(crate) fn span_name(&self) -> &'static str {
        match self {
            Self::Put(_) => "c3 put",
            Self::Append(_) => "c3 append",
            Self::Uploads(_) => "c3 uploads",
            Self::Get(_) => "c3 get",
            Self::Stat(_) => "c3 stat",
            Self::Ls(_) => "c3 ls",
            Self::Rm(_) => "c3 rm",
            Self::Name(_) => "c3 name",
            Self::Label(_) => "c3 label",
            Self::Recode(_) => "c3 recode",
            Self::Gc(_) => "c3 gc",
            Self::Fsck(_) => "c3 fsck",
            Self::Latents(_) => "c3 latents",
            Self::PutLatents(_) => "c3 put-latents",
            Self::Nodes(_) => "c3 nodes",
            Self::Roundtrip(_) => "c3 roundtrip",
            Self::Bench(_) => "c3 bench",
            Self::Compress(_) => "c3 compress",
            Self::Decompress(_) => "c3 decompress",
        }
    }
}

/// The gateway and how to answer.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RemoteArgs {
    /// The gateway to ask, or several over one store, separated by commas: the next is asked where one is gone
    #[arg(long, value_name = "URL", env = "C3_GATEWAY", default_value = DEFAULT_GATEWAY)]
    pub(crate) gateway: String,
    /// Answer in one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The gateway of a command that starts one where none is named, and how to answer.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AnywhereArgs {
    /// The gateway to ask [default: one that is started for this]
    #[arg(long, value_name = "URL", env = "C3_GATEWAY")]
    pub(crate) gateway: Option<String>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Answer in one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct IdArgs {
    /// The document's id, enough first digits of it, or @NAME
    #[arg(value_parser = id)]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// Arguments of `ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// Only ids that begin with these digits
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

pub(crate) fn positive(typed: &str) -> Result<usize, String> {
    typed.parse().ok().filter(|number| *number > 0).ok_or("give a whole number of 1 or more".to_owned())
}

/// An id, or a name, as typed, once it can be one.
pub(crate) fn id(typed: &str) -> Result<String, c3_proto::Invalid> {
    typed.parse::<DocumentRef>().map(|document| document.to_string())
}

/// What the command line says, or the failure that it is; `None` where it asked for help, which was given.
pub(crate) fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Option<Args>, Failure> {
    let parsed = command().try_get_matches_from(line).and_then(|matches| {
        let mut args = Args::from_arg_matches(&matches)?;
        // What a client says is its answer; a server is watched through its log.
        let unsaid = matches.value_source(LOG_FLAG) == Some(ValueSource::DefaultValue);
        if unsaid && !matches!(args.command, Command::Serve(_)) {
            args.telemetry.log = "off".to_owned();
        }
        Ok(args)
    });
    match parsed {
        Ok(args) => match args.write().map_or(Ok(()), WriteArgs::check) {
            Ok(()) => Ok(Some(args)),
            Err(wrong) => Err(Failure::CallWrong(wrong)),
        },
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // A reader who went away wants no help.
            let _ = error.print();
            Ok(None)
        }
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Err(Failure::CallWrong("say what to do; `c3 --help` lists the commands".to_owned()))
        }
        Err(error) => Err(Failure::CallWrong(one_line(&error))),
    }
}

/// The flags of telemetry may stand before or after the command, and `serve` has defaults of its own.
fn command() -> clap::Command {
    Args::command().mut_args(|arg| arg.global(true)).mut_subcommand("serve", serve::with_defaults)
}

/// What clap has to say in one line: its paragraphs up to the usage.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
        lines.join(" ").trim().trim_start_matches("error: ").to_owned()
    });
    let said = paragraphs.take_while(|said| !said.starts_with("Usage:") && !said.starts_with("For more"));
    said.collect::<Vec<String>>().join("; ")
}

#[cfg(test)]
mod tests {
    use c3_client::AutoBound;

    use super::*;

    fn parsed(line: &str) -> Result<Args, Failure> {
        let words = std::iter::once("c3").chain(line.split_whitespace()).map(OsString::from);
        parse(words).map(|args| args.expect("no line below asks for help"))
    }

    fn refusal(line: &str) -> String {
        match parsed(line) {
            Err(Failure::CallWrong(message)) => message,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_flags_of_clap_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn a_ratio_is_a_whole_number_of_one_or_more() {
        for ratio in ["0", "-3", "x", "2.5", "99999999999"] {
            let message = refusal(&format!("put book.txt --ratio {ratio}"));
            assert!(message.contains("8 to 80") && !message.contains('\n'), "{message}");
        }
        let Command::Client(ClientCommand::Put(put)) = parsed("put book.txt --ratio 40").unwrap().command
        else {
            panic!("not put")
        };
        assert_eq!(put.write.options(Some(7)).ratio, Some(40));
    }

    #[test]
    fn a_ratio_may_be_chosen_by_one_bound() {
        let options = |line| match parsed(line).unwrap().command {
            Command::Client(ClientCommand::Put(put)) => put.write.options(Some(7)).auto_ratio,
            other => panic!("{other:?}"),
        };
        let auto = options("put f --ratio auto --ratios 40,20").unwrap();
        assert_eq!((auto.ratios, auto.bound), (vec![40, 20], AutoBound::FidelityMin(0.999)));
        let auto = options("put f --ratio auto --stored-bytes-max 900").unwrap();
        assert_eq!(auto.bound, AutoBound::StoredBytesMax(900));
        assert!(options("put f --ratio 20").is_none());
        for wrong in [
            "put f --fidelity-min 0.9",
            "put f --ratio 20 --fidelity-min 0.9",
            "put f --ratio auto --no-verify",
            "put f --ratio auto --fidelity-min 1.5",
            "put f --ratio auto --fidelity-min 0.9 --stored-bytes-max 9",
        ] {
            assert!(!refusal(wrong).is_empty());
        }
    }

    #[test]
    fn what_is_recoded_is_named() {
        assert!(refusal("recode --codec f32").contains("ID"));
        assert!(refusal("recode abcd --all").contains("--all"));
        assert!(parsed("recode --all --codec f32").is_ok() && parsed("recode abcd ef01 --ratio 40").is_ok());
    }

    #[test]
    fn wrong_calls_are_told_in_one_line() {
        for line in
            ["", "fetch", "put", "get zz", "get abcd --range 9..3", "get abcd --range x", "put f --codec q5"]
        {
            let message = refusal(line);
            assert!(
                !message.is_empty() && !message.contains('\n') && !message.contains("error:"),
                "{message}"
            );
        }
        assert!(refusal("put f --rati 20").contains("--ratio"));
        assert!(refusal("roundtrip").contains("FILE"));
    }

    #[test]
    fn help_names_the_ratios_of_the_default_model() {
        let mut command = command();
        for name in ["put", "roundtrip", "recode", "compress"] {
            let help = command.find_subcommand_mut(name).unwrap().render_long_help().to_string();
            let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.contains("10, 20, 40 and 80") && words.contains("8 to 80"), "{help}");
        }
    }

    #[test]
    fn clients_are_quiet_and_servers_are_not_unless_told() {
        let log = |line| parsed(line).unwrap().telemetry.log;
        assert_eq!(log("ls"), "off");
        assert_eq!(log("serve"), "info");
        assert_eq!(log("--log debug ls"), "debug");
        assert_eq!(log("ls --log debug"), "debug");
    }

    #[test]
    fn the_whole_document_is_the_range_where_none_is_given() {
        let range = |line| match parsed(line).unwrap().command {
            Command::Client(ClientCommand::Get(get)) => get.range,
            other => panic!("{other:?}"),
        };
        assert_eq!(range("get abcd").within(10), Ok(0..10));
        assert_eq!(range("get abcd --range 3..7").within(10), Ok(3..7));
        assert_eq!(range("get abcd --range ..4 -o f").within(10), Ok(0..4));
    }
}
