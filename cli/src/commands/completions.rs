//! `c3 completions`: prints the script that makes a shell complete commands, flags, ids and names.

use clap::ValueEnum;
use clap_complete::env::Shells;

use crate::error::CliError;
use crate::output::print_script;

/// Variable that makes `c3` answer a completion instead of running a command.
pub(crate) const VARIABLE: &str = "COMPLETE";
/// Program that the script completes, and calls for that.
const PROGRAM: &str = "c3";
/// Bash ends words at `@`, so that it would complete a name without its `@`.
const BASH_WORDS: &str = "COMP_WORDBREAKS=${COMP_WORDBREAKS//@/}";

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// Shell that runs the script
    shell: Shell,
}

/// Shell with completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(crate) fn run(args: &CompletionsArgs) -> Result<(), CliError> {
    let shell = args.shell.to_possible_value().expect("no shell is skipped");
    let shells = Shells::builtins();
    let completer = shells.completer(shell.get_name()).expect("clap knows these shells");
    let mut script = Vec::new();
    let written = completer.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script);
    written.map_err(|error| CliError::Failed(error.to_string()))?;
    let mut script = String::from_utf8_lossy(&script).trim().to_owned();
    if args.shell == Shell::Bash {
        script = format!("{script}\n{BASH_WORDS}");
    }
    print_script(&script)
}
