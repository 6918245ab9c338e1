//! Input texts. This module opens one text, [`discover`] finds the texts of a batch, and [`jsonl`] reads JSON Lines.

pub(crate) mod discover;
mod jsonl;

use std::io::{Cursor, Result as IoResult};
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::AsyncRead;

use crate::error::CliError;

/// Reader of a text's bytes.
pub(crate) type TextReader = Pin<Box<dyn AsyncRead + Send>>;

/// A text that is open for reading.
pub(crate) struct TextInput {
    pub(crate) reader: TextReader,
    /// Size in bytes, if known.
    pub(crate) bytes: Option<u64>,
    /// Source from which a retry reads the text again; `None` if the text can be read only once.
    pub(crate) reopen: Option<Reopen>,
}

/// Source of a text that can be read more than once.
#[derive(Clone)]
pub(crate) enum Reopen {
    File(PathBuf),
    Memory(Bytes),
}

impl TextInput {
    /// Wraps a text in memory.
    pub(crate) fn from_memory(text: String) -> Self {
        let text = Bytes::from(text);
        Self {
            bytes: Some(text.len() as u64),
            reader: Box::pin(Cursor::new(text.clone())),
            reopen: Some(Reopen::Memory(text)),
        }
    }

    /// Opens a file; `-` is standard input.
    pub(crate) async fn open(path: &Path) -> Result<Self, CliError> {
        if path == Path::new("-") {
            return Ok(Self { reader: Box::pin(tokio::io::stdin()), bytes: None, reopen: None });
        }
        let failed = |error| CliError::at(path, &error);
        let file = File::open(path).await.map_err(failed)?;
        let metadata = file.metadata().await.map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()));
        }
        // A path that is no regular file, such as a pipe, has no size and can be read only once.
        let is_file = metadata.is_file();
        Ok(Self {
            reader: Box::pin(file),
            bytes: is_file.then_some(metadata.len()),
            reopen: is_file.then(|| Reopen::File(path.to_owned())),
        })
    }
}

impl Reopen {
    /// Opens the text at its beginning.
    pub(crate) async fn open(self) -> IoResult<TextReader> {
        Ok(match self {
            Self::File(path) => Box::pin(File::open(path).await?),
            Self::Memory(text) => Box::pin(Cursor::new(text)),
        })
    }
}
