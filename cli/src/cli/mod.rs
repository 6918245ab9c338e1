//! Parser of the command line, with the global flags and the defaults that depend on the command.

mod groups;

use std::ffi::OsString;

use c3_server::arguments::ignore_empty_variables;
use c3_server::telemetry::TelemetryConfig;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser};
use clap_complete::ArgValueCandidates;

use crate::args::{LogRole, RemoteArgs, Verbosity, WriteArgs};
use crate::commands::{Command, serve};
use crate::complete;
use crate::error::CliError;
use crate::profile::Profile;

/// Clap's ids of the flags that all commands except `serve` accept, besides those for TLS.
const CLIENT_FLAGS: [&str; 5] = ["gateway", "profile", "api_key_file", "api_key_over_http", "json"];
/// Clap's id of `--log`, the telemetry flag whose default depends on the command.
const LOG_FLAG: &str = "log";
/// Flags that `-h` omits and `--help` describes, besides those for TLS.
const RARE_FLAGS: [&str; 5] = ["api_key_file", "api_key_over_http", "log_format", "otlp_endpoint", "service_name"];

/// Help heading of the telemetry flags.
const TELEMETRY: &str = "Logs and traces";

const AFTER_HELP: &str = "\
Examples:
  c3 roundtrip book.txt           Try C3 without a server: compress, decompress, compare
  c3 serve                        Run a gateway and both nodes at http://127.0.0.1:7300
  c3 put book.txt                 Store a text and print its id
  c3 get ID --output back.txt     Read it back, byte for byte

Every command that takes an ID also takes a unique prefix of the ID, or @NAME.

`c3 COMMAND --help` describes a command and all its flags. Most flags have an environment variable,
and those for the gateway may stand in ~/.config/c3/config.toml.

Exit codes: 0 success, 1 the work failed, 2 the arguments are wrong, 128 plus the number of the
signal that ended the command. `c3 fsck` has codes of its own.";

/// Store long texts as a few latent tokens, and read them back byte for byte
#[derive(Debug, Parser)]
#[command(name = "c3", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) verbosity: Verbosity,
    #[command(flatten, next_help_heading = TELEMETRY)]
    pub(crate) telemetry: TelemetryConfig,
}

/// Parses the command line. Returns `None` after printing help or the version, if the caller asked for either.
pub(crate) fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Option<Cli>, CliError> {
    let line = Vec::from_iter(line);
    let parsed = command().try_get_matches_from(&line).and_then(|matches| Ok((cli_of(&matches)?, matches)));
    match parsed {
        Ok((cli, matches)) => {
            let cli = match cli.command {
                Command::Client(_) => with_profile(cli, &profile_of(&matches)?, &line)?,
                _ => cli,
            };
            cli.command.write_args().map_or(Ok(()), WriteArgs::check)?;
            Ok(Some(cli))
        }
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // Ignore errors: standard output may be closed.
            let _ = error.print();
            Ok(None)
        }
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand
            ) =>
        {
            Err(CliError::Usage(format!("no command given; `{} --help` lists the commands", incomplete(&error))))
        }
        Err(error) => Err(error.into()),
    }
}

fn cli_of(matches: &ArgMatches) -> Result<Cli, clap::Error> {
    refuse_client_flags_of_serve(matches)?;
    let mut cli = Cli::from_arg_matches(matches)?;
    if matches.value_source(LOG_FLAG) == Some(ValueSource::DefaultValue) {
        let is_server = matches!(cli.command, Command::Serve(_));
        let role = if is_server { LogRole::Server } else { LogRole::Client };
        cli.telemetry.log = cli.verbosity.log_filter(role).to_owned();
    }
    Ok(cli)
}

/// Parses the line once more, with the values of the profile as defaults.
fn with_profile(cli: Cli, profile: &Profile, line: &[OsString]) -> Result<Cli, CliError> {
    if profile.is_empty() {
        return Ok(cli);
    }
    let parsed = profile.apply(command()).try_get_matches_from(line).and_then(|matches| cli_of(&matches));
    parsed.map_err(|error| profile.blame(&CliError::from(error).to_string()))
}

/// Returns the arguments for the gateway from a line that may lack arguments or contain wrong ones, such as one that is
/// being completed.
pub(crate) fn remote_of_partial(line: &[OsString]) -> Option<RemoteArgs> {
    let matches = |command: clap::Command| command.ignore_errors(true).try_get_matches_from(line).ok();
    let profile = profile_of(&matches(command())?).ok()?;
    RemoteArgs::from_arg_matches(innermost(&matches(profile.apply(command()))?)).ok()
}

/// Loads the profile for a line that was parsed without one.
fn profile_of(matches: &ArgMatches) -> Result<Profile, CliError> {
    let value = |flag| innermost(matches).try_get_one::<String>(flag).ok().flatten().map(String::as_str);
    Ok(Profile::load(value("profile"))?.for_gateway(value("gateway")))
}

/// Returns the matches of the innermost command, to which clap copies those of global flags.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| innermost(inner))
}

/// Returns the part of the command line that lacks a command, such as `c3 name`, from the usage in clap's help.
fn incomplete(error: &clap::Error) -> String {
    let help = error.to_string();
    let usage = help.lines().find_map(|line| line.strip_prefix("Usage: ")).unwrap_or("c3");
    let words = usage.split_whitespace().take_while(|word| !word.starts_with(['[', '<']));
    words.collect::<Vec<_>>().join(" ")
}

/// Returns the parser, whose help lists the commands in groups.
fn command() -> clap::Command {
    groups::with_groups(plain_command())
}

/// Returns the parser for completions and man pages. The flags for the gateway (`--gateway`), the output format
/// (`--json`) and telemetry may stand before or after the command.
pub(crate) fn plain_command() -> clap::Command {
    let command = with_client_flags(Cli::command()).mut_args(|arg| arg.global(true));
    let command = command.mut_arg("profile", |arg| arg.add(ArgValueCandidates::new(complete::profiles)));
    // Flags of the gateway that few callers need are described by the commands that call one, and not by `c3 --help`.
    let command = command.mut_args(|arg| if is_rare(&arg) && !is_telemetry(&arg) { arg.hide(true) } else { arg });
    let command = without_rare_flags(command);
    let command = command.mut_subcommand("serve", |serve| {
        // `serve` refuses the client flags. Since they are global, its help would list them. It therefore gets hidden
        // arguments with the same ids, which take their place in the help. The flags for TLS are flags of the gateway.
        let client = RemoteArgs::augment_args(clap::Command::new("client"));
        let hidden = client.get_arguments().filter(|arg| CLIENT_FLAGS.contains(&arg.get_id().as_str()));
        serve::with_help(serve).args(hidden.map(|arg| arg.clone().hide(true)))
    });
    ignore_empty_variables(command)
}

/// Omits the rare flags from `-h` of each command. All flags of `serve` remain.
fn without_rare_flags(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| {
        let is_rare = is_rare(&arg);
        arg.hide_short_help(is_rare)
    });
    command.mut_subcommands(|command| if command.get_name() == "serve" { command } else { without_rare_flags(command) })
}

fn is_rare(arg: &clap::Arg) -> bool {
    let id = arg.get_id().as_str();
    id.starts_with("tls_") || RARE_FLAGS.contains(&id)
}

fn is_telemetry(arg: &clap::Arg) -> bool {
    arg.get_help_heading() == Some(TELEMETRY)
}

/// Adds `--gateway` and `--json`. Then restores the description of `command`, which clap has replaced with the doc
/// comment of [`RemoteArgs`].
fn with_client_flags(command: clap::Command) -> clap::Command {
    let (about, long_about) = (command.get_about().cloned(), command.get_long_about().cloned());
    let about = about.unwrap_or_default();
    RemoteArgs::augment_args(command).long_about(long_about.unwrap_or_else(|| about.clone())).about(about)
}

fn refuse_client_flags_of_serve(matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some(serve) = matches.subcommand_matches("serve") else { return Ok(()) };
    let is_given = |flag: &&str| serve.value_source(flag) == Some(ValueSource::CommandLine);
    CLIENT_FLAGS.into_iter().find(is_given).map_or(Ok(()), |flag| {
        let message = format!("`c3 serve` starts a gateway and calls none: remove --{}", flag.replace('_', "-"));
        Err(command().error(ErrorKind::ArgumentConflict, message))
    })
}

#[cfg(test)]
mod tests {
    use c3_client::AutoBound;

    use super::*;
    use crate::commands::ClientCommand;

    fn parsed(line: &str) -> Result<Cli, CliError> {
        let words = std::iter::once("c3").chain(line.split_whitespace()).map(OsString::from);
        parse(words).map(|cli| cli.expect("no line below asks for help"))
    }

    fn refusal(line: &str) -> String {
        match parsed(line) {
            Err(CliError::Usage(message)) => message,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_parser_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn the_help_describes_the_programs() {
        let about = |command: &clap::Command| command.get_about().unwrap().to_string();
        let c3 = command();
        assert!(about(&c3).starts_with("Store long texts"), "{}", about(&c3));
        let serve = c3.find_subcommand("serve").unwrap();
        assert!(about(serve).starts_with("Run a gateway"), "{}", about(serve));
    }

    #[test]
    fn a_ratio_is_a_whole_number_of_one_or_more() {
        for ratio in ["0", "-3", "x", "2.5", "99999999999"] {
            let message = refusal(&format!("put book.txt --ratio {ratio}"));
            assert!(message.contains("8 to 80") && !message.contains('\n'), "{message}");
        }
        let Command::Client(ClientCommand::Put(put)) = parsed("put book.txt --ratio 40").unwrap().command else {
            panic!("not put")
        };
        assert_eq!(put.write.options(Some(7)).ratio, Some(40));
    }

    #[test]
    fn an_automatic_ratio_has_one_bound() {
        let options = |line| match parsed(line).unwrap().command {
            Command::Client(ClientCommand::Put(put)) => put.write.options(Some(7)).auto_ratio,
            other => panic!("{other:?}"),
        };
        let auto = options("put f --ratio auto --ratios 40,20").unwrap();
        assert_eq!((auto.ratios, auto.bound), (vec![40, 20], AutoBound::FidelityMin(0.999)));
        let auto = options("put f --ratio auto --stored-size-max 900").unwrap();
        assert_eq!(auto.bound, AutoBound::StoredBytesMax(900));
        assert!(options("put f --ratio 20").is_none());
        for wrong in [
            "put f --fidelity-min 0.9",
            "put f --ratio 20 --fidelity-min 0.9",
            "put f --ratio auto --no-verify",
            "put f --ratio auto --fidelity-min 1.5",
            "put f --ratio auto --fidelity-min 0.9 --stored-size-max 9",
        ] {
            assert!(!refusal(wrong).is_empty());
        }
    }

    #[test]
    fn recode_takes_ids_or_all() {
        assert!(refusal("recode --codec f32").contains("ID"));
        assert!(refusal("recode abcd --all").contains("--all"));
        assert!(parsed("recode --all --codec f32").is_ok() && parsed("recode abcd ef01 --ratio 40").is_ok());
    }

    #[test]
    fn usage_errors_are_one_line() {
        for line in ["", "fetch", "put", "get zz", "get abcd --range 9..3", "get abcd --range x", "put f --codec q5"] {
            let message = refusal(line);
            assert!(!message.is_empty() && !message.contains('\n') && !message.contains("error:"), "{message}");
        }
        assert!(refusal("put f --rati 20").contains("--ratio"));
        assert!(refusal("").contains("`c3 --help`") && refusal("name").contains("`c3 name --help`"));
        assert!(refusal("name set bad!name abcd").contains("`!`"));
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
    fn only_servers_log_by_default() {
        let log = |line| parsed(line).unwrap().telemetry.log;
        assert_eq!(log("ls"), "off");
        assert_eq!(log("serve"), "info");
        assert_eq!(log("--log debug ls"), "debug");
        assert_eq!(log("ls --log debug"), "debug");
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        let remote = |line: &str| {
            let words = std::iter::once("c3").chain(line.split_whitespace());
            let matches = command().try_get_matches_from(words).unwrap();
            let (_, command) = matches.subcommand().unwrap();
            let remote = RemoteArgs::from_arg_matches(command).unwrap();
            (remote.gateway, remote.format.json)
        };
        let given = (Some("http://a:1,http://b:1".to_owned()), true);
        assert_eq!(remote("--gateway http://a:1,http://b:1 --json put f"), given);
        assert_eq!(remote("put f --gateway http://a:1,http://b:1 --json"), given);
        assert_eq!(remote("--json roundtrip f --gateway http://a:1,http://b:1"), given);
        assert_eq!(remote("--gateway http://c:1 put f --gateway http://a:1,http://b:1 --json"), given);
        assert!(refusal("--gateway http://a:1 serve").contains("--gateway"));
        assert!(refusal("serve --json").contains("--json"));
        let help = command().find_subcommand_mut("serve").unwrap().render_long_help().to_string();
        assert!(!help.contains("--gateway") && !help.contains("--json"), "{help}");
    }

    #[test]
    fn the_default_range_is_the_whole_document() {
        let range = |line| match parsed(line).unwrap().command {
            Command::Client(ClientCommand::Get(get)) => get.range,
            other => panic!("{other:?}"),
        };
        assert_eq!(range("get abcd").within(10), Ok(0..10));
        assert_eq!(range("get abcd --range 3..7").within(10), Ok(3..7));
        assert_eq!(range("get abcd --range ..4 -o f").within(10), Ok(0..4));
    }
}
