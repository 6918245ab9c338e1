//! Files of a checkpoint, in a folder or embedded in the program.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use crate::Error;
use crate::checkpoint::Source;

pub(crate) trait ReadSeek: Read + Seek + Send + Sync {}

impl<T: Read + Seek + Send + Sync> ReadSeek for T {}

/// Files of a checkpoint, addressed by their path relative to the checkpoint's folder.
pub(crate) enum Files {
    Folder(PathBuf),
    Embedded(Vec<(&'static str, &'static [u8])>),
}

impl Files {
    pub(crate) fn open(source: Source<'_>) -> Result<Self, Error> {
        match source {
            Source::Embedded(files) => Ok(Self::Embedded(files.to_vec())),
            Source::Folder(folder) if folder.is_dir() => Ok(Self::Folder(folder.to_path_buf())),
            Source::Folder(folder) => Err(Error::checkpoint(format!(
                "{} is not a folder: name the folder that contains the model's files",
                folder.display()
            ))),
        }
    }

    /// Returns the default name of the cascade: the name of the folder, or `embedded`.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Folder(folder) => {
                let whole = folder.canonicalize().unwrap_or_else(|_| folder.clone());
                whole.file_name().unwrap_or_default().to_string_lossy().into_owned()
            }
            Self::Embedded(_) => "embedded".into(),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(name).is_file(),
            Self::Embedded(files) => files.iter().any(|(file, _)| *file == name),
        }
    }

    /// Lists the `*.safetensors` files directly in `folder` (empty: the checkpoint's folder), sorted by name. The list
    /// is empty if the folder cannot be read or the files are embedded.
    pub(crate) fn safetensors(&self, folder: &str) -> Vec<String> {
        let Self::Folder(root) = self else { return Vec::new() };
        let Ok(entries) = root.join(folder).read_dir() else { return Vec::new() };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names
            .filter(|name| name.ends_with(".safetensors"))
            .map(|name| if folder.is_empty() { name } else { format!("{folder}/{name}") })
            .collect();
        names.sort();
        names
    }

    /// Returns the path of a file, or `None` if the files are embedded.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        match self {
            Self::Folder(folder) => Some(folder.join(name)),
            Self::Embedded(_) => None,
        }
    }

    pub(crate) fn read(&self, name: &str) -> Result<Cow<'static, [u8]>, Error> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                std::fs::read(&path).map(Cow::Owned).map_err(|error| unreadable(&path, &error))
            }
            Self::Embedded(_) => self.embedded(name).map(Cow::Borrowed),
        }
    }

    /// Opens a file for reading in pieces.
    pub(crate) fn reader(&self, name: &str) -> Result<Box<dyn ReadSeek>, Error> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                let file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
                Ok(Box::new(BufReader::with_capacity(1 << 20, file)))
            }
            Self::Embedded(_) => Ok(Box::new(Cursor::new(self.embedded(name)?))),
        }
    }

    /// Returns the BLAKE3 hash of a file.
    pub(crate) fn hash(&self, name: &str) -> Result<blake3::Hash, Error> {
        let mut hasher = blake3::Hasher::new();
        let hashed = hasher.update_reader(self.reader(name)?);
        hashed.map_err(|error| unreadable(Path::new(name), &error))?;
        Ok(hasher.finalize())
    }

    fn embedded(&self, name: &str) -> Result<&'static [u8], Error> {
        let Self::Embedded(files) = self else { return Err(missing(Path::new(name))) };
        let file = files.iter().find(|(file, _)| *file == name);
        file.map(|(_, bytes)| *bytes).ok_or_else(|| missing(Path::new(name)))
    }
}

/// Reads one tensor of a safetensors file whose contents are `bytes`. Errors mention the name `file`.
pub(crate) fn tensor(bytes: &[u8], file: &str, name: &str) -> Result<Tensor, Error> {
    let mut tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu)?;
    tensors.remove(name).ok_or_else(|| {
        Error::checkpoint(format!("{file} has no tensor {name}: use the file that came with the checkpoint"))
    })
}

fn missing(path: &Path) -> Error {
    Error::checkpoint(format!("model file {} is missing: copy it to this path", path.display()))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => missing(path),
        _ => Error::checkpoint(format!("model file {} cannot be read: {error}", path.display())),
    }
}
