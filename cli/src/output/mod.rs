//! Where results go: standard output, or a file that appears whole or not at all.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use tokio::io::{AsyncWriteExt, Stdout};

use crate::failure::Failure;

/// Prints a line, or several, to standard output.
pub(crate) fn print(lines: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{lines}").map_err(|error| Failure::stdout(&error))
}

/// Where a result's bytes go.
pub(crate) enum Output {
    /// Standard output.
    Stdout(Stdout),
    /// A file: written beside its place, moved there when complete.
    File { beside: NamedTempFile, path: PathBuf },
    /// The same, where nothing may be replaced.
    New { beside: NamedTempFile, path: PathBuf },
    /// What is there already and is no file, such as a pipe: written in place.
    Place { place: std::fs::File, path: PathBuf },
}

impl Output {
    /// Opens `path`; none and `-` are standard output.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let path = match path {
            None => return Ok(Self::Stdout(tokio::io::stdout())),
            Some(path) if path == Path::new("-") => return Ok(Self::Stdout(tokio::io::stdout())),
            Some(path) => path,
        };
        // Through links to the file that they mean.
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let failed = |error: io::Error| Failure::at(path, &error);
        match target.metadata() {
            Ok(there) if there.is_dir() => Err(failed(io::ErrorKind::IsADirectory.into())),
            Ok(there) if !there.is_file() => {
                let place = std::fs::OpenOptions::new().write(true).open(&target).map_err(failed)?;
                Ok(Self::Place { place, path: target })
            }
            _ => Ok(Self::File { beside: beside(&target).map_err(failed)?, path: target }),
        }
    }

    /// A file that is not there yet. What appears there meanwhile stays, and [`Output::finish`] fails.
    pub(crate) fn open_new(path: &Path) -> Result<Self, Failure> {
        let beside = beside(path).map_err(|error| Failure::at(path, &error))?;
        Ok(Self::New { beside, path: path.to_owned() })
    }

    /// Whether this is standard output.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout(_))
    }

    /// Writes all of `bytes`.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Stdout(stdout) => stdout.write_all(bytes).await.map_err(|error| Failure::stdout(&error)),
            Self::File { beside, path } | Self::New { beside, path } => {
                beside.write_all(bytes).map_err(|error| Failure::at(path, &error))
            }
            Self::Place { place, path } => place.write_all(bytes).map_err(|error| Failure::at(path, &error)),
        }
    }

    /// The result is complete.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Stdout(mut stdout) => stdout.flush().await.map_err(|error| Failure::stdout(&error)),
            Self::File { beside, path } => {
                beside.persist(&path).map(drop).map_err(|error| Failure::at(&path, &error.error))
            }
            Self::New { beside, path } => {
                beside.persist_noclobber(&path).map(drop).map_err(|error| Failure::at(&path, &error.error))
            }
            Self::Place { .. } => Ok(()),
        }
    }
}

/// An unnamed file in the folder of `target`, with the permissions of any new file.
fn beside(target: &Path) -> io::Result<NamedTempFile> {
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    builder.prefix(".c3-");
    #[cfg(unix)]
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    #[cfg(unix)]
    builder.permissions(permissions);
    builder.tempfile_in(folder.unwrap_or(Path::new(".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        let mut output = Output::open(Some(&path)).unwrap();
        output.write(b"half").await.unwrap();
        assert!(!path.exists());
        drop(output);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);

        let mut output = Output::open(Some(&path)).unwrap();
        output.write(b"whole").await.unwrap();
        output.finish().await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
    }

    #[tokio::test]
    async fn what_is_no_file_is_written_in_place() {
        let mut output = Output::open(Some(Path::new("/dev/null"))).unwrap();
        output.write(b"gone").await.unwrap();
        output.finish().await.unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }

    #[tokio::test]
    async fn a_new_file_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        let mut output = Output::open_new(&path).unwrap();
        output.write(b"late").await.unwrap();
        std::fs::write(&path, "first").unwrap();
        assert!(output.finish().await.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
    }

    #[test]
    fn a_folder_is_no_place_for_a_text() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Output::open(Some(folder.path())), Err(Failure::WorkFailed(_))));
    }
}
