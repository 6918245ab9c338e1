//! Destination of a command's bytes: standard output, a file that is replaced atomically, or a path such as a pipe.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use tokio::io::{AsyncWriteExt, Stdout};

use super::SummaryStream;
use crate::error::CliError;

/// Destination of a command's bytes.
pub(crate) enum Output {
    Stdout(Stdout),
    /// A file that is written under a temporary name in the same directory and renamed by [`Output::finish`].
    File {
        temporary: NamedTempFile,
        path: PathBuf,
    },
    /// Like [`Output::File`], but never replaces an existing file.
    NewFile {
        temporary: NamedTempFile,
        path: PathBuf,
    },
    /// An existing path that is not a regular file, such as a pipe. It is written directly.
    InPlace {
        file: std::fs::File,
        path: PathBuf,
    },
}

impl Output {
    /// Opens `path`; `None` and `-` are standard output. An existing file is replaced only by [`Output::finish`]. Fails
    /// if `path` is a directory or cannot be opened, or if no temporary file can be created beside it.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, CliError> {
        let path = match path {
            None => return Ok(Self::Stdout(tokio::io::stdout())),
            Some(path) if path == Path::new("-") => return Ok(Self::Stdout(tokio::io::stdout())),
            Some(path) => path,
        };
        // If `path` is a symbolic link, replace the file that it points to, not the link.
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let failed = |error: io::Error| CliError::at(path, &error);
        match target.metadata() {
            Ok(metadata) if metadata.is_dir() => Err(failed(io::ErrorKind::IsADirectory.into())),
            Ok(metadata) if !metadata.is_file() => {
                let file = std::fs::OpenOptions::new().write(true).open(&target).map_err(failed)?;
                Ok(Self::InPlace { file, path: target })
            }
            _ => Ok(Self::File { temporary: temporary_beside(&target).map_err(failed)?, path: target }),
        }
    }

    /// Opens a new file. If `path` already exists when [`Output::finish`] is called, `finish` leaves it and fails.
    pub(crate) fn open_new(path: &Path) -> Result<Self, CliError> {
        let temporary = temporary_beside(path).map_err(|error| CliError::at(path, &error))?;
        Ok(Self::NewFile { temporary, path: path.to_owned() })
    }

    /// Writes all of `bytes`.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        match self {
            Self::Stdout(stdout) => stdout.write_all(bytes).await.map_err(|error| CliError::stdout(&error)),
            Self::File { temporary: file, path } | Self::NewFile { temporary: file, path } => {
                file.write_all(bytes).map_err(|error| CliError::at(path, &error))
            }
            Self::InPlace { file, path } => file.write_all(bytes).map_err(|error| CliError::at(path, &error)),
        }
    }

    /// Completes the output and returns the output stream for the command's summary. If the output is dropped instead,
    /// no file is created or replaced. Bytes already sent to standard output or [`Output::InPlace`] stay written.
    pub(crate) async fn finish(self) -> Result<SummaryStream, CliError> {
        match self {
            Self::Stdout(mut stdout) => {
                stdout.flush().await.map_err(|error| CliError::stdout(&error))?;
                return Ok(SummaryStream::Stderr);
            }
            Self::File { temporary, path } => {
                temporary.persist(&path).map_err(|error| CliError::at(&path, &error.error))?;
            }
            Self::NewFile { temporary, path } => {
                temporary.persist_noclobber(&path).map_err(|error| CliError::at(&path, &error.error))?;
            }
            Self::InPlace { .. } => {}
        }
        Ok(SummaryStream::Stdout)
    }
}

/// Creates a temporary file in the directory of `target`, with the default permissions of new files.
fn temporary_beside(target: &Path) -> io::Result<NamedTempFile> {
    let directory = target.parent().filter(|directory| !directory.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    builder.prefix(".c3-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(directory.unwrap_or(Path::new(".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_appears_complete_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        let mut output = Output::open(Some(&path)).unwrap();
        output.write(b"half").await.unwrap();
        assert!(!path.exists());
        drop(output);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);

        let mut output = Output::open(Some(&path)).unwrap();
        output.write(b"complete").await.unwrap();
        output.finish().await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"complete");
    }

    #[tokio::test]
    async fn a_device_is_written_in_place() {
        let mut output = Output::open(Some(Path::new("/dev/null"))).unwrap();
        output.write(b"gone").await.unwrap();
        output.finish().await.unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }

    #[tokio::test]
    async fn a_new_file_replaces_no_existing_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        let mut output = Output::open_new(&path).unwrap();
        output.write(b"late").await.unwrap();
        std::fs::write(&path, "first").unwrap();
        assert!(output.finish().await.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
    }

    #[test]
    fn a_directory_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Output::open(Some(folder.path())), Err(CliError::Failed(_))));
    }
}
