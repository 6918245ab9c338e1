//! A text to read: a file, or standard input.

use std::io::Cursor;
use std::path::Path;
use std::pin::Pin;

use tokio::io::AsyncRead;

use crate::failure::Failure;

/// A text to read.
pub(crate) struct Source {
    /// The bytes.
    pub(crate) text: Pin<Box<dyn AsyncRead + Send>>,
    /// How many, where that is known.
    pub(crate) bytes: Option<u64>,
}

impl Source {
    /// A text in memory.
    pub(crate) fn of(text: String) -> Self {
        let bytes = Some(text.len() as u64);
        Self { text: Box::pin(Cursor::new(text.into_bytes())), bytes }
    }

    /// Opens a file; `-` is standard input.
    pub(crate) async fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self { text: Box::pin(tokio::io::stdin()), bytes: None });
        }
        let failed = |error| Failure::at(path, &error);
        let file = tokio::fs::File::open(path).await.map_err(failed)?;
        let metadata = file.metadata().await.map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()));
        }
        Ok(Self { text: Box::pin(file), bytes: metadata.is_file().then_some(metadata.len()) })
    }
}
