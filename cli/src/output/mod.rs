//! Output of commands: human-readable or JSON results, files, progress bars and reports.

mod batch;
mod file;
pub(crate) mod format;
mod progress;
mod report;
pub(crate) mod style;
mod table;

use std::fmt::Display;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use c3_server::printable::Printable;
use serde::Serialize;

use crate::error::CliError;

pub(crate) use batch::Batch;
pub(crate) use file::Output;
pub(crate) use progress::{Progress, StageBars};
pub(crate) use report::{Report, Seconds, describe};
pub(crate) use table::{Align, Cell, Column, Table};

/// True if the caller gave `--quiet`.
static IS_QUIET: AtomicBool = AtomicBool::new(false);

/// Hides progress bars and notices from now on.
pub(crate) fn be_quiet() {
    IS_QUIET.store(true, Ordering::Relaxed);
    progress::hide_bars();
}

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
    write_line(lines.split('\n').map(|line| Printable(line).to_string()).collect::<Vec<_>>().join("\n"))
}

/// Prints a script to standard output as it is. It must not contain text from outside.
pub(crate) fn print_script(script: &str) -> Result<(), CliError> {
    write_line(script.to_owned())
}

/// Writes a line to standard output. Its styles are removed unless standard output shows colours. The caller must have
/// escaped control characters.
fn write_line(line: String) -> Result<(), CliError> {
    progress::suspend_bars(|| writeln!(anstream::stdout(), "{line}")).map_err(|error| CliError::stdout(&error))
}

/// Prints a line to standard error, with control characters escaped. Ignores errors, since there is no place left to
/// report them.
pub(crate) fn print_error(line: impl Display) {
    write_error_line(&Printable(line).to_string());
}

/// Prints a notice to standard error, unless the caller asked for quiet.
pub(crate) fn notice(line: impl Display) {
    if !IS_QUIET.load(Ordering::Relaxed) {
        print_error(line);
    }
}

/// Prints a warning to standard error.
pub(crate) fn warn(message: impl Display) {
    write_error_line(&format!("{} {}", style::paint(style::WARNING, "warning:"), Printable(message)));
}

/// Prints a warning to standard error about a stored object that cannot be read.
pub(crate) fn warn_damaged(object: impl Display, problem: &str) {
    warn(format_args!("{object}: {problem}; run `c3 fsck`"));
}

/// Prints an error to standard error.
pub(crate) fn error(message: impl Display) {
    write_error_line(&format!("{} {}", style::paint(style::BAD, "error:"), Printable(message)));
}

fn write_error_line(line: &str) {
    let _ = progress::suspend_bars(|| writeln!(anstream::stderr(), "{line}"));
}

/// Serializes a value to one line of JSON.
pub(crate) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, numbers, lists and maps with string keys are valid JSON")
}
