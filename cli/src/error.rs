//! Errors of the command line: one line on standard error, and an exit code.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use tonic::Code;

/// The work failed.
pub(crate) const FAILED: u8 = 1;
/// The arguments are wrong. Nothing was done.
const USAGE: u8 = 2;
/// `fsck` found faults and repaired all of them, as in fsck(8).
pub(crate) const FSCK_REPAIRED: u8 = 1;
/// `fsck` left faults, as in fsck(8).
pub(crate) const FSCK_FAULTS_LEFT: u8 = 4;
/// `fsck` could not finish, as in fsck(8).
const FSCK_INCOMPLETE: u8 = 8;

/// Field names that begin an INVALID_ARGUMENT message about the text rather than about an argument.
const TEXT_FIELDS: [&str; 2] = ["text", "bytes"];

/// Reason a command ends with an exit code other than 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The arguments are wrong.
    #[error("{0}")]
    Usage(String),
    /// The arguments are right, but the work failed.
    #[error("{0}")]
    Failed(String),
    /// `fsck` could not check the whole store.
    #[error("{0}")]
    FsckIncomplete(String),
    /// The command's output already describes the failure; only the exit code is left.
    #[error("exit code {0}")]
    Reported(u8),
    /// The reader of standard output closed it, for example `head`. Not a failure.
    #[error("standard output was closed")]
    OutputClosed,
}

impl CliError {
    /// An I/O error on a file.
    pub(crate) fn at(path: &Path, error: &io::Error) -> Self {
        Self::Failed(format!("{}: {error}", path.display()))
    }

    /// An error while writing to standard output.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Failed(format!("cannot write to standard output: {error}")),
        }
    }

    /// Prints the error to standard error, unless that was done already, and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let code = match self {
            Self::Usage(_) => USAGE,
            Self::Failed(_) => FAILED,
            Self::FsckIncomplete(_) => FSCK_INCOMPLETE,
            Self::Reported(code) => return ExitCode::from(*code),
            Self::OutputClosed => return ExitCode::SUCCESS,
        };
        eprintln!("error: {self}");
        ExitCode::from(code)
    }
}

impl From<c3_client::Error> for CliError {
    fn from(error: c3_client::Error) -> Self {
        let message = error.to_string();
        let is_usage = match error {
            c3_client::Error::Url { .. } => true,
            c3_client::Error::Call { code: Code::InvalidArgument, .. } => {
                !TEXT_FIELDS.contains(&message.split(':').next().unwrap_or_default())
            }
            _ => false,
        };
        if is_usage { Self::Usage(message) } else { Self::Failed(message) }
    }
}

impl From<c3_types::Invalid> for CliError {
    fn from(invalid: c3_types::Invalid) -> Self {
        Self::Usage(invalid.to_string())
    }
}

impl From<clap::Error> for CliError {
    /// Joins clap's paragraphs into one line, without the usage.
    fn from(error: clap::Error) -> Self {
        let text = error.to_string();
        let paragraphs = text.split("\n\n").map(|paragraph| {
            let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
            lines.join(" ").trim().trim_start_matches("error: ").to_owned()
        });
        let is_message = |line: &String| !line.starts_with("Usage:") && !line.starts_with("For more");
        Self::Usage(paragraphs.take_while(is_message).collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(code: Code, message: &str) -> CliError {
        c3_client::Error::Call { code, message: message.to_owned(), retry_after: None }.into()
    }

    #[test]
    fn wrong_arguments_differ_from_failed_work() {
        for wrong in ["ratio: 7 is not a whole number from 8 to 80", "id: `zz` is not", "range: 4..9 reaches"] {
            assert!(matches!(call(Code::InvalidArgument, wrong), CliError::Usage(_)), "{wrong}");
        }
        for failed in ["text: not UTF-8 at byte 7", "bytes: 300 is over the limit"] {
            assert!(matches!(call(Code::InvalidArgument, failed), CliError::Failed(_)), "{failed}");
        }
        assert!(matches!(call(Code::NotFound, "no document begins with abcd"), CliError::Failed(_)));
        let url = c3_client::Error::Url { url: "x".to_owned() };
        assert!(matches!(CliError::from(url), CliError::Usage(_)));
    }
}
