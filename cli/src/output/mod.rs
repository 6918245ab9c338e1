//! Output of commands: human-readable or JSON results, files, progress bars and reports.

mod batch;
mod file;
pub(crate) mod format;
mod progress;
mod report;

use std::fmt::Display;
use std::io::{self, Write};

use c3_server::printable::Printable;
use serde::Serialize;

use crate::error::CliError;

pub(crate) use batch::Batch;
pub(crate) use file::Output;
pub(crate) use progress::Progress;
pub(crate) use report::{Report, Seconds, describe};

/// Format of a command's result.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Format {
    /// Print the result as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Output stream for a command's summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SummaryStream {
    Stdout,
    /// Used if the command writes a document to standard output.
    Stderr,
}

impl Format {
    /// Prints `record` as one line of JSON if `--json` is given, otherwise `text`.
    pub(crate) fn print(self, text: impl Display, record: &impl Serialize) -> Result<(), CliError> {
        if self.json { print(to_json(record)) } else { print(text) }
    }

    /// Prints a summary to `stream`. If `stream` is standard error, prints only with `--json`, because a human-readable
    /// summary would mix with the document on a terminal.
    pub(crate) fn print_summary(
        self,
        stream: SummaryStream,
        text: impl Display,
        record: &impl Serialize,
    ) -> Result<(), CliError> {
        if stream == SummaryStream::Stdout {
            return self.print(text, record);
        }
        if self.json {
            print_error(to_json(record));
        }
        Ok(())
    }
}

/// Prints one or more lines to standard output, with control characters escaped. The escapes are also valid in
/// JSON.
pub(crate) fn print(lines: impl Display) -> Result<(), CliError> {
    let lines = lines.to_string();
    let lines = lines.split('\n').map(|line| Printable(line).to_string()).collect::<Vec<_>>().join("\n");
    progress::suspend_bars(|| writeln!(io::stdout(), "{lines}")).map_err(|error| CliError::stdout(&error))
}

/// Prints a line to standard error, with control characters escaped. Ignores errors, since there is no place left to
/// report them.
pub(crate) fn print_error(line: impl Display) {
    let _ = progress::suspend_bars(|| writeln!(io::stderr(), "{}", Printable(line)));
}

/// Prints a warning to standard error about a stored object that cannot be read.
pub(crate) fn warn_damaged(object: impl Display, problem: &str) {
    print_error(format_args!("warning: {object}: {problem}; run `c3 fsck`"));
}

/// Serializes a value to one line of JSON.
pub(crate) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, numbers, lists and maps with string keys are valid JSON")
}
