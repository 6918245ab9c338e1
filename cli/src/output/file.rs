//! Destination of a command's bytes: standard output, a file that is replaced atomically, or a path that is written
//! directly.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use tokio::io::{AsyncWriteExt, Stdout};

use super::{Progress, SummaryStream};
use crate::error::CliError;
use crate::temporary::Registration;

/// Maximum number of symbolic links that are followed, as on Linux.
const LINKS_MAX: usize = 40;
/// Descriptor of standard output.
const STDOUT: u32 = 1;

/// Destination of a command's bytes. Errors name the path as the user gave it.
pub(crate) struct Output {
    path: PathBuf,
    sink: Sink,
    is_terminal: bool,
}

enum Sink {
    Stdout(Stdout),
    /// A path that is written directly. If `is_stale`, the first write removes the old content.
    Direct {
        file: tokio::fs::File,
        is_stale: bool,
    },
    /// A file that is written under a temporary name and renamed to `target` by [`Output::finish`].
    Renamed {
        temporary: Temporary,
        target: PathBuf,
        existing: Existing,
    },
}

/// Treatment of a file that already exists at the target when the output is finished.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Replace,
    Keep,
}

/// A temporary file, removed when dropped or by [`crate::temporary::remove_all`].
struct Temporary {
    file: NamedTempFile,
    _registration: Registration,
}

impl Output {
    /// Opens `path`; `None`, `-` and paths such as `/dev/stdout` are standard output. Follows symbolic links.
    ///
    /// An existing regular file is replaced only by [`Output::finish`], with a file of the same owner and mode. It is
    /// overwritten by the first write instead if it has several hard links, if no file can be created in its directory,
    /// or if the new file cannot get the same owner. Any other path, such as a pipe, is written directly. Fails if
    /// `path` can be neither written nor created.
    pub(crate) async fn open(path: Option<&Path>) -> Result<Self, CliError> {
        let path = path.unwrap_or(Path::new("-"));
        if path == Path::new("-") {
            return Ok(Self::stdout(path));
        }
        let failed = |error: io::Error| CliError::at(path, &error);
        let target = resolve_links(path).map_err(failed)?;
        let descriptor = descriptor(&target);
        if descriptor == Some(STDOUT) {
            return Ok(Self::stdout(path));
        }
        // If the path names an open descriptor, such as `/dev/fd/3`, appends: the file may already have content.
        // Opening a pipe waits for its reader, but does not block this thread.
        let opened = tokio::fs::OpenOptions::new().write(true).append(descriptor.is_some()).open(&target).await;
        let mut is_terminal = false;
        let sink = match opened {
            Ok(file) => {
                let file = file.into_std().await;
                is_terminal = file.is_terminal();
                let metadata = file.metadata().map_err(failed)?;
                let is_replaceable = metadata.is_file() && descriptor.is_none();
                match is_replaceable.then(|| replacement(&target, &metadata)).flatten() {
                    Some(temporary) => Sink::Renamed { temporary, target, existing: Existing::Replace },
                    None => Sink::Direct { file: file.into(), is_stale: is_replaceable },
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let temporary = Temporary::beside(&target).map_err(failed)?;
                Sink::Renamed { temporary, target, existing: Existing::Replace }
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { path: path.to_owned(), sink, is_terminal })
    }

    fn stdout(path: &Path) -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self { path: path.to_owned(), sink: Sink::Stdout(tokio::io::stdout()), is_terminal }
    }

    /// Opens a new file. If `path` already exists when [`Output::finish`] is called, `finish` leaves it and fails.
    pub(crate) fn open_new(path: &Path) -> Result<Self, CliError> {
        let temporary = Temporary::beside(path).map_err(|error| CliError::at(path, &error))?;
        let sink = Sink::Renamed { temporary, target: path.to_owned(), existing: Existing::Keep };
        Ok(Self { path: path.to_owned(), sink, is_terminal: false })
    }

    /// Starts a progress bar for writing `bytes` bytes. If the output is a terminal, the bar is hidden, since it would
    /// mix with the text.
    pub(crate) fn progress(&self, label: &str, bytes: Option<u64>) -> Progress {
        if self.is_terminal { Progress::hidden() } else { Progress::start(label, bytes) }
    }

    /// Writes all of `bytes`.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        let failed = |error: io::Error| CliError::at(&self.path, &error);
        match &mut self.sink {
            Sink::Stdout(stdout) => stdout.write_all(bytes).await.map_err(|error| CliError::stdout(&error)),
            Sink::Direct { file, is_stale } => {
                truncate(file, is_stale).await.map_err(failed)?;
                file.write_all(bytes).await.map_err(failed)
            }
            // The error of `NamedTempFile`'s own `write_all` would name the temporary file.
            Sink::Renamed { temporary, .. } => temporary.file.as_file_mut().write_all(bytes).map_err(failed),
        }
    }

    /// Completes the output and returns the output stream for the command's summary. If the output is dropped instead,
    /// no file is created or replaced. Bytes already written to standard output or directly to a path stay written.
    pub(crate) async fn finish(self) -> Result<SummaryStream, CliError> {
        let failed = |error: io::Error| CliError::at(&self.path, &error);
        match self.sink {
            Sink::Stdout(mut stdout) => {
                stdout.flush().await.map_err(|error| CliError::stdout(&error))?;
                return Ok(SummaryStream::Stderr);
            }
            Sink::Direct { mut file, mut is_stale } => {
                truncate(&file, &mut is_stale).await.map_err(failed)?;
                file.flush().await.map_err(failed)?;
            }
            Sink::Renamed { temporary, target, existing } => temporary.rename(&target, existing).map_err(failed)?,
        }
        Ok(SummaryStream::Stdout)
    }
}

impl Temporary {
    /// Creates a file in the directory of `target`, with the default permissions of new files.
    fn beside(target: &Path) -> io::Result<Self> {
        // Unlike the errors of `tempfile_in`, those of `make_in` do not name the temporary file.
        let create = |path: &Path| OpenOptions::new().write(true).create_new(true).open(path);
        let file = tempfile::Builder::new().prefix(".c3-").make_in(directory_of(target), create)?;
        let registration = Registration::of(file.path());
        Ok(Self { file, _registration: registration })
    }

    fn rename(self, target: &Path, existing: Existing) -> io::Result<()> {
        let renamed = match existing {
            Existing::Replace => self.file.persist(target),
            Existing::Keep => self.file.persist_noclobber(target),
        };
        match renamed {
            Ok(_) => Ok(()),
            // The target is a mount point, such as a file that is mounted into a container. It cannot be replaced, only
            // overwritten.
            Err(failed) if existing == Existing::Replace && failed.error.kind() == io::ErrorKind::ResourceBusy => {
                fs::copy(failed.file.path(), target).map(drop)
            }
            Err(failed) => Err(failed.error),
        }
    }
}

/// Returns a temporary file that can replace the regular file at `target`, with the same owner and mode, or `None` if
/// the file has to be overwritten.
#[cfg(unix)]
fn replacement(target: &Path, existing: &Metadata) -> Option<Temporary> {
    use std::os::unix::fs::{MetadataExt, fchown};
    if existing.nlink() > 1 {
        return None;
    }
    let temporary = Temporary::beside(target).ok()?;
    let file = temporary.file.as_file();
    let created = file.metadata().ok()?;
    // Sets the owner before the mode, since a change of owner clears bits of the mode.
    if (created.uid(), created.gid()) != (existing.uid(), existing.gid()) {
        fchown(file, Some(existing.uid()), Some(existing.gid())).ok()?;
    }
    file.set_permissions(existing.permissions()).ok()?;
    Some(temporary)
}

#[cfg(not(unix))]
fn replacement(target: &Path, _: &Metadata) -> Option<Temporary> {
    Temporary::beside(target).ok()
}

/// Removes the old content of a file once.
async fn truncate(file: &tokio::fs::File, is_stale: &mut bool) -> io::Result<()> {
    if std::mem::take(is_stale) { file.set_len(0).await } else { Ok(()) }
}

/// Follows symbolic links. Stops at the first path that names a descriptor of this process, or else at the first that
/// is not a symbolic link, and returns it. The path need not exist.
fn resolve_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match path.read_link() {
            Ok(link) if descriptor(&path).is_none() => path = directory_of(&path).join(link),
            _ => return Ok(path),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// Returns the number of the descriptor of this process that `path` names, such as 3 for `/dev/fd/3`.
fn descriptor(path: &Path) -> Option<u32> {
    let directory = directory_of(path).canonicalize().ok()?;
    let is_same = |own: &str| Path::new(own).canonicalize().is_ok_and(|own| own == directory);
    if !is_same("/dev/fd") && !is_same("/proc/self/fd") {
        return None;
    }
    path.file_name()?.to_str()?.parse().ok()
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn write(path: &Path, text: &str) {
        let mut output = Output::open(Some(path)).await.unwrap();
        output.write(text.as_bytes()).await.unwrap();
        output.finish().await.unwrap();
    }

    #[tokio::test]
    async fn a_file_appears_complete_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        let mut output = Output::open(Some(&path)).await.unwrap();
        output.write(b"half").await.unwrap();
        assert!(!path.exists());
        drop(output);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);

        write(&path, "complete").await;
        assert_eq!(fs::read(&path).unwrap(), b"complete");
    }

    #[tokio::test]
    async fn a_device_is_written_in_place() {
        write(Path::new("/dev/null"), "gone").await;
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }

    #[tokio::test]
    async fn a_new_file_replaces_no_existing_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        let mut output = Output::open_new(&path).unwrap();
        output.write(b"late").await.unwrap();
        fs::write(&path, "first").unwrap();
        assert!(output.finish().await.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }

    #[tokio::test]
    async fn a_path_that_cannot_be_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing/text");
        for (path, says) in [(folder.path(), "directory"), (&missing, "No such file")] {
            let refused = Output::open(Some(path)).await.err().unwrap().to_string();
            assert!(refused.starts_with(&format!("{}: ", path.display())) && refused.contains(says), "{refused}");
            assert!(!refused.contains(".c3-"), "{refused}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_replaced_file_keeps_its_mode() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let inode = path.metadata().unwrap().ino();
        write(&path, "new").await;
        let replaced = path.metadata().unwrap();
        assert_eq!((replaced.mode() & 0o777, replaced.ino() == inode), (0o600, false));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn links_stay_links() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let [path, hard, soft, dangling] = ["text", "hard", "soft", "dangling"].map(|name| folder.path().join(name));
        fs::write(&path, "old and longer").unwrap();
        fs::hard_link(&path, &hard).unwrap();
        symlink("hard", &soft).unwrap();
        symlink("created", &dangling).unwrap();
        drop(Output::open(Some(&soft)).await.unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"old and longer");
        write(&soft, "new").await;
        assert_eq!(fs::read(&path).unwrap(), b"new");
        write(&dangling, "new").await;
        assert_eq!(fs::read(folder.path().join("created")).unwrap(), b"new");
        assert!(soft.is_symlink() && dangling.is_symlink());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_descriptor_is_appended_to() {
        use std::os::fd::AsRawFd;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        fs::write(&path, "old ").unwrap();
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        write(Path::new(&format!("/dev/fd/{}", file.as_raw_fd())), "new").await;
        assert_eq!(fs::read(&path).unwrap(), b"old new");
        assert_eq!(descriptor(&resolve_links(Path::new("/dev/stdout")).unwrap()), Some(STDOUT));
    }
}
