//! Input texts. This module opens one text, [`discover`] finds the texts of a batch, and [`jsonl`] reads JSON Lines.

pub(crate) mod discover;
mod jsonl;

use std::io::{Cursor, ErrorKind, Result as IoResult};
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::error::CliError;

/// Maximum size of a regular file that is read completely when it is opened. The size of such a file is counted and not
/// taken from its metadata, which is wrong for files in `/proc` and `/sys`.
const READ_AT_ONCE_BYTES_MAX: usize = 64 << 10;

/// Reader of a text's bytes.
pub(crate) type TextReader = Pin<Box<dyn AsyncRead + Send>>;

/// A text that is open for reading. If a regular file grows after it was opened, the added bytes are not read.
pub(crate) struct TextInput {
    /// Name of the file, or file and line, for error messages.
    pub(crate) name: String,
    pub(crate) reader: TextReader,
    /// Size in bytes, if known.
    pub(crate) bytes: Option<u64>,
    /// True for a regular file.
    pub(crate) is_file: bool,
    /// Source from which a retry reads the text again; `None` if the text can be read only once.
    pub(crate) reopen: Option<Reopen>,
}

/// Source of a text that can be read more than once.
#[derive(Clone)]
pub(crate) enum Reopen {
    /// The first `bytes` bytes of a file.
    File {
        path: PathBuf,
        bytes: u64,
    },
    Memory(Bytes),
}

impl TextInput {
    /// Wraps a text in memory.
    pub(crate) fn from_memory(name: String, text: impl Into<Bytes>) -> Self {
        let text = text.into();
        Self {
            name,
            is_file: false,
            bytes: Some(text.len() as u64),
            reader: Box::pin(Cursor::new(text.clone())),
            reopen: Some(Reopen::Memory(text)),
        }
    }

    fn read_once(name: String, reader: impl AsyncRead + Send + 'static) -> Self {
        Self { name, reader: Box::pin(reader), is_file: false, bytes: None, reopen: None }
    }

    /// Opens a file; `-` is standard input.
    pub(crate) async fn open(path: &Path) -> Result<Self, CliError> {
        let name = display_name(path);
        if path == Path::new("-") {
            return Ok(Self::read_once(name, tokio::io::stdin()));
        }
        Self::open_file(name, path).await.map_err(|error| CliError::at(path, &error))
    }

    async fn open_file(name: String, path: &Path) -> IoResult<Self> {
        let mut file = File::open(path).await?;
        let metadata = file.metadata().await?;
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        // A path that is no regular file, such as a pipe, has no size and can be read only once.
        if !metadata.is_file() {
            return Ok(Self::read_once(name, file));
        }
        let mut start = Vec::new();
        (&mut file).take(READ_AT_ONCE_BYTES_MAX as u64 + 1).read_to_end(&mut start).await?;
        if start.len() <= READ_AT_ONCE_BYTES_MAX {
            return Ok(Self { is_file: true, ..Self::from_memory(name, start) });
        }
        let (bytes, read) = (metadata.len(), start.len() as u64);
        let start = Cursor::new(start);
        // A generated file, such as one in `/proc`, has more bytes than its metadata says.
        let Some(rest) = bytes.checked_sub(read) else {
            return Ok(Self { is_file: true, ..Self::read_once(name, start.chain(file)) });
        };
        let reopen = Some(Reopen::File { path: path.to_owned(), bytes });
        let reader = Box::pin(start.chain(file.take(rest)));
        Ok(Self { name, reader, is_file: true, bytes: Some(bytes), reopen })
    }
}

/// Returns the name of a file for messages; `-` is standard input.
pub(crate) fn display_name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

impl Reopen {
    /// Opens the text at its beginning.
    pub(crate) async fn open(self) -> IoResult<TextReader> {
        Ok(match self {
            Self::File { path, bytes } => Box::pin(File::open(path).await?.take(bytes)),
            Self::Memory(text) => Box::pin(Cursor::new(text)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    async fn read(mut reader: TextReader) -> Vec<u8> {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_growing_file_has_the_size_that_it_had_when_it_was_opened() {
        for bytes in [0, 10, READ_AT_ONCE_BYTES_MAX, READ_AT_ONCE_BYTES_MAX + 1, 3 * READ_AT_ONCE_BYTES_MAX] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            let text = vec![b'x'; bytes];
            file.write_all(&text).unwrap();
            let input = TextInput::open(file.path()).await.unwrap();
            file.write_all(b"more").unwrap();
            assert!(read(input.reader).await == text, "{bytes}");
            if let Some(again) = input.reopen {
                assert_eq!(input.bytes, Some(bytes as u64));
                assert!(read(again.open().await.unwrap()).await == text, "{bytes} again");
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_generated_file_is_read_to_its_end() {
        let input = TextInput::open(Path::new("/proc/self/status")).await.unwrap();
        let text = read(input.reader).await;
        assert!(!text.is_empty());
        assert_eq!(input.bytes, Some(text.len() as u64));
    }
}
