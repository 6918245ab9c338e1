//! Reserve of a local folder: space that only deletes and garbage collection may use once the disk is full.
//!
//! A delete writes a tombstone, so without a reserve nothing could be deleted from a full disk. The reserve consists of
//! files. A delete that finds no space removes them one by one. While files are missing, every other write first
//! creates them again, and fails if there is not enough space.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::object::layout::META;

/// Name of the reserve's folder in [`META`].
const FOLDER: &str = "reserve";
/// Number of files. Each also reserves an inode, because a file system can run out of inodes too.
const FILES: usize = 64;
/// Size of each file. All files together are as large as the 256 subfolders of tombstones, at one 4 KiB block each. A
/// tombstone itself takes no more space than the manifest that is deleted with it.
const FILE_BYTES: usize = 16 << 10;

/// The reserve of a local folder.
pub(crate) struct Reserve(PathBuf);

impl Reserve {
    /// Creates a handle on the reserve of the store at `root`. Writes nothing.
    pub(crate) fn new(root: &Path) -> Self {
        Self(root.join(META).join(FOLDER))
    }

    /// Writes the missing files. Fails, and keeps the files that it wrote, if there is not enough space for all.
    pub(crate) fn fill(&self) -> io::Result<()> {
        // Files are written from the first to the last, and removed from the last to the first. So the last one is
        // missing unless the reserve is full.
        if self.file(FILES - 1).try_exists()? {
            return Ok(());
        }
        // The root is never created: if it is missing, the disk that contains it may have been unmounted.
        for folder in self.0.parent().into_iter().chain([self.0.as_path()]) {
            match fs::create_dir(folder) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        // Random bytes take up their full size even if the file system compresses files.
        let mut bytes = vec![0; FILE_BYTES];
        fastrand::fill(&mut bytes);
        for file in (0..FILES).map(|number| self.file(number)) {
            if !file.try_exists()? {
                fs::write(&file, &bytes).or_else(|error| fs::remove_file(&file).and(Err(error)))?;
            }
        }
        Ok(())
    }

    /// Removes a file, so that its space can be used. Returns false if there is none.
    pub(crate) fn release(&self) -> io::Result<bool> {
        for file in (0..FILES).rev().map(|number| self.file(number)) {
            match fs::remove_file(file) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn file(&self, number: usize) -> PathBuf {
        self.0.join(number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_released_file_by_file_and_filled_again() {
        let folder = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(folder.path());
        let files = || fs::read_dir(&reserve.0).unwrap().count();
        assert!(!reserve.release().unwrap());
        reserve.fill().unwrap();
        assert_eq!((files(), fs::metadata(reserve.file(0)).unwrap().len()), (FILES, FILE_BYTES as u64));
        for left in (0..FILES).rev() {
            assert!(reserve.release().unwrap());
            assert_eq!(files(), left);
        }
        assert!(!reserve.release().unwrap());
        reserve.fill().unwrap();
        assert_eq!(files(), FILES);
    }

    #[test]
    fn a_reserve_never_creates_its_store() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        assert_eq!(Reserve::new(&gone).fill().unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!gone.exists());
    }
}
