//! Removal of temporary files that killed gateways left in a local folder.
//!
//! `object_store` writes a new object to `KEY#NUMBER`, then links that file to `KEY`. Listings ignore such files.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Minimum age of a removed file, even if the grace period is shorter: a gateway may still be writing a younger one. A
/// write takes seconds even on a slow disk. If its file is removed nevertheless, it fails and is not acknowledged.
const WRITE_MAX: Duration = Duration::from_secs(600);

/// Removes temporary files older than both `grace` and [`WRITE_MAX`]. Returns their number and total size in bytes.
pub(crate) fn remove_stale(folder: &Path, grace: Duration) -> io::Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in if_exists(fs::read_dir(&folder))?.into_iter().flatten() {
            let entry = entry?;
            let Some(metadata) = if_exists(entry.metadata())? else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if is_temp_file(&entry.file_name()) && is_older_than(&metadata, grace.max(WRITE_MAX))? {
                if_exists(fs::remove_file(entry.path()))?;
                (files, bytes) = (files + 1, bytes + metadata.len());
            }
        }
    }
    Ok((files, bytes))
}

/// Returns whether the part of a file name after its first `#` is a number.
fn is_temp_file(name: &OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.split_once('#')).map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
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
    use std::path::PathBuf;

    use super::*;

    fn write(path: PathBuf, age: Duration) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = fs::File::create(&path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
        path
    }

    #[test]
    fn only_stale_temporary_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join("latents/ab").join(name);
        let hour = Duration::from_secs(3600);
        let left = [write(at("object#1"), hour), write(at("object#12"), hour)];
        let stay = [
            write(at("object"), hour),
            write(at("object#"), hour),
            write(at("object#1x"), hour),
            write(at("other#1"), Duration::from_secs(60)),
        ];
        assert_eq!(remove_stale(folder.path(), hour * 2).unwrap(), (0, 0));
        assert_eq!(remove_stale(folder.path(), Duration::ZERO).unwrap(), (2, 0));
        assert!(left.iter().all(|path| !path.exists()) && stay.iter().all(|path| path.exists()));
        assert_eq!(remove_stale(&at("no folder"), Duration::ZERO).unwrap(), (0, 0));
    }
}
