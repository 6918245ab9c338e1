//! Why a command did not do what was asked, as one line and an exit code.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use tonic::Code;

/// Exit code where the work failed.
const WORK_FAILED: u8 = 1;
/// Exit code where the call was wrong.
const CALL_WRONG: u8 = 2;

/// Exit codes of a check: all faults are repaired, some are left, nobody could look.
const REPAIRED: u8 = 1;
const FAULTS_LEFT: u8 = 2;
const NOT_CHECKED: u8 = 3;

/// What of a refused call is the text and not the call: the field that the gateway's message begins with.
const FIELDS_OF_THE_TEXT: [&str; 2] = ["text", "bytes"];

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The caller's arguments are wrong.
    #[error("{0}")]
    CallWrong(String),
    /// The arguments are right, yet the work failed.
    #[error("{0}")]
    WorkFailed(String),
    /// The work failed, and the report has said so.
    #[error("what came back is not what was put")]
    Told,
    /// A check found faults and repaired all, and the report has said so.
    #[error("all faults are repaired")]
    Repaired,
    /// A check found faults that are not repaired, and the report has said so.
    #[error("faults are left")]
    FaultsLeft,
    /// A check could not be made.
    #[error("{0}")]
    NotChecked(String),
    /// Whoever read the output went away, which is theirs to decide.
    #[error("the reader of the output went away")]
    ReaderGone,
}

impl Failure {
    /// The work failed at a file.
    pub(crate) fn at(path: &Path, error: &io::Error) -> Self {
        Self::WorkFailed(format!("{}: {error}", path.display()))
    }

    /// Writing to standard output failed.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::WorkFailed(format!("standard output: {error}")),
        }
    }

    /// Says on standard error what is wrong, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let code = match self {
            Self::CallWrong(_) => CALL_WRONG,
            Self::WorkFailed(_) => WORK_FAILED,
            Self::NotChecked(_) => NOT_CHECKED,
            Self::Told => return ExitCode::from(WORK_FAILED),
            Self::Repaired => return ExitCode::from(REPAIRED),
            Self::FaultsLeft => return ExitCode::from(FAULTS_LEFT),
            Self::ReaderGone => return ExitCode::SUCCESS,
        };
        eprintln!("error: {self}");
        ExitCode::from(code)
    }
}

impl From<c3_client::Error> for Failure {
    fn from(error: c3_client::Error) -> Self {
        let message = error.to_string();
        match error {
            c3_client::Error::Url { .. } => Self::CallWrong(message),
            c3_client::Error::Call { code: Code::InvalidArgument, .. } => {
                let field = message.split(':').next().unwrap_or_default();
                match FIELDS_OF_THE_TEXT.contains(&field) {
                    true => Self::WorkFailed(message),
                    false => Self::CallWrong(message),
                }
            }
            _ => Self::WorkFailed(message),
        }
    }
}

impl From<c3_proto::Invalid> for Failure {
    fn from(invalid: c3_proto::Invalid) -> Self {
        Self::CallWrong(invalid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(code: Code, message: &str) -> Failure {
        c3_client::Error::Call { code, message: message.to_owned(), retry_after: None }.into()
    }

    #[test]
    fn wrong_arguments_and_failed_work_are_told_apart() {
        for wrong in ["ratio: 7 is not a whole number from 8 to 80", "id: `zz` is not", "range: 4..9 reaches"]
        {
            assert!(matches!(call(Code::InvalidArgument, wrong), Failure::CallWrong(_)), "{wrong}");
        }
        for failed in ["text: not UTF-8 at byte 7", "bytes: 300 is over the limit"] {
            assert!(matches!(call(Code::InvalidArgument, failed), Failure::WorkFailed(_)), "{failed}");
        }
        assert!(matches!(call(Code::NotFound, "no document begins with abcd"), Failure::WorkFailed(_)));
        let url = c3_client::Error::Url { url: "x".to_owned() };
        assert!(matches!(Failure::from(url), Failure::CallWrong(_)));
    }
}
