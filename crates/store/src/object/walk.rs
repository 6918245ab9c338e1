//! Walks through a local folder, and tells the store's files from foreign entries, which belong to other programs.
//!
//! `object_store` assumes that every entry is an object, so its listings fail at a symlink loop, a name that is not
//! UTF-8, or an unreadable folder. This walk does not enter foreign folders. An error in one of the store's own folders
//! is never skipped: garbage collection would treat a document that was not listed as deleted.

use std::io::{self, ErrorKind};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use object_store::ObjectMeta;
use object_store::path::Path;
use walkdir::{DirEntry, WalkDir};

use crate::encryption::ring::Ring;
use crate::object::layout::PathKind;
use crate::object::realm::Realm;

/// Entry below a folder of the store.
#[derive(Debug)]
pub(crate) enum Entry {
    /// An object. The location is its key.
    Object(Realm, ObjectMeta),
    /// A file `KEY#NUMBER`, to which `object_store` writes a new object before it links that file to `KEY`.
    Temporary(DirEntry),
    /// An entry of another program. A foreign folder counts as one entry, whatever it contains.
    Foreign,
}

/// Iterator over the entries in a folder and its subfolders. Empty if the folder does not exist.
pub(crate) struct Walk {
    root: PathBuf,
    ring: Arc<Ring>,
    entries: walkdir::IntoIter,
}

impl Walk {
    /// Walks through the folder at the path `folder` in the store at `root`. `ring` finds the keys of the objects.
    pub(crate) fn new(root: &FsPath, folder: &Path, ring: Arc<Ring>) -> Self {
        // Symbolic links are followed, since operators may move parts of a store to other disks.
        let entries = WalkDir::new(root.join(folder.as_ref())).min_depth(1).follow_links(true);
        Self { root: root.to_owned(), ring, entries: entries.into_iter() }
    }

    fn entry(&mut self, entry: DirEntry) -> io::Result<Option<Entry>> {
        let (path, file_type) = (self.path(entry.path()), entry.file_type());
        let located = path.as_ref().map(|path| self.ring.locate(path));
        let (kind, realm, key) = located.unwrap_or((PathKind::Foreign, Realm::Plain, None));
        match (key, kind) {
            (_, PathKind::Folder) if file_type.is_dir() => Ok(None),
            (_, PathKind::Meta) => {
                if file_type.is_dir() {
                    self.entries.skip_current_dir();
                }
                Ok(None)
            }
            (Some(key), PathKind::Object) if file_type.is_file() => object(&entry, realm, key),
            _ if file_type.is_file() && path.is_some_and(|path| self.is_temporary(&path)) => {
                Ok(Some(Entry::Temporary(entry)))
            }
            _ => {
                if file_type.is_dir() {
                    self.entries.skip_current_dir();
                }
                Ok(Some(Entry::Foreign))
            }
        }
    }

    fn failed(&self, error: walkdir::Error) -> io::Result<Option<Entry>> {
        let path = error.path().map(|path| self.path(path));
        let is_foreign =
            path.is_some_and(|path| path.is_none_or(|path| self.ring.locate(&path).0 == PathKind::Foreign));
        match error.io_error().map(io::Error::kind) {
            _ if is_foreign => Ok(Some(Entry::Foreign)),
            // A loop of symbolic links, which walkdir reports and does not enter.
            None => Ok(Some(Entry::Foreign)),
            // The walked folder does not exist, or the entry was removed after it was listed.
            Some(ErrorKind::NotFound) => Ok(None),
            Some(_) => Err(error.into()),
        }
    }

    /// Returns the path below the root; `None` if it cannot be a key.
    fn path(&self, path: &FsPath) -> Option<Path> {
        let below = path.strip_prefix(&self.root).ok()?;
        let parts = below.iter().map(|part| part.to_str()).collect::<Option<Vec<_>>>()?;
        Path::parse(parts.join("/")).ok()
    }

    /// Returns whether a path consists of an object's path, `#` and a number.
    fn is_temporary(&self, path: &Path) -> bool {
        let Some((object, number)) = path.as_ref().rsplit_once('#') else { return false };
        let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
        is_number && Path::parse(object).is_ok_and(|object| self.ring.locate(&object).0 == PathKind::Object)
    }
}

impl Iterator for Walk {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let found = match self.entries.next()? {
                Ok(entry) => self.entry(entry),
                Err(error) => self.failed(error),
            };
            if let Some(found) = found.transpose() {
                return Some(found);
            }
        }
    }
}

fn object(entry: &DirEntry, realm: Realm, location: Path) -> io::Result<Option<Entry>> {
    let metadata = match entry.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.io_error().is_some_and(|error| error.kind() == ErrorKind::NotFound) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let last_modified = metadata.modified()?.into();
    let object = ObjectMeta { location, last_modified, size: metadata.len(), e_tag: None, version: None };
    Ok(Some(Entry::Object(realm, object)))
}
