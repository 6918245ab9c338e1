//! Parser of command lines, with the rule for empty variables.

use clap::builder::Resettable;
use clap::{Command, Parser};

/// Parses the program's command line. If the command line is wrong, or asks for help or the version, prints the answer
/// and exits.
pub fn parse<A: Parser>() -> A {
    let matches = ignore_empty_variables(A::command()).get_matches();
    A::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Makes a command and its subcommands treat empty environment variables as unset. Compose files and unit files often
/// cannot leave a variable unset, so they set it to an empty value.
pub fn ignore_empty_variables(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        if value.is_some_and(|value| value.is_empty()) { arg.env(Resettable::Reset) } else { arg }
    });
    command.mut_subcommands(ignore_empty_variables)
}
