//! Errors of the command line. Each is printed as one line on standard error and has an exit code.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use tonic::Code;

use crate::kept;

/// Exit code if the work failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code if the arguments are wrong.
const USAGE: u8 = 2;
/// Exit code if `fsck` found faults and repaired all of them, as in fsck(8).
pub(crate) const FSCK_REPAIRED: u8 = 1;
/// Exit code if faults are left after `fsck`, as in fsck(8).
pub(crate) const FSCK_FAULTS_LEFT: u8 = 4;
/// Exit code if `fsck` could not finish, as in fsck(8).
const FSCK_INCOMPLETE: u8 = 8;

/// Name of the program in hints.
const PROGRAM: &str = "c3";

/// Request fields that `c3` fills with the content of a file. The message of an INVALID_ARGUMENT status begins with the
/// name of the wrong field. If it is none of these, an argument of the command line is wrong.
const CONTENT_FIELDS: [&str; 7] = ["text", "bytes", "document", "window", "group", "data", "corrections"];

/// Reason why a command ends early. The exit code is 0 only for [`Self::OutputClosed`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The arguments are wrong.
    #[error("{0}")]
    Usage(String),
    /// The arguments are right, but the work failed.
    #[error("{0}")]
    Failed(String),
    /// The content of a file is invalid or cannot be read. [`Self::in_file`] adds the name of the file.
    #[error("{0}")]
    Content(String),
    /// `fsck` could not check the whole store.
    #[error("{0}")]
    FsckIncomplete(String),
    /// The command's output already describes the failure. Nothing more is printed, and the program exits with this
    /// code.
    #[error("exit code {0}")]
    Reported(u8),
    /// A signal ended the command. The exit code is 128 plus the signal's number. The message says what was kept.
    #[error("interrupted{}{}", if kept::note().is_empty() { "" } else { ": " }, kept::note())]
    Interrupted(u8),
    /// The program that reads standard output, for example `head`, closed it. Not a failure.
    #[error("standard output was closed")]
    OutputClosed,
}

impl CliError {
    /// Returns the error for an I/O error on the file at `path`. The message says what to do.
    pub(crate) fn at(path: &Path, error: &io::Error) -> Self {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => ": check the path",
            io::ErrorKind::PermissionDenied => ": change its permissions, or use another path",
            io::ErrorKind::AlreadyExists => ": use another path, or remove the file",
            io::ErrorKind::IsADirectory => ": give a file",
            io::ErrorKind::NotADirectory => ": give a folder",
            io::ErrorKind::StorageFull => ": free space, then try again",
            _ => "",
        };
        Self::Failed(format!("{}: {error}{remedy}", path.display()))
    }

    /// Turns [`Self::Content`] into [`Self::Failed`] with the name of the file in the message. Returns any other error
    /// unchanged.
    pub(crate) fn in_file(self, name: &str) -> Self {
        match self {
            Self::Content(message) if message.contains("not UTF-8") => {
                Self::Failed(format!("{name}: {message}: convert the text to UTF-8, for example with iconv"))
            }
            Self::Content(message) => Self::Failed(format!("{name}: {message}")),
            error => error,
        }
    }

    /// Returns the error for an I/O error while writing to standard output.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Failed(format!("cannot write to standard output: {error}")),
        }
    }

    /// Returns the exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(USAGE),
            Self::Failed(_) | Self::Content(_) => ExitCode::from(FAILED),
            Self::FsckIncomplete(_) => ExitCode::from(FSCK_INCOMPLETE),
            Self::Interrupted(code) | Self::Reported(code) => ExitCode::from(*code),
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }

    /// Returns whether the error must be printed. The others are described by the output already, or are no failures.
    pub(crate) fn is_printed(&self) -> bool {
        !matches!(self, Self::Reported(_) | Self::OutputClosed)
    }
}

impl From<c3_client::Error> for CliError {
    fn from(error: c3_client::Error) -> Self {
        let message = error.to_string();
        match error {
            c3_client::Error::Url { .. } | c3_client::Error::ApiKey(_) => Self::Usage(message),
            c3_client::Error::Read(_) => Self::Content(message),
            c3_client::Error::Call { code: Code::InvalidArgument | Code::OutOfRange, .. } => {
                let field = message.split([':', '.']).next().unwrap_or_default();
                if CONTENT_FIELDS.contains(&field) { Self::Content(message) } else { Self::Usage(message) }
            }
            c3_client::Error::Call { code: Code::NotFound, .. } => {
                let list = if message.contains("name") { "c3 name ls" } else { "c3 ls" };
                Self::Failed(format!("{message}; `{list}` shows what there is"))
            }
            _ => Self::Failed(message),
        }
    }
}

impl From<c3_types::Invalid> for CliError {
    fn from(invalid: c3_types::Invalid) -> Self {
        Self::Usage(invalid.to_string())
    }
}

impl From<clap::Error> for CliError {
    /// Joins the paragraphs of clap's message into one line. Replaces the usage by a hint at the command's help.
    fn from(error: clap::Error) -> Self {
        let text = error.to_string();
        let paragraphs = text.split("\n\n").map(|paragraph| {
            let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
            lines.join(" ").trim().trim_start_matches("error: ").to_owned()
        });
        let is_message = |line: &String| !line.starts_with("Usage:") && !line.starts_with("For more");
        let mut message = paragraphs.take_while(is_message).collect::<Vec<_>>().join("; ");
        let usage = text.lines().find_map(|line| line.strip_prefix("Usage: "));
        if let Some(usage) = usage.or((error.kind() == ErrorKind::InvalidSubcommand).then_some(PROGRAM)) {
            let words = usage.split_whitespace().take_while(|word| !word.starts_with(['[', '<', '-']));
            message += &format!("; see `{} --help`", words.collect::<Vec<_>>().join(" "));
        }
        Self::Usage(message)
    }
}

#[cfg(test)]
mod tests {
    use c3_client::RetryRequest;

    use super::*;

    fn call(code: Code, message: &str) -> CliError {
        c3_client::Error::Call { code, message: message.to_owned(), retry: RetryRequest::None }.into()
    }

    #[test]
    fn wrong_arguments_differ_from_failed_work() {
        for wrong in ["ratio: 7 is not a whole number from 8 to 80", "id: `zz` is not", "range: 4..9 reaches"] {
            assert!(matches!(call(Code::InvalidArgument, wrong), CliError::Usage(_)), "{wrong}");
        }
        for failed in ["text: not UTF-8 at byte 7", "bytes: 300 is over the limit", "window.group: too wide"] {
            let named = call(Code::InvalidArgument, failed).in_file("a.txt");
            assert!(
                matches!(&named, CliError::Failed(message) if message.starts_with(&format!("a.txt: {failed}"))),
                "{named:?}"
            );
        }
        let missing = call(Code::NotFound, "no document begins with abcd");
        assert!(matches!(&missing, CliError::Failed(message) if message.contains("`c3 ls`")), "{missing:?}");
        let url = c3_client::Error::Url { url: "x".to_owned() };
        assert!(matches!(CliError::from(url), CliError::Usage(_)));
    }
}
