//! Output of commands: results as text or JSON, files, progress bars and reports.

mod batch;
mod file;
pub(crate) mod format;
mod progress;
mod report;

use std::fmt::Display;
use std::io::{self, Write};

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

/// Stream to print a command's summary to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SummaryStream {
    Stdout,
    /// Used if the command's bytes go to standard output.
    Stderr,
}

impl Format {
    /// Prints `text`, or `record` as one line of JSON.
    pub(crate) fn print(self, text: impl Display, record: &impl Serialize) -> Result<(), CliError> {
        if self.json { print(to_json(record)) } else { print(text) }
    }

    /// Prints a summary to `stream`. A terminal that shows the bytes themselves needs none, unless JSON is requested.
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
            eprintln!("{}", to_json(record));
        }
        Ok(())
    }
}

/// Prints a line, or several, to standard output.
pub(crate) fn print(lines: impl Display) -> Result<(), CliError> {
    writeln!(io::stdout(), "{lines}").map_err(|error| CliError::stdout(&error))
}

/// Prints a warning about a stored object that cannot be read.
pub(crate) fn warn_damaged(object: impl Display, problem: &str) {
    eprintln!("warning: {object}: {problem}; run `c3 fsck`");
}

/// Serializes a value as one line of JSON.
pub(crate) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, numbers, lists and maps with string keys are valid JSON")
}
