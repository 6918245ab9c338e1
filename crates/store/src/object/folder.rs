//! Local folder of a store. Lists the store's files, removes the temporary files of killed gateways, counts foreign
//! entries, and checks before a write that the store is still there and that the disk has space.
//!
//! The functions block. Callers run them on tokio's thread pool for blocking work.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use object_store::path::Path;

use crate::Error;
use crate::object::Survey;
use crate::object::identity::Identity;
use crate::object::reserve::Reserve;
use crate::object::walk::{Entry, Walk};

/// Minimum age at which a temporary file is removed, even if the grace period is shorter: a gateway may still be
/// writing a younger file. Even on a slow disk, a write takes only seconds. A write that takes longer and loses its
/// file fails and is not acknowledged.
const WRITE_MAX: Duration = Duration::from_secs(600);

/// Local folder of an open store.
pub(crate) struct Folder {
    root: PathBuf,
    /// `None` if the disk was full when the store was opened, so that no identity could be written. Tenants share the
    /// identity of the store that contains them.
    identity: Option<Arc<Identity>>,
    reserve: Arc<Reserve>,
}

impl Folder {
    /// Opens the folder of a store. Fills the reserve if there is enough space.
    pub(crate) fn open(root: PathBuf, identity: Option<Bytes>) -> Self {
        let identity = identity.map(|id| Arc::new(Identity::new(&root, id)));
        let folder = Self { identity, reserve: Arc::new(Reserve::new(&root)), root };
        folder.try_fill_reserve();
        folder
    }

    /// Returns the folder at a path below this one, with the identity and the reserve of this one. It need not exist.
    pub(crate) fn below(&self, path: &Path) -> Self {
        let (identity, reserve) = (self.identity.clone(), Arc::clone(&self.reserve));
        Self { root: self.root.join(path.as_ref()), identity, reserve }
    }

    /// Returns the path of the folder.
    pub(crate) fn root(&self) -> &FsPath {
        &self.root
    }

    /// Fails unless the folder still contains the store that was opened.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.identity.as_ref().map_or(Ok(()), |identity| identity.check())
    }

    /// Fails if the disk is too full for a write that may not use the reserve.
    pub(crate) fn check_space(&self) -> Result<(), Error> {
        match self.reserve.fill().map_err(Error::from_io) {
            Err(error) if error.is_full() => Err(error),
            // The write itself reports any other fault.
            _ => Ok(()),
        }
    }

    /// Frees a part of the reserve, so that a write that may use it finds space. Returns false if the reserve is used
    /// up.
    pub(crate) fn release_reserve(&self) -> Result<bool, Error> {
        self.reserve.release().map_err(Error::from_io)
    }

    /// Fills the reserve. Logs a warning if there is not enough space.
    pub(crate) fn try_fill_reserve(&self) {
        if let Err(error) = self.reserve.fill() {
            tracing::warn!(%error, "no space is reserved for deletes: free space on the disk");
        }
    }

    /// Starts a walk through a folder of the store. Skips objects up to and including the path `after`.
    pub(crate) fn walk(&self, folder: &Path, after: &Path) -> Walk {
        Walk::new(&self.root, folder, after)
    }

    /// Removes temporary files that are older than both `grace` and [`WRITE_MAX`]. Returns their number and total
    /// bytes.
    pub(crate) fn remove_stale(&self, grace: Duration) -> io::Result<(u64, u64)> {
        let (mut files, mut bytes) = (0, 0);
        for entry in self.walk(&Path::ROOT, &Path::ROOT) {
            let Entry::Temporary(entry) = entry? else { continue };
            let Some(metadata) = if_exists(fs::metadata(entry.path()))? else { continue };
            if is_older_than(&metadata, grace.max(WRITE_MAX))? {
                if_exists(fs::remove_file(entry.path()))?;
                (files, bytes) = (files + 1, bytes + metadata.len());
            }
        }
        Ok((files, bytes))
    }

    /// Measures the objects, and counts the foreign entries at the root and in the store's folders.
    pub(crate) fn survey(&self) -> io::Result<Survey> {
        let mut survey = Survey::default();
        for entry in self.walk(&Path::ROOT, &Path::ROOT) {
            match entry? {
                Entry::Object(object) => survey.objects.add(object.size),
                Entry::Temporary(_) => {}
                Entry::Foreign => survey.foreign += 1,
            }
        }
        Ok(survey)
    }
}

/// Returns whether a file was last modified at least `age` ago. Returns false if that time is in the future.
fn is_older_than(metadata: &Metadata, age: Duration) -> io::Result<bool> {
    let since = SystemTime::now().duration_since(metadata.modified()?);
    Ok(since.is_ok_and(|since| since >= age))
}

/// Turns "not found" into `None`: other gateways may remove or link files concurrently.
fn if_exists<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use c3_types::DocumentId;

    use super::*;
    use crate::object::key;
    use crate::object::version::Version;

    fn write(path: PathBuf, age: Duration) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = fs::File::create(&path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
        path
    }

    #[test]
    fn only_stale_temporary_files_of_the_store_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path().to_owned(), None);
        let key = key::manifest(DocumentId::of(b"text"), Version::after(Version::NONE)).to_string();
        let at = |name: &str| root.path().join(name);
        let hour = Duration::from_secs(3600);
        let left = [write(at(&format!("{key}#1")), hour), write(at(&format!("{key}#12")), hour)];
        let stay = [
            write(at(&key), hour),
            write(at(&format!("{key}#")), hour),
            write(at(&format!("{key}#1x")), hour),
            write(at(&format!("{key}#2")), Duration::from_secs(60)),
            write(at("documents/ab/track#1"), hour),
            write(at("mine/track#1"), hour),
            write(at("probe"), hour),
        ];
        assert_eq!(folder.remove_stale(hour * 2).unwrap(), (0, 0));
        assert_eq!(folder.remove_stale(Duration::ZERO).unwrap(), (2, 0));
        assert!(left.iter().all(|path| !path.exists()) && stay.iter().all(|path| path.exists()));
    }

    #[cfg(unix)]
    #[test]
    fn foreign_entries_are_counted_and_not_entered() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::symlink;

        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path().to_owned(), None);
        let key = key::manifest(DocumentId::of(b"text"), Version::after(Version::NONE));
        let file = write(root.path().join(key.to_string()), Duration::ZERO);
        assert_eq!(folder.survey().unwrap().foreign, 0);
        let inside = file.parent().unwrap();
        symlink("..", inside.join("loop")).unwrap();
        symlink("self", inside.join("self")).unwrap();
        symlink(inside, root.path().join("documents/zz")).unwrap();
        write(inside.join(OsStr::from_bytes(b"\xff")), Duration::ZERO);
        write(inside.join("line\nbreak"), Duration::ZERO);
        write(inside.join(format!("._{}", file.file_name().unwrap().display())), Duration::ZERO);
        write(root.path().join("lost+found/a/b"), Duration::ZERO);
        fs::create_dir_all(root.path().join("latents/lost+found/c")).unwrap();
        assert_eq!(folder.survey().unwrap().foreign, 8);

        let documents = Path::from(key::DOCUMENTS);
        let entries = folder.walk(&documents, &documents).map(Result::unwrap);
        let objects = entries.filter_map(|entry| match entry {
            Entry::Object(object) => Some(object.location),
            _ => None,
        });
        assert_eq!(Vec::from_iter(objects), [key.path().clone()]);
    }
}
