//! Files that a tool may read: those in folders that the user allowed. Symbolic links out of them are not followed.

use std::io;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;

/// Folders whose files may be read. The default has none.
#[derive(Debug, Default)]
pub struct Files(Vec<Folder>);

#[derive(Debug)]
struct Folder {
    /// Absolute path as the user wrote it, and without symbolic links.
    paths: [PathBuf; 2],
    /// Opens only files below the folder, whatever the path or its links say.
    contents: Dir,
}

/// A file or folder cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// An allowed folder cannot be opened.
    #[error("the folder {} cannot be opened: {error}; give a folder whose files the agent may store", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Reason.
        error: io::Error,
    },
    /// No folder is allowed.
    #[error("this server reads no files: give the text itself, or ask the user to allow a folder with `--files DIR`")]
    NoFolders,
    /// The path is in none of the folders.
    #[error("{path} is outside the folders that the user allowed ({allowed}): choose a file in them")]
    Outside {
        /// The path as given.
        path: String,
        /// The folders.
        allowed: String,
    },
    /// The path is no readable file.
    #[error("{path} cannot be read: {reason}")]
    Unreadable {
        /// The path as given.
        path: String,
        /// Reason.
        reason: String,
    },
}

impl Files {
    /// Allows the files in `folders`.
    pub fn open(folders: &[PathBuf]) -> Result<Self, FilesError> {
        let open = |path: &PathBuf| {
            let failed = |error| FilesError::Folder { path: path.clone(), error };
            let contents = Dir::open_ambient_dir(path, ambient_authority()).map_err(failed)?;
            let paths = [std::path::absolute(path).map_err(failed)?, path.canonicalize().map_err(failed)?];
            Ok(Folder { paths, contents })
        };
        Ok(Self(folders.iter().map(open).collect::<Result<_, _>>()?))
    }

    /// True if no file may be read.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Opens a file. A relative `path` is looked up in each folder.
    pub(crate) fn read(&self, path: &str) -> Result<std::fs::File, FilesError> {
        if self.0.is_empty() {
            return Err(FilesError::NoFolders);
        }
        let unreadable = |reason: &dyn std::fmt::Display| FilesError::Unreadable {
            path: path.to_owned(),
            reason: reason.to_string(),
        };
        let mut missing = None;
        for (folder, below) in self.0.iter().filter_map(|folder| Some((folder, folder.below(Path::new(path))?))) {
            let opened = folder.contents.metadata(below).and_then(|metadata| match metadata.is_file() {
                // A pipe or device could block the server.
                true => folder.contents.open(below),
                false => Err(io::Error::other("it is not a file")),
            });
            match opened {
                Ok(file) => return Ok(file.into_std()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing = Some(error),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none() => {
                    return Err(self.outside(path));
                }
                Err(error) => return Err(unreadable(&error)),
            }
        }
        Err(missing.map_or_else(|| self.outside(path), |error| unreadable(&error)))
    }

    fn outside(&self, path: &str) -> FilesError {
        let allowed = Vec::from_iter(self.0.iter().map(|folder| folder.paths[0].display().to_string())).join(", ");
        FilesError::Outside { path: path.to_owned(), allowed }
    }
}

impl Folder {
    /// Returns the path relative to the folder; `None` if it is absolute and does not begin with the folder.
    fn below<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        match path.is_relative() {
            true => Some(path),
            false => self.paths.iter().find_map(|folder| path.strip_prefix(folder).ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_files_below_the_allowed_folders_are_read() {
        let all = tempfile::tempdir().unwrap();
        let (allowed, secret) = (all.path().join("allowed"), all.path().join("secret.txt"));
        std::fs::create_dir_all(allowed.join("deep")).unwrap();
        std::fs::write(&secret, "secret").unwrap();
        std::fs::write(allowed.join("deep/a.txt"), "text").unwrap();
        symlink(&secret, allowed.join("link.txt")).unwrap();
        symlink(all.path(), allowed.join("folder")).unwrap();
        symlink("deep/a.txt", allowed.join("inside.txt")).unwrap();
        let files = Files::open(std::slice::from_ref(&allowed)).unwrap();
        let absolute = allowed.join("deep/a.txt").display().to_string();
        for path in ["deep/a.txt", "inside.txt", "./deep/../deep/a.txt", &absolute] {
            let mut text = String::new();
            files.read(path).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "text", "{path}");
        }
        let outside = secret.display().to_string();
        let climbing = allowed.join("../secret.txt").display().to_string();
        for path in ["link.txt", "folder/secret.txt", "../secret.txt", &outside, "/etc/passwd", &climbing] {
            let error = files.read(path).unwrap_err();
            assert!(matches!(error, FilesError::Outside { .. }), "{path}: {error}");
        }
        for (path, reason) in [("deep", "not a file"), ("none.txt", "No such file"), ("deep/a.txt/b", "directory")] {
            let error = files.read(path).unwrap_err();
            assert!(error.to_string().contains(reason), "{path}: {error}");
        }
        assert!(matches!(Files::open(&[]).unwrap().read("a"), Err(FilesError::NoFolders)));
        assert!(Files::open(&[all.path().join("none")]).is_err());
    }
}
