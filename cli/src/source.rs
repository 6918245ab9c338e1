//! A text to read: a file, or standard input.

use std::io::{Cursor, Result as IoResult};
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::AsyncRead;

use crate::failure::Failure;

/// The bytes of a text, as they are read.
pub(crate) type Reader = Pin<Box<dyn AsyncRead + Send>>;

/// A text to read.
pub(crate) struct Source {
    /// The bytes.
    pub(crate) text: Reader,
    /// How many, where that is known.
    pub(crate) bytes: Option<u64>,
    /// Where they can be had again.
    pub(crate) lasting: Option<Lasting>,
}

/// A text that can be read more than once.
#[derive(Clone)]
pub(crate) enum Lasting {
    File(PathBuf),
    Memory(Bytes),
}

impl Source {
    /// A text in memory.
    pub(crate) fn of(text: String) -> Self {
        let text = Bytes::from(text);
        Self {
            bytes: Some(text.len() as u64),
            text: Box::pin(Cursor::new(text.clone())),
            lasting: Some(Lasting::Memory(text)),
        }
    }

    /// Opens a file; `-` is standard input.
    pub(crate) async fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self { text: Box::pin(tokio::io::stdin()), bytes: None, lasting: None });
        }
        let failed = |error| Failure::at(path, &error);
        let file = File::open(path).await.map_err(failed)?;
        let metadata = file.metadata().await.map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()));
        }
        let is_file = metadata.is_file();
        Ok(Self {
            text: Box::pin(file),
            bytes: is_file.then_some(metadata.len()),
            lasting: is_file.then(|| Lasting::File(path.to_owned())),
        })
    }
}

impl Lasting {
    /// The text from its beginning.
    pub(crate) async fn open(self) -> IoResult<Reader> {
        Ok(match self {
            Self::File(path) => Box::pin(File::open(path).await?),
            Self::Memory(text) => Box::pin(Cursor::new(text)),
        })
    }
}
